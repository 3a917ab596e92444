// Package gateway is the server's end of devices: it answers their WebSocket
// upgrades, authenticates them, speaks the NervesHub device protocol with
// them, and keeps the store, the bus and the rollout engine informed of who is
// there and what was said.
//
// A device is idle nearly always, so an idle connection must cost little: one
// goroutine with a small stack that reads frames straight from the connection,
// and no timer, channel, context, buffer or logger of its own. Each message is
// handled on a goroutine that lives as long as the message. What changes is
// written in batches for all devices together.
//
// Devices of the field do not survive some frames that are legal elsewhere.
// The gateway never sends a ping, never replies to an ordinary push, and says
// nothing before the device has spoken.
package gateway
