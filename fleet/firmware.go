package fleet

import "time"

// FirmwareStatus says how far an uploaded firmware is.
type FirmwareStatus string

// The firmware states.
const (
	FirmwareReady      FirmwareStatus = "ready"
	FirmwareProcessing FirmwareStatus = "processing" // background work after the upload still runs
)

// PartSize is the length in bytes of the parts a firmware is checksummed in.
const PartSize = 1 << 20

// Firmware is a signed image of a product, immutable once published.
type Firmware struct {
	ID        int64
	OrgID     int64
	ProductID int64
	FirmwareMetadata
	SigningKeyID  int64
	Status        FirmwareStatus
	Size          int64    // bytes
	SHA256        string   // lower hex, of the whole file; also its blob address
	PartSHA256    []string // lower hex, of each PartSize bytes; filled after upload by a job
	Nickname      string
	FwupVersion   string // require-fwup-version of the archive, "" if none
	CreatedBy     int64
	CreatedByName string
	CreatedAt     time.Time

	Installed int // filled by lists: devices that run it
}

// BlobKey is where the bytes of the firmware are kept.
func (f Firmware) BlobKey() string { return "firmware/" + f.SHA256 + ".fw" }
