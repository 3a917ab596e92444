// Package bus carries messages between the parts of a node and between nodes:
// hints that tenant data changed, progress and presence for those who watch,
// pushes for devices on the node that holds them, and what devices report.
//
// It speaks NATS: a server inside the process without a listening port, or an
// outside cluster. Messages are hints; the truth is in the store, so a lost
// one costs latency only.
//
// Every package that must tell another one something uses it. It imports
// fleet only, never another mechanism, and no other package imports NATS.
package bus
