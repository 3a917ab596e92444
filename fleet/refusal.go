package fleet

import "time"

// RefusalCode says in one word why a device may not connect.
type RefusalCode string

// Why devices are refused.
const (
	// Certificates. The device has proven that it holds the key.
	RefusedUnknownCA     RefusalCode = "unknown_ca"
	RefusedNoAKI         RefusalCode = "no_authority_key_id"
	RefusedNoCommonName  RefusalCode = "missing_common_name"
	RefusedCommonName    RefusalCode = "mismatched_common_name"
	RefusedOtherOrg      RefusalCode = "mismatched_org"
	RefusedExpired       RefusalCode = "certificate_expired"
	RefusedNotYetValid   RefusalCode = "certificate_not_yet_valid"
	RefusedCAExpired     RefusalCode = "ca_expired"
	RefusedUsage         RefusalCode = "certificate_usage"
	RefusedConstraint    RefusalCode = "certificate_constraint"
	RefusedPathLength    RefusalCode = "certificate_path_length"
	RefusedCritical      RefusalCode = "certificate_critical_extension"
	RefusedCertificate   RefusalCode = "certificate_malformed"
	RefusedOtherKey      RefusalCode = "unexpected_public_key"
	RefusedNotRegistered RefusalCode = "device_not_registered"
	RefusedQuota         RefusalCode = "quota_reached"
	RefusedSerial        RefusalCode = "serial_taken"
	RefusedRevoked       RefusalCode = "certificate_removed"

	// Shared secrets.
	RefusedSignature  RefusalCode = "bad_signature"
	RefusedOld        RefusalCode = "signature_expired"
	RefusedFuture     RefusalCode = "signature_in_future"
	RefusedReplay     RefusalCode = "signature_used_before"
	RefusedIdentifier RefusalCode = "mismatched_identifier" // the secret is another device's
	RefusedClash      RefusalCode = "identifier_clash"      // the identifier is one of another product

	// Both.
	RefusedDeleted     RefusalCode = "device_deleted"
	RefusedPending     RefusalCode = "pending_approval"
	RefusedQuarantined RefusalCode = "quarantined"
	RefusedMalformed   RefusalCode = "malformed_identifier"
)

// Refusal remembers that a device was not let in. Repeats count on.
type Refusal struct {
	ID         int64
	OrgID      int64
	ProductID  int64  // 0: not known
	DeviceID   int64  // 0: the identifier is only claimed
	Identifier string // as the device claims it
	Code       RefusalCode
	Message    string // one sentence: what is wrong and what to do
	Address    string // where it last came from
	Count      int
	CreatedAt  time.Time
	LastAt     time.Time
}

// CheckLevel says how a check came out.
type CheckLevel string

// The outcomes of a check.
const (
	CheckOK      CheckLevel = "ok"
	CheckInfo    CheckLevel = "info"
	CheckWarning CheckLevel = "warning"
	CheckFailed  CheckLevel = "failed"
)

// Check is one thing that was looked at.
type Check struct {
	Name    string // "connection", "admission", "certificate", …
	Level   CheckLevel
	Message string // one sentence
}

// DeviceDiagnosis is the server's side of why a device does or does not work.
type DeviceDiagnosis struct {
	Identifier   string
	Device       *Device // nil: there is no such device, but it was refused
	Checks       []Check
	Refusals     []Refusal // newest first
	Certificates []DeviceCertificate
}
