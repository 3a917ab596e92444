package rest

import "time"

// Data wraps the one resource of an answer.
type Data[T any] struct {
	Data T `json:"data"`
}

// List wraps a whole list, or a page of one: Next is the cursor of the page
// after, absent on the last.
type List[T any] struct {
	Data []T    `json:"data"`
	Next string `json:"next,omitempty" doc:"Cursor of the next page; absent on the last page."`
}

// Page wraps a page of a list that was asked for by number, or by cursor.
type Page[T any] struct {
	List[T]
	Pagination Pagination `json:"pagination"`
}

// Pagination says which page of how many it is.
type Pagination struct {
	Number  int `json:"page_number"`
	Size    int `json:"page_size"`
	Entries int `json:"total_entries"`
	Pages   int `json:"total_pages"`
}

// Health says that the server answers.
type Health struct {
	Status  string `json:"status" enum:"ok"`
	Version string `json:"version" doc:"Of the program."`
}

// User is somebody who can sign in.
type User struct {
	Name     string `json:"name"`
	Email    string `json:"email"`
	Username string `json:"username" doc:"The e-mail again, for older clients."`
	Token    string `json:"token,omitempty" doc:"A new API token; only in the answer to signing in."`
}

// SignIn is what somebody who signs in sends.
type SignIn struct {
	Email    string `json:"email"`
	Password string `json:"password"`
	Note     string `json:"note,omitempty" doc:"What the token is for."`
}

// Org is a tenant.
type Org struct {
	Name       string    `json:"name"`
	Role       string    `json:"role,omitempty" doc:"The caller's role: admin, manage or view."`
	InsertedAt LocalTime `json:"inserted_at"`
	UpdatedAt  LocalTime `json:"updated_at"`
}

// Named is a request that gives a name.
type Named struct {
	Name string `json:"name"`
}

// Member is somebody who belongs to an org.
type Member struct {
	Name     string `json:"name"`
	Email    string `json:"email"`
	Username string `json:"username"`
	Role     string `json:"role" enum:"admin,manage,view"`
}

// NewMember asks to give somebody a role. With a password an account is made.
type NewMember struct {
	Email    string `json:"email"`
	Username string `json:"username,omitempty" doc:"The e-mail, from older clients."`
	Role     string `json:"role"`
	Name     string `json:"name,omitempty"`
	Password string `json:"password,omitempty" doc:"Makes a new account with this password."`
}

// MemberChange changes the role of a member.
type MemberChange struct {
	Role string `json:"role"`
}

// Token is an API token without its secret, which only its creation shows.
type Token struct {
	UUID       string     `json:"uuid"`
	Note       string     `json:"note"`
	Kind       string     `json:"kind"`
	Token      string     `json:"token,omitempty" doc:"The token itself; only in the answer that creates it."`
	ExpiresAt  *time.Time `json:"expires_at"`
	LastUsedAt *time.Time `json:"last_used_at"`
	CreatedAt  time.Time  `json:"created_at"`
}

// NewToken asks for a token.
type NewToken struct {
	Note      string     `json:"note,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// Product is a family of devices that take the same firmware.
type Product struct {
	Name                         string   `json:"name"`
	RequireUniqueFirmwareVersion bool     `json:"require_unique_firmware_version"`
	AllowedUpdateTools           []string `json:"allowed_update_tools"`
	Extensions                   []string `json:"extensions" doc:"Switched on for its devices: health, geo, local_shell, logging, network_identity."`
	AllowUnsignedESPIDFFirmware  bool     `json:"allow_unsigned_esp_idf_firmware"`
	QuarantineClones             bool     `json:"quarantine_clones"`
	ApproveDevices               bool     `json:"approve_devices"`
	DeviceCount                  int      `json:"device_count"`
	ConnectedCount               int      `json:"connected_count"`
}

// ProductChange changes a product; absent fields stay.
type ProductChange struct {
	RequireUniqueFirmwareVersion *bool     `json:"require_unique_firmware_version,omitempty"`
	QuarantineClones             *bool     `json:"quarantine_clones,omitempty" doc:"Lock a device out when two units share its identity."`
	ApproveDevices               *bool     `json:"approve_devices,omitempty" doc:"Devices that register themselves with a shared secret wait for approval."`
	Extensions                   *[]string `json:"extensions,omitempty" doc:"All that are to be on."`
}

// SharedSecret lets devices of a product sign in.
type SharedSecret struct {
	UUID          string     `json:"uuid"`
	Key           string     `json:"key"`
	Secret        string     `json:"secret,omitempty" doc:"Only in the answer that creates it."`
	Note          string     `json:"note"`
	DeactivatedAt *time.Time `json:"deactivated_at"`
	CreatedAt     time.Time  `json:"created_at"`
}

// NewSharedSecret asks for a shared secret.
type NewSharedSecret struct {
	Note string `json:"note,omitempty"`
}

// SigningKey is a public key firmware is signed with.
type SigningKey struct {
	Name   string `json:"name"`
	Key    string `json:"key" doc:"Standard base64 of 32 bytes."`
	Scheme string `json:"scheme"`
}

// NewSigningKey registers a public key.
type NewSigningKey struct {
	Name   string `json:"name"`
	Key    string `json:"key"`
	Scheme string `json:"scheme,omitempty"`
}

// CACertificate is an authority whose certificates devices have.
type CACertificate struct {
	Serial          string     `json:"serial" doc:"Decimal."`
	NotBefore       time.Time  `json:"not_before"`
	NotAfter        time.Time  `json:"not_after"`
	Description     string     `json:"description"`
	CheckExpiration bool       `json:"check_expiration" doc:"New certificates of it are refused once it has expired."`
	VerifiedAt      *time.Time `json:"verified_at" doc:"When the org proved that it has the key."`
	LastUsedAt      *time.Time `json:"last_used_at"`
	JITP            *JITP      `json:"jitp" doc:"What a device becomes that is not known; null: it is refused."`
}

// JITP is a profile for devices that nobody has seen before.
type JITP struct {
	ProductName string `json:"product_name"`
	ProductID   int64  `json:"product_id,omitempty" doc:"In a request, instead of the name."`
	Tags        Tags   `json:"tags"`
	Description string `json:"description"`
	Quota       int    `json:"quota" doc:"How many devices it may make; 0: any number."`
	Approval    bool   `json:"approval" doc:"They wait for approval."`
	Created     int    `json:"created" doc:"How many devices it has made."`
}

// NewCACertificate registers an authority.
type NewCACertificate struct {
	Cert            string `json:"cert" doc:"Base64 of the PEM text."`
	Proof           string `json:"verification_cert,omitempty" doc:"Base64 of the PEM text of a certificate that the authority signed, whose only URI is urn:nerveshub:verify: and a verification token."`
	Description     string `json:"description,omitempty"`
	CheckExpiration bool   `json:"check_expiration,omitempty"`
	JITP            *JITP  `json:"jitp,omitempty"`
}

// CACertificateChange changes an authority; absent fields stay.
type CACertificateChange struct {
	Proof           string  `json:"verification_cert,omitempty" doc:"Proves that the org has the key, as when the authority is registered."`
	Description     *string `json:"description,omitempty"`
	CheckExpiration *bool   `json:"check_expiration,omitempty"`
	JITP            *JITP   `json:"jitp,omitempty"`
	NoJITP          bool    `json:"no_jitp,omitempty" doc:"Takes the profile away."`
}

// VerificationToken is signed by an authority to prove that its key is there.
type VerificationToken struct {
	Token     string    `json:"verification_token"`
	ExpiresAt time.Time `json:"expires_at"`
}

// Notification tells the people of a product what needs their eyes.
type Notification struct {
	UUID      string    `json:"uuid"`
	Kind      string    `json:"kind"`
	Device    string    `json:"device,omitempty" doc:"The identifier concerned."`
	Title     string    `json:"title"`
	Message   string    `json:"message"`
	Count     int       `json:"count" doc:"How often it happened."`
	CreatedAt time.Time `json:"created_at"`
	LastAt    time.Time `json:"last_at" doc:"When it last happened."`
}

// Dismissal names notifications to be removed.
type Dismissal struct {
	Notifications []string `json:"notifications,omitempty" doc:"UUIDs; absent: all."`
}

// Dismissed says how many notifications were removed.
type Dismissed struct {
	Count int `json:"count"`
}

// Refusal remembers that a device was not let in.
type Refusal struct {
	Identifier string    `json:"identifier" doc:"As the device claims it."`
	Known      bool      `json:"known" doc:"There is such a device, and it proved to be it."`
	Code       string    `json:"code"`
	Message    string    `json:"message"`
	Address    string    `json:"address"`
	Count      int       `json:"count"`
	CreatedAt  time.Time `json:"created_at"`
	LastAt     time.Time `json:"last_at"`
}

// Check is one thing that was looked at.
type Check struct {
	Name    string `json:"name"`
	Level   string `json:"level" enum:"ok,info,warning,failed"`
	Message string `json:"message"`
}

// Diagnosis is the server's side of why a device does or does not work.
type Diagnosis struct {
	Identifier   string              `json:"identifier"`
	Known        bool                `json:"known"`
	Checks       []Check             `json:"checks"`
	Refusals     []Refusal           `json:"refusals" doc:"Newest first."`
	Certificates []DeviceCertificate `json:"certificates"`
}

// Reason says why an operator did something.
type Reason struct {
	Reason string `json:"reason,omitempty"`
}

// DeviceCertificate is a certificate a device signs in with.
type DeviceCertificate struct {
	Serial    string    `json:"serial" doc:"Decimal."`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
}

// NewDeviceCertificate registers a device certificate.
type NewDeviceCertificate struct {
	Cert string `json:"cert" doc:"Base64 of the PEM text."`
}

// AuditEvent is who did what.
type AuditEvent struct {
	UUID      string    `json:"uuid"`
	Sequence  int64     `json:"sequence"`
	ActorKind string    `json:"actor_kind"`
	Actor     string    `json:"actor"`
	Action    string    `json:"action"`
	Noun      string    `json:"noun"`
	Name      string    `json:"name"`
	Summary   string    `json:"summary"`
	Detail    any       `json:"detail,omitempty"`
	CreatedAt time.Time `json:"created_at"`
}

// LocalTime is a time in UTC written without a zone, as clients of the
// NervesHub API know it.
type LocalTime struct{ time.Time }

const localTimeLayout = "2006-01-02T15:04:05"

// MarshalJSON writes whole seconds without a zone.
func (t LocalTime) MarshalJSON() ([]byte, error) {
	return []byte(t.UTC().Format(`"` + localTimeLayout + `"`)), nil
}

// UnmarshalJSON reads what MarshalJSON writes, and RFC 3339.
func (t *LocalTime) UnmarshalJSON(b []byte) error {
	v, err := time.Parse(`"`+localTimeLayout+`"`, string(b))
	if err != nil {
		v, err = time.Parse(`"`+time.RFC3339+`"`, string(b))
	}
	t.Time = v.UTC()
	return err
}
