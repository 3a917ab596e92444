// Package phx speaks the Phoenix channel protocol, versions 2.0.0 and 3.0.0, as
// devices and servers of the NervesHub device protocol use it: messages, their
// JSON text frames, binary frames and MessagePack frames, version negotiation,
// and the state a client keeps for one connection.
//
// The package does no I/O and starts no goroutine; it turns bytes into values
// and back. Decoders check sizes first and never panic, whatever they read.
// The server's gateway and the device library link import it. It imports the
// standard library only.
package phx
