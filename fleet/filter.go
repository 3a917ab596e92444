package fleet

import "time"

// Page asks for a slice of a list by keyset: Limit rows after Cursor. The
// cursor is what the list before returned; "" starts at the beginning.
type Page struct {
	Cursor string
	Limit  int // 1 to MaxPageSize; 0 means DefaultPageSize
}

// Page sizes.
const (
	DefaultPageSize = 50
	MaxPageSize     = 1000
)

// Size returns the limit to use: between 1 and MaxPageSize.
func (p Page) Size() int {
	switch {
	case p.Limit <= 0:
		return DefaultPageSize
	case p.Limit > MaxPageSize:
		return MaxPageSize
	}
	return p.Limit
}

// DeviceFilter narrows a list of devices. Zero fields do not narrow. Devices
// are ordered by identifier.
type DeviceFilter struct {
	ProductID    int64
	GroupID      int64
	NoGroup      bool
	IDs          []int64
	Search       string // substring of the identifier, without regard to case
	Status       ConnectionStatus
	FirmwareUUID string
	Tag          string
	Updating     bool // only those with an open attempt
	Admission    Admission
	Flapping     bool // only those that make too many connections
	Health       HealthStatus
	Page         Page
}

// DeviceUpdate changes a device; nil leaves a field alone.
type DeviceUpdate struct {
	Description    *string
	Tags           *[]string
	UpdatesEnabled *bool
	GroupID        *int64
	ExtensionsOff  *ExtensionSet
	ConnectingCode *string
}

// FirmwareFilter narrows a list of firmware; newest first.
type FirmwareFilter struct {
	ProductID    int64
	Platform     string
	Architecture string
	Version      string
	Page         Page
}

// DeploymentGroupFilter narrows a list of groups; by name.
type DeploymentGroupFilter struct {
	ProductID int64
	Active    *bool
	Page      Page
}

// DeploymentGroupUpdate changes a group; nil leaves a field alone.
type DeploymentGroupUpdate struct {
	Name              *string
	Conditions        *Conditions
	Active            *bool
	ConcurrentUpdates *int
	FailureThreshold  *int
	FailureWindow     *time.Duration
	Penalty           *time.Duration
	HoldTime          *time.Duration
	ConnectingCode    *string
}

// ProductUpdate changes a product; nil leaves a field alone.
type ProductUpdate struct {
	RequireUniqueFirmwareVersion *bool
	Extensions                   *ExtensionSet
	QuarantineClones             *bool
	ApproveDevices               *bool
	HealthThresholds             *[]HealthThreshold
}

// UpdateAttemptFilter narrows a list of attempts; newest first.
type UpdateAttemptFilter struct {
	ProductID int64
	DeviceID  int64
	GroupID   int64
	ReleaseID int64
	States    []AttemptState
	OpenOnly  bool
	Page      Page
}

// AuditFilter narrows the audit log; newest first.
type AuditFilter struct {
	ProductID int64
	Noun      string
	NounID    int64
	Page      Page
}
