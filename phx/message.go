package phx

import "time"

// Topics of the NervesHub device protocol. Device pushes use exactly these
// names; there is no suffix with an id.
const (
	TopicPhoenix    = "phoenix" // heartbeats
	TopicDevice     = "device"
	TopicConsole    = "console"
	TopicExtensions = "extensions"
)

// Events of the channel protocol itself.
const (
	EventJoin      = "phx_join"
	EventLeave     = "phx_leave"
	EventReply     = "phx_reply"
	EventError     = "phx_error"
	EventClose     = "phx_close"
	EventHeartbeat = "heartbeat"
)

// Events on TopicDevice that the server sends.
const (
	EventUpdate            = "update"
	EventFwupPublicKeys    = "fwup_public_keys"
	EventArchivePublicKeys = "archive_public_keys"
	EventArchive           = "archive"
	EventReboot            = "reboot"
	EventIdentify          = "identify"
	EventScriptsRun        = "scripts/run" // both ways
	EventExtensionsGet     = "extensions:get"
)

// Events on TopicDevice that the device sends.
const (
	EventFwupProgress           = "fwup_progress"
	EventUpdateProgress         = "update_progress"
	EventStatusUpdate           = "status_update"
	EventFirmwareValidated      = "firmware_validated"
	EventRebooting              = "rebooting"
	EventReportNetworkInterface = "report_network_interface"
	EventConnectionTypes        = "connection_types"
)

// Statuses of a reply. Devices accept no other.
const (
	StatusOK    = "ok"
	StatusError = "error"
)

// Times the protocol's parties agree on.
const (
	HeartbeatInterval = 30 * time.Second  // how often a client sends a heartbeat
	IdleTimeout       = 180 * time.Second // a server hangs up after this much silence
	RejoinAfter       = 5 * time.Second   // a client waits this long after a refused join or a crashed channel
)

// Limits, checked before anything is decoded.
const (
	MaxFrame = 10_000_000 // bytes of one frame
	MaxName  = 255        // bytes of a reference, topic, event or status; what a binary frame can hold
	MaxDepth = 64         // nesting of arrays and objects, the envelope included
)

// Message is one message of a channel, in either direction.
//
// References are decimal numbers in text, chosen by the client. An empty
// JoinRef or Ref stands for null on the wire.
type Message struct {
	JoinRef string // the reference of the join this message belongs to
	Ref     string // set when the sender wants, or gives, a reply
	Topic   string
	Event   string
	Status  string // of a binary reply of version 2.0.0 only; others have it in Payload
	Payload []byte // JSON text, or any bytes when Binary; decoded messages share the frame's memory
	Binary  bool
}
