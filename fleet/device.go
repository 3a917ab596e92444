package fleet

import "time"

// ValidationStatus says whether a device has marked its running firmware good.
type ValidationStatus string

// The validation states. An old device that does not report is Unknown and
// may still be updated; NotValidated may not.
const (
	ValidationUnknown ValidationStatus = "unknown"
	Validated         ValidationStatus = "validated"
	NotValidated      ValidationStatus = "not_validated"
)

// Admission says whether a device that proved who it is may connect.
type Admission string

// The admissions.
const (
	Admitted    Admission = "admitted"
	Pending     Admission = "pending"     // registered itself and waits for an operator's approval
	Quarantined Admission = "quarantined" // two units share its identity, or an operator locked it out
)

// Device is one unit in the field.
type Device struct {
	ID              int64
	UUID            string
	OrgID           int64
	ProductID       int64
	Identifier      string // unique within the org; 1 to 255 bytes
	Description     string
	Tags            []string
	GroupID         int64 // the deployment group it belongs to; 0: none
	Firmware        *FirmwareMetadata
	Validation      ValidationStatus
	AutoReverted    bool // the device fell back to the firmware before
	APIVersion      string
	FwupVersion     string
	UpdatesEnabled  bool
	BlockedUntil    time.Time    // in the penalty box until then; zero: not
	Failures        int          // failed attempts since the last success
	Penalties       int          // times in the penalty box since the last success; the back-off grows with it
	FirstSeenAt     time.Time    // zero: never connected
	ExtensionsOff   ExtensionSet // switched off for this device although its product has them
	ConnectingCode  string       // run by the device whenever it connects; after its group's
	Admission       Admission
	AdmissionReason string    // why it is not admitted, for people
	FlappingSince   time.Time // it makes too many connections; see FlappingWindow. zero: it does not
	CreatedAt       time.Time
	UpdatedAt       time.Time

	Connection Connection     // filled by reads; zero Status means never seen
	Attempt    *UpdateAttempt // filled by lists: the open attempt, if any
	GroupName  string         // filled by reads
}

// Blocked reports whether the device is in the penalty box at now.
func (d Device) Blocked(now time.Time) bool { return d.BlockedUntil.After(now) }

// FirmwareMetadata is what a firmware says about itself, and what a device
// says about the firmware it runs.
type FirmwareMetadata struct {
	UUID          string `json:"uuid"` // as fwup prints it; compared as text
	Product       string `json:"product"`
	Version       string `json:"version"`
	Platform      string `json:"platform"`
	Architecture  string `json:"architecture"`
	Author        string `json:"author,omitempty"`
	Description   string `json:"description,omitempty"`
	VCSIdentifier string `json:"vcs_identifier,omitempty"`
	Misc          string `json:"misc,omitempty"`
}

// Complete reports whether the five fields every firmware needs are there.
func (m FirmwareMetadata) Complete() bool {
	return m.UUID != "" && m.Product != "" && m.Version != "" && m.Platform != "" && m.Architecture != ""
}

// DeviceCertificate identifies a device by mutual TLS.
type DeviceCertificate struct {
	ID                   int64
	UUID                 string
	OrgID                int64
	DeviceID             int64
	Serial               string // decimal
	AKI, SKI             []byte
	DER                  []byte
	Fingerprint          string // upper hex SHA-1 of the DER certificate; unique
	PublicKeyFingerprint string // upper hex SHA-1 of the public key; one device each
	NotBefore            time.Time
	NotAfter             time.Time
	LastUsedAt           time.Time
	CreatedAt            time.Time
}

// ConnectionStatus says whether a device is there.
type ConnectionStatus string

// The connection states, as the API spells them.
const (
	NotSeen      ConnectionStatus = "not_seen"
	Connecting   ConnectionStatus = "connecting"
	Connected    ConnectionStatus = "connected"
	Disconnected ConnectionStatus = "disconnected"
)

// Connection is a device's latest connection; there is one row per device.
type Connection struct {
	DeviceID         int64
	OrgID            int64
	ProductID        int64
	UUID             string // names this very connection; a later one has another
	Node             string // the server node that holds it
	Status           ConnectionStatus
	Address          string // remote IP address
	EstablishedAt    time.Time
	LastSeenAt       time.Time
	DisconnectedAt   time.Time
	Reason           string // why it ended
	NetworkInterface string // wifi, ethernet, cellular, unknown
}
