package fleet

import "time"

// Archive is a signed set of files for the devices of a product beside their
// firmware, immutable once published. It is described as firmware is, but need
// not say for which platform and architecture it is.
type Archive struct {
	ID        int64
	OrgID     int64
	ProductID int64
	FirmwareMetadata
	SigningKeyID  int64
	Size          int64  // bytes
	SHA256        string // lower hex, of the whole file; also its blob address
	CreatedBy     int64
	CreatedByName string // filled by reads
	CreatedAt     time.Time
}

// BlobKey is where the bytes of the archive are kept.
func (a Archive) BlobKey() string { return "archives/" + a.SHA256 + ".fw" }

// Fits reports whether devices of the platform and architecture may have the
// archive: what it does not say, it does not ask for.
func (a Archive) Fits(platform, architecture string) bool {
	return (a.Platform == "" || a.Platform == platform) && (a.Architecture == "" || a.Architecture == architecture)
}
