package fleet

import "time"

// TagOperator says how the tags of a group's conditions combine.
type TagOperator string

// The tag operators.
const (
	TagsAnd TagOperator = "and" // the device has every tag
	TagsOr  TagOperator = "or"  // the device has at least one
)

// Conditions decide which devices belong to a group. No tags match every
// device; an empty version requirement matches every version.
type Conditions struct {
	Tags        []string    `json:"tags"`
	TagOperator TagOperator `json:"tag_operator"`
	Version     string      `json:"version"` // requirement with Elixir's rules
}

// Defaults and limits of a deployment group.
const (
	DefaultConcurrentUpdates = 10
	MaxConcurrentUpdates     = 1_000_000
	DefaultFailureThreshold  = 3                  // failed attempts before the penalty box
	DefaultFailureWindow     = 24 * time.Hour     // in which they are counted
	DefaultPenalty           = time.Hour          // first stay; doubles each time
	MaxPenalty               = 7 * 24 * time.Hour // longest stay
	DefaultHoldTime          = 10 * time.Second   // how long the new firmware must stay connected to be proven
)

// DeploymentGroup moves the devices that match its conditions to its current
// release.
type DeploymentGroup struct {
	ID                int64
	UUID              string
	OrgID             int64
	ProductID         int64
	Name              string // unique within the product
	Platform          string // from its first firmware; every release must match
	Architecture      string
	Conditions        Conditions
	Active            bool
	ConcurrentUpdates int // slots: most devices with an open attempt at once
	FailureThreshold  int
	FailureWindow     time.Duration
	Penalty           time.Duration
	HoldTime          time.Duration
	ConnectingCode    string // run by its devices whenever they connect
	ReleaseID         int64  // current release
	CreatedAt         time.Time
	UpdatedAt         time.Time
	Revision          int64 // grows with every change; guards against lost updates

	Release Release // filled by reads
	Devices int     // filled by lists: how many devices belong to it
}

// Release is one firmware given to a group. The newest is current.
type Release struct {
	ID          int64
	UUID        string
	OrgID       int64
	ProductID   int64
	GroupID     int64
	Number      int // 1, 2, 3 … within the group
	FirmwareID  int64
	ArchiveID   int64 // files for its devices beside the firmware; 0: none
	Description string
	CreatedBy   int64
	CreatedAt   time.Time

	Firmware       Firmware // filled by reads
	ArchiveUUID    string   // filled by reads; "": it has none
	ArchiveVersion string   // filled by reads
	CreatedByName  string   // filled by reads
}

// GroupCounts is how far a rollout is, counted over the devices of a group.
type GroupCounts struct {
	Total    int // devices of the group
	Proven   int // run the release and proved it
	Updating int // have an open attempt
	Waiting  int // connected, eligible, waiting for a slot
	Offline  int // need the release but are not connected
	Penalty  int // in the penalty box
	Disabled int // updates switched off, or not validated
	Failed   int // last attempt at this release ended without success, and not in any row above

	States map[AttemptState]int // attempts at the current release by state
}
