package fleet

import (
	"encoding/json"
	"time"
)

// Events are hints sent over the bus after the truth was committed. A lost
// one costs latency, never correctness.

// Change tells that tenant data changed.
type Change struct {
	Seq       int64  `json:"seq"` // id of the audit row; 0 for ledger and presence changes
	OrgID     int64  `json:"org"`
	ProductID int64  `json:"product,omitempty"`
	Noun      string `json:"noun"`             // "device", "deployment_group", "update_attempt", …
	ID        int64  `json:"id,omitempty"`     // of the noun
	GroupID   int64  `json:"group,omitempty"`  // the deployment group concerned
	Action    string `json:"action,omitempty"` // as AuditEvent.Action
}

// Progress tells how far a device is with an attempt. It is not stored at
// this rate; the ledger keeps the state.
type Progress struct {
	OrgID     int64        `json:"org"`
	ProductID int64        `json:"product"`
	DeviceID  int64        `json:"device"`
	AttemptID int64        `json:"attempt"`
	GroupID   int64        `json:"group"`
	State     AttemptState `json:"state"`
	Percent   int          `json:"percent"`
}

// Presence tells that a device came or went.
type Presence struct {
	OrgID      int64            `json:"org"`
	ProductID  int64            `json:"product"`
	DeviceID   int64            `json:"device"`
	GroupID    int64            `json:"group,omitempty"`
	Identifier string           `json:"identifier"`
	Status     ConnectionStatus `json:"status"`
}

// Kinds of telemetry, as a TelemetryHint names them.
const (
	TelemetryHealth          = "health" // with metrics and alarms
	TelemetryLogs            = "logs"
	TelemetryLocation        = "location"
	TelemetryNetworkIdentity = "network_identity"
	TelemetryConnections     = "connections"
)

// TelemetryHint tells that something a device told about itself was stored.
type TelemetryHint struct {
	OrgID     int64    `json:"org"`
	ProductID int64    `json:"product"`
	DeviceID  int64    `json:"device"`
	Kinds     []string `json:"kinds"`
}

// DeviceMessage is a push for devices, addressed to the node that holds them.
// Every device gets the same event and payload.
type DeviceMessage struct {
	Devices []int64         `json:"devices"` // at most 1,000
	Event   string          `json:"event"`   // "update", "reboot", "identify"; "disconnect" closes the socket
	Payload json.RawMessage `json:"payload,omitempty"`
}

// ReportKind says what a device told.
type ReportKind string

// What devices tell.
const (
	ReportJoined       ReportKind = "joined"       // joined the device topic; the store already knows
	ReportStatus       ReportKind = "status"       // status_update
	ReportProgress     ReportKind = "progress"     // fwup_progress
	ReportValidated    ReportKind = "validated"    // firmware_validated
	ReportDisconnected ReportKind = "disconnected" // the connection ended
	ReportPolled       ReportKind = "polled"       // asked for updates without a connection; the store already knows
)

// DeviceReport is what a device told, on its way from the gateway to the
// rollout engine of the same node.
type DeviceReport struct {
	Kind      ReportKind `json:"kind"`
	OrgID     int64      `json:"org"`
	ProductID int64      `json:"product"`
	DeviceID  int64      `json:"device"`
	At        time.Time  `json:"at"`

	RunningUUID     string           `json:"running,omitempty"`     // joined, polled: firmware it runs
	DownloadingUUID string           `json:"downloading,omitempty"` // joined: currently_downloading_uuid
	Validation      ValidationStatus `json:"validation,omitempty"`  // joined
	AutoReverted    bool             `json:"reverted,omitempty"`    // joined

	Status  string `json:"status,omitempty"`  // status: received, started, completed, failed, ignored, rescheduled, …
	Reason  string `json:"reason,omitempty"`  // status
	Delay   int    `json:"delay,omitempty"`   // status rescheduled: minutes
	Stage   string `json:"stage,omitempty"`   // progress: downloading, updating, or ""
	Percent int    `json:"percent,omitempty"` // progress
}
