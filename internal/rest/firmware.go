package rest

import "time"

// Firmware is a signed image of a product.
type Firmware struct {
	UUID         string    `json:"uuid"`
	Version      string    `json:"version"`
	Platform     string    `json:"platform"`
	Architecture string    `json:"architecture"`
	Author       *string   `json:"author"`
	Product      string    `json:"product"`
	Tool         string    `json:"tool"`
	Description  string    `json:"description"`
	Nickname     string    `json:"nickname"`
	Status       string    `json:"status" enum:"ready,processing"`
	Size         int64     `json:"size" doc:"Bytes."`
	SHA256       string    `json:"sha256"`
	Installed    int       `json:"installed_count" doc:"Devices that run it."`
	CreatedBy    string    `json:"created_by"`
	CreatedAt    time.Time `json:"created_at"`
}

// Conditions decide which devices belong to a group.
type Conditions struct {
	Version     string `json:"version" doc:"Requirement by Elixir's rules, such as \">= 1.2.0\"; empty matches all."`
	Tags        Tags   `json:"tags"`
	TagOperator string `json:"tag_operator,omitempty" enum:"and,or"`
}

// CurrentRelease is the release a group moves its devices to.
type CurrentRelease struct {
	Number     int             `json:"number"`
	Firmware   ReleaseFirmware `json:"firmware"`
	InsertedAt LocalTime       `json:"inserted_at"`
	UpdatedAt  LocalTime       `json:"updated_at"`
}

// ReleaseFirmware is the firmware of a release in short.
type ReleaseFirmware struct {
	UUID         string `json:"uuid"`
	Version      string `json:"version"`
	Platform     string `json:"platform"`
	Architecture string `json:"architecture"`
}

// DeploymentGroup moves matching devices to its current release.
type DeploymentGroup struct {
	UUID              string          `json:"uuid"`
	Name              string          `json:"name"`
	IsActive          bool            `json:"is_active"`
	State             string          `json:"state" enum:"on,off"`
	FirmwareUUID      string          `json:"firmware_uuid"`
	CurrentRelease    *CurrentRelease `json:"current_release"`
	ArchiveUUID       *string         `json:"archive_uuid"`
	Conditions        Conditions      `json:"conditions"`
	DeltaUpdatable    bool            `json:"delta_updatable"`
	DeviceCount       int             `json:"device_count"`
	ReleasesCount     int             `json:"releases_count"`
	Notes             *string         `json:"notes"`
	Platform          string          `json:"platform"`
	Architecture      string          `json:"architecture"`
	ConcurrentUpdates int             `json:"concurrent_updates"`
	FailureThreshold  int             `json:"device_failure_threshold"`
	FailureWindow     int             `json:"device_failure_window_seconds"`
	Penalty           int             `json:"penalty_seconds"`
	HoldTime          int             `json:"hold_time_seconds"`
	ConnectingCode    string          `json:"connecting_code,omitempty" doc:"Run by its devices whenever they connect."`
	Revision          int64           `json:"revision"`
	Counts            *GroupCounts    `json:"counts,omitempty" doc:"How far the rollout is; only when one group is asked for."`
}

// GroupCounts count the devices of a group by how far they are.
type GroupCounts struct {
	Total    int            `json:"total"`
	Proven   int            `json:"proven"`
	Updating int            `json:"updating"`
	Waiting  int            `json:"waiting"`
	Offline  int            `json:"offline"`
	Penalty  int            `json:"penalty"`
	Disabled int            `json:"disabled"`
	Failed   int            `json:"failed"`
	States   map[string]int `json:"states" doc:"Attempts at the current release by state."`
}

// NewDeploymentGroup makes a group with its first release.
type NewDeploymentGroup struct {
	Name              string      `json:"name"`
	Firmware          string      `json:"firmware" doc:"UUID of the first release's firmware."`
	Archive           string      `json:"archive,omitempty" doc:"UUID of the first release's archive."`
	Conditions        *Conditions `json:"conditions,omitempty"`
	IsActive          bool        `json:"is_active,omitempty"`
	ConcurrentUpdates int         `json:"concurrent_updates,omitempty"`
	HoldTime          *int        `json:"hold_time_seconds,omitempty"`
}

// DeploymentGroupChange changes a group, or gives it a release when Firmware
// is set; then the other fields are ignored.
type DeploymentGroupChange struct {
	Firmware          string      `json:"firmware,omitempty" doc:"UUID: makes a new release of it."`
	Archive           string      `json:"archive,omitempty" doc:"UUID, of the new release."`
	Description       string      `json:"description,omitempty" doc:"Of the new release."`
	Name              *string     `json:"name,omitempty"`
	IsActive          *bool       `json:"is_active,omitempty"`
	State             *string     `json:"state,omitempty" doc:"on or off."`
	Conditions        *Conditions `json:"conditions,omitempty"`
	ConcurrentUpdates *int        `json:"concurrent_updates,omitempty"`
	FailureThreshold  *int        `json:"device_failure_threshold,omitempty"`
	FailureWindow     *int        `json:"device_failure_window_seconds,omitempty"`
	Penalty           *int        `json:"penalty_seconds,omitempty"`
	HoldTime          *int        `json:"hold_time_seconds,omitempty"`
	ConnectingCode    *string     `json:"connecting_code,omitempty" doc:"Run by its devices whenever they connect."`
	Revision          int64       `json:"revision,omitempty" doc:"The revision the change is made to; 0 overwrites."`
}

// UpdateDeployment is the body of a change of a group.
type UpdateDeployment struct {
	Deployment DeploymentGroupChange `json:"deployment"`
}

// Release is one firmware given to a group.
type Release struct {
	Number      int             `json:"number"`
	Firmware    ReleaseFirmware `json:"firmware"`
	Archive     *ReleaseArchive `json:"archive"`
	Description string          `json:"description"`
	CreatedBy   string          `json:"created_by"`
	CreatedAt   time.Time       `json:"created_at"`
}

// ReleaseArchive is the archive of a release in short.
type ReleaseArchive struct {
	UUID    string `json:"uuid"`
	Version string `json:"version"`
}

// NewRelease gives a group a firmware, and an archive if it names one.
type NewRelease struct {
	Firmware    string `json:"firmware" doc:"UUID."`
	Archive     string `json:"archive,omitempty" doc:"UUID; without it the release has none."`
	Description string `json:"description,omitempty"`
}

// Event is one message of the stream of a product: a change of its data, or
// how far a device is with an update.
type Event struct {
	Noun       string `json:"noun"`
	Action     string `json:"action,omitempty"`
	Identifier string `json:"identifier,omitempty"`
	State      string `json:"state,omitempty"`
	Percent    int    `json:"percent,omitempty"`
}
