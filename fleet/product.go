package fleet

import "time"

// Product is a family of devices that take the same firmware.
type Product struct {
	ID                           int64
	UUID                         string
	OrgID                        int64
	Name                         string            // unique within the org; 1 to 100 characters; fixed for ever
	RequireUniqueFirmwareVersion bool              // one firmware per version, platform and architecture
	Extensions                   ExtensionSet      // switched on for its devices
	QuarantineClones             bool              // lock a device out when two units share its identity
	ApproveDevices               bool              // a device that registers itself with a shared secret waits for approval
	HealthThresholds             []HealthThreshold // none: DefaultHealthThresholds
	CreatedAt                    time.Time
	UpdatedAt                    time.Time

	Devices   int // filled by lists: how many devices there are
	Connected int // filled by lists: how many of them are connected
}

// SharedSecret lets devices authenticate by HMAC. A product's secret may
// create devices it has not seen; a device's secret is for that device alone.
type SharedSecret struct {
	ID            int64
	UUID          string
	OrgID         int64
	ProductID     int64
	DeviceID      int64  // 0: a product secret
	Key           string // public: "nhp_" or "nhd_" and 43 characters
	Sealed        []byte // the secret, encrypted at rest
	Note          string
	DeactivatedAt time.Time // zero: in use
	LastUsedAt    time.Time
	CreatedAt     time.Time

	Secret string // 43 characters; set only in the answer that creates it
}

// SigningKey is a public key the org signs firmware with.
type SigningKey struct {
	ID        int64
	UUID      string
	OrgID     int64
	Name      string // unique within the org
	Key       string // standard base64 of 32 bytes, 44 characters; unique within the org
	CreatedBy int64  // user id
	CreatedAt time.Time
}

// CACertificate is a registered authority: devices whose certificates it
// signed belong to the org.
type CACertificate struct {
	ID              int64
	UUID            string
	OrgID           int64
	Serial          string // decimal
	AKI, SKI        []byte
	DER             []byte
	Description     string
	NotBefore       time.Time
	NotAfter        time.Time
	CheckExpiration bool      // refuse its devices once it has expired
	JITP            *JITP     // makes devices of its certificates known when they first connect; nil: none
	VerifiedAt      time.Time // when the org proved that it has the key; zero: never
	LastUsedAt      time.Time
	CreatedAt       time.Time
}

// JITP is a profile for just-in-time provisioning: what a device becomes whose
// certificate a registered authority signed and that nobody has seen before.
type JITP struct {
	ProductID   int64
	Product     string // its name; filled by reads
	Tags        []string
	Description string
	Quota       int  // how many devices it may make; 0: any number
	Approval    bool // they wait for an operator's approval
	Created     int  // how many it has made
}

// CACertificateUpdate changes an authority; nil leaves a field alone.
type CACertificateUpdate struct {
	Description     *string
	CheckExpiration *bool
	JITP            **JITP // to nil: none any more
}
