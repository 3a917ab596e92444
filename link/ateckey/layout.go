package ateckey

import "encoding/asn1"

// Layout says what is where in a chip and how its certificates are made.
type Layout struct {
	KeySlot      int // slot of the private key
	Primary, Aux Slots
	Magic        []byte // beginning of the one-time programmable zone
	Device       Template
	Signer       Template
}

// Slots are the slots of one pair of certificates.
type Slots struct{ Device, SignerKey, Signer int }

// Template is everything of a certificate that is not in its compressed form.
type Template struct {
	ID, Chain    byte // as in the compressed form; others are refused
	SignerID     uint16
	SerialSource byte
	Issuer       string // common name
	Subject      string // common name; empty: the manufacturer's serial number
	Extensions   []Extension
}

// Extension is one of a certificate, with its value or with what it is made
// from.
type Extension struct {
	OID      asn1.ObjectIdentifier
	Critical bool
	Value    []byte // DER
	Key      KeyID  // instead of a value
}

// KeyID is what the value of an extension is made from.
type KeyID int

// The kinds of KeyID.
const (
	NoKey        KeyID = iota
	SubjectKey         // subject key identifier
	AuthorityKey       // authority key identifier, of the signer's key
)

// Sources of the serial number of a certificate.
const (
	serialFromKey  = 0x0a
	serialFromChip = 0x0b
)

var (
	oidSubjectKeyID = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage     = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidConstraints  = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidAuthorityID  = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidExtKeyUsage  = asn1.ObjectIdentifier{2, 5, 29, 37}
)

// NervesKey is the layout of chips that are provisioned as NervesKey.
var NervesKey = Layout{
	KeySlot: 0,
	Primary: Slots{Device: 10, SignerKey: 11, Signer: 12},
	Aux:     Slots{Device: 9, SignerKey: 14, Signer: 15},
	Magic:   []byte("Nrvs"),
	Device: Template{
		ID: 0, SerialSource: serialFromChip, Issuer: "Signer",
		Extensions: []Extension{
			{OID: oidConstraints, Value: []byte{0x30, 0}},
			{OID: oidKeyUsage, Critical: true, Value: []byte{3, 2, 5, 0xa0}}, // digital signature, key encipherment
			{OID: oidExtKeyUsage, Value: []byte{0x30, 0x0a, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2}},
			{OID: oidAuthorityID, Key: AuthorityKey},
		},
	},
	Signer: Template{
		ID: 1, SerialSource: serialFromKey, Issuer: "Signer", Subject: "Signer",
		Extensions: []Extension{
			{OID: oidConstraints, Critical: true, Value: []byte{0x30, 6, 1, 1, 0xff, 2, 1, 0}},
			{OID: oidKeyUsage, Critical: true, Value: []byte{3, 2, 1, 0x86}}, // digital signature, certificates, CRLs
			{OID: oidExtKeyUsage, Value: []byte{0x30, 0x14, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2}},
			{OID: oidSubjectKeyID, Key: SubjectKey},
			{OID: oidAuthorityID, Key: AuthorityKey},
		},
	},
}
