// Package pki makes, reads and checks certificates: the server's own authority
// and certificate, the TLS policy of the device listener, and the facts about
// device and CA certificates by which devices are recognised.
//
// It is a mechanism: which certificate belongs to which device is decided in
// control. It imports fleet and no other package of ours; control, gateway and
// app import it.
package pki
