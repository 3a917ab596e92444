package rest

import (
	"encoding/json"
	"strings"
	"time"
)

// FirmwareMetadata is what a device says about the firmware it runs.
type FirmwareMetadata struct {
	UUID          string  `json:"uuid"`
	Product       string  `json:"product"`
	Version       string  `json:"version"`
	Architecture  string  `json:"architecture"`
	Platform      string  `json:"platform"`
	Author        *string `json:"author"`
	Description   *string `json:"description"`
	FwupVersion   *string `json:"fwup_version"`
	VCSIdentifier *string `json:"vcs_identifier"`
	Misc          *string `json:"misc"`
}

// GroupName names a device's deployment group.
type GroupName struct {
	Name string `json:"name"`
}

// Device is one unit in the field.
type Device struct {
	UUID                 string            `json:"uuid"`
	Identifier           string            `json:"identifier"`
	Description          string            `json:"description"`
	Tags                 []string          `json:"tags"`
	Online               string            `json:"online" doc:"The same as connection_status."`
	Status               string            `json:"status" enum:"online,offline" doc:"Whether it is connected, for older clients."`
	ConnectionStatus     string            `json:"connection_status" enum:"not_seen,connecting,connected,disconnected"`
	FirmwareMetadata     *FirmwareMetadata `json:"firmware_metadata"`
	Version              string            `json:"version" doc:"Of the running firmware, or \"unknown\"."`
	FirmwareValidation   string            `json:"firmware_validation_status"`
	AutoRevertDetected   bool              `json:"firmware_auto_revert_detected"`
	DeploymentGroup      *GroupName        `json:"deployment_group"`
	UpdatesEnabled       bool              `json:"updates_enabled"`
	Admission            string            `json:"admission" enum:"admitted,pending,quarantined" doc:"Whether it may connect."`
	AdmissionReason      string            `json:"admission_reason,omitempty"`
	UpdatesBlockedUntil  *time.Time        `json:"updates_blocked_until"`
	OrgName              string            `json:"org_name"`
	ProductName          string            `json:"product_name"`
	LastCommunication    string            `json:"last_communication" doc:"A time, or \"never\"."`
	Deleted              bool              `json:"deleted"`
	Failures             int               `json:"failures" doc:"Failed attempts since the last success."`
	Address              string            `json:"address,omitempty" doc:"Remote address of the last connection."`
	DisconnectedReason   string            `json:"disconnected_reason,omitempty"`
	ConnectionEstablised *time.Time        `json:"connection_established_at"`
	FirstSeenAt          *time.Time        `json:"first_seen_at"`
	Attempt              *UpdateAttempt    `json:"attempt" doc:"The open update attempt."`
	ExtensionsOff        []string          `json:"extensions_off" doc:"Off for this device although its product has them on."`
	ConnectingCode       string            `json:"connecting_code,omitempty" doc:"Run by the device whenever it connects, after its group's."`
}

// NewDevice makes a device known before it connects.
type NewDevice struct {
	Identifier  string `json:"identifier"`
	Description string `json:"description,omitempty"`
	Tags        Tags   `json:"tags,omitempty"`
}

// DeviceChange changes a device; absent fields stay.
type DeviceChange struct {
	Description    *string   `json:"description,omitempty"`
	Tags           *Tags     `json:"tags,omitempty"`
	UpdatesEnabled *bool     `json:"updates_enabled,omitempty"`
	ExtensionsOff  *[]string `json:"extensions_off,omitempty" doc:"All that are to be off although the product has them on."`
	ConnectingCode *string   `json:"connecting_code,omitempty" doc:"Run by the device whenever it connects, after its group's."`
}

// Upgrade pushes a firmware to one device.
type Upgrade struct {
	UUID string `json:"uuid"`
}

// Tags are a list of words, written as an array or as text with commas.
type Tags []string

// UnmarshalJSON reads both forms.
func (t *Tags) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		*t = Tags{}
		for _, tag := range strings.Split(text, ",") {
			if tag = strings.TrimSpace(tag); tag != "" {
				*t = append(*t, tag)
			}
		}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(t))
}

// UpdateAttempt is one try to bring one device to one firmware.
type UpdateAttempt struct {
	UUID          string     `json:"uuid"`
	Identifier    string     `json:"identifier"`
	State         string     `json:"state"`
	Reason        string     `json:"reason,omitempty"`
	Percent       int        `json:"percent"`
	Number        int        `json:"number" doc:"Tries of this device at this release."`
	SourceUUID    string     `json:"source_uuid"`
	TargetUUID    string     `json:"target_uuid"`
	TargetVersion string     `json:"target_version"`
	Bytes         int64      `json:"bytes"`
	OfferedAt     *time.Time `json:"offered_at"`
	FinishedAt    *time.Time `json:"finished_at"`
	UpdatedAt     time.Time  `json:"updated_at"`
}

// Script is what a device is to run.
type Script struct {
	Text    string `json:"text,omitempty" doc:"In the language of the device's console."`
	Script  string `json:"script,omitempty" doc:"In place of text: name or id of a script of the product."`
	Timeout int    `json:"timeout_seconds,omitempty" doc:"How long to wait; 30 if it is left out, at most 300."`
}

// ScriptResult is what came of it.
type ScriptResult struct {
	Output string `json:"output" doc:"What it printed, and what it returned on a line of its own."`
	Return string `json:"return,omitempty"`
	Result string `json:"result,omitempty" doc:"completed or error; absent from devices that do not tell."`
	Reason string `json:"reason,omitempty" doc:"Why, of an error."`
}
