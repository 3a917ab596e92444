package control

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// updatePayload is what a device is told: exactly the keys devices of the
// NervesHub protocol know.
type updatePayload struct {
	UpdateAvailable   bool           `json:"update_available"`
	FirmwareURL       string         `json:"firmware_url"`
	FirmwareMeta      updateMetadata `json:"firmware_meta"`
	Size              int64          `json:"size"`
	Checksum          string         `json:"checksum"`
	PartialsChecksums []string       `json:"partials_checksums"`
	DeploymentID      *int64         `json:"deployment_id"`
}

type updateMetadata struct {
	UUID          string  `json:"uuid"`
	Version       string  `json:"version"`
	Product       string  `json:"product"`
	Platform      string  `json:"platform"`
	Architecture  string  `json:"architecture"`
	Author        *string `json:"author"`
	Description   *string `json:"description"`
	VCSIdentifier *string `json:"vcs_identifier"`
	Misc          *string `json:"misc"`
}

// UpdateOffer returns the firmware with the id, and an address that works for
// a day, for a device that polls.
func (c *Control) UpdateOffer(ctx context.Context, orgID, firmwareID int64) (o fleet.PollOffer, err error) {
	err = c.store.View(ctx, func(tx *store.Tx) (err error) {
		o.Firmware, err = tx.Firmware(fleet.SystemScope("update message").In(orgID), firmwareID)
		return err
	})
	if err == nil {
		o.URL = c.downloadURL(o.Firmware)
	}
	return o, err
}

// UpdatePayload is the update message for a firmware: with an address that
// works for a day, and the checksums of the file. Group 0 is an operator's
// push. The rollout engine sends the same message to many devices.
func (c *Control) UpdatePayload(ctx context.Context, orgID int64, f fleet.Firmware, groupID int64) (json.RawMessage, error) {
	// The firmware of a release is read in short; parts come after the upload.
	o, err := c.UpdateOffer(ctx, orgID, f.ID)
	if err != nil {
		return nil, err
	}
	f = o.Firmware
	p := updatePayload{
		UpdateAvailable: true, FirmwareURL: o.URL, Size: f.Size, Checksum: strings.ToUpper(f.SHA256),
		PartialsChecksums: make([]string, len(f.PartSHA256)),
		FirmwareMeta: updateMetadata{
			UUID: f.UUID, Version: f.Version, Product: f.Product, Platform: f.Platform, Architecture: f.Architecture,
			Author: orNull(f.Author), Description: orNull(f.Description), VCSIdentifier: orNull(f.VCSIdentifier), Misc: orNull(f.Misc),
		},
	}
	for i, part := range f.PartSHA256 {
		p.PartialsChecksums[i] = strings.ToUpper(part)
	}
	if groupID != 0 {
		p.DeploymentID = &groupID
	}
	return json.Marshal(p)
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
