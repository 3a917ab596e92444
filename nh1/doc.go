// Package nh1 signs and verifies the NH1 shared-secret headers with which a
// device of the NervesHub protocol proves, in its WebSocket upgrade, that it
// knows a secret: a token as Plug.Crypto signs it, keyed by PBKDF2 over a salt
// made of the other headers.
//
// The device library link signs, the server verifies. The package imports the
// standard library only.
package nh1
