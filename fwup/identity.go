package fwup

import (
	_ "embed"
	"encoding/hex"
	"strings"
	"time"

	"golang.org/x/crypto/blake2b"
)

// Metadata is what an archive says about itself. Empty fields are unset.
type Metadata struct {
	Product, Description, Version, Author string
	Platform, Architecture                string

	// CreationDate is when the archive was made, as 2006-01-02T15:04:05Z. The
	// signature does not cover it, and signing again changes it.
	CreationDate  string
	FwupVersion   string // meta-fwup-version
	Misc          string
	VCSIdentifier string

	// UUID identifies the content. It is made of the bytes of meta.conf; its
	// variant bits are not those of RFC 9562.
	UUID string
	// Nickname is two words made of the UUID's first bytes, for people.
	Nickname string
}

// MetadataField is one field of Metadata by its name in a configuration.
type MetadataField struct {
	Name  string // such as "meta-product"
	Value string
}

// Fields returns the fields that are set, in the order in which fwup shows them.
func (m Metadata) Fields() []MetadataField {
	var fields []MetadataField
	for _, f := range []MetadataField{
		{"meta-product", m.Product},
		{"meta-description", m.Description},
		{"meta-version", m.Version},
		{"meta-author", m.Author},
		{"meta-platform", m.Platform},
		{"meta-architecture", m.Architecture},
		{"meta-creation-date", m.CreationDate},
		{"meta-fwup-version", m.FwupVersion},
		{"meta-misc", m.Misc},
		{"meta-vcs-identifier", m.VCSIdentifier},
		{"meta-uuid", m.UUID},
		{"meta-nickname", m.Nickname},
	} {
		if f.Value != "" {
			fields = append(fields, f)
		}
	}
	return fields
}

// Text returns the fields as fwup -m shows them, one a line, the values quoted
// where they hold more than letters, digits, dots and underscores.
func (m Metadata) Text() string {
	var b []byte
	for _, f := range m.Fields() {
		b = append(b, f.Name...)
		b = append(b, '=')
		b = appendString(b, f.Value)
		b = append(b, '\n')
	}
	return string(b)
}

// creationDateLayout is how a creation date is written.
const creationDateLayout = "2006-01-02T15:04:05Z"

// metadataOf returns the metadata of an archive from its parsed meta.conf, the
// bytes of that and the time its ZIP entry carries. Archives before fwup 1.2
// hold their date in meta.conf.
func metadataOf(s *section, metaConf []byte, modified time.Time) Metadata {
	id := metaUUID(metaConf)
	m := Metadata{
		Product: s.str("meta-product"), Description: s.str("meta-description"), Version: s.str("meta-version"),
		Author: s.str("meta-author"), Platform: s.str("meta-platform"), Architecture: s.str("meta-architecture"),
		CreationDate: modified.UTC().Format(creationDateLayout), FwupVersion: s.str("meta-fwup-version"),
		Misc: s.str("meta-misc"), VCSIdentifier: s.str("meta-vcs-identifier"),
		UUID: formatUUID(id), Nickname: nickname(id),
	}
	if s.has("meta-creation-date") {
		m.CreationDate = s.str("meta-creation-date")
	}
	return m
}

// uuidNamespace goes before meta.conf into the hash that makes the UUID.
var uuidNamespace = [16]byte{0x20, 0x53, 0xdf, 0xfb, 0xd5, 0x1e, 0x43, 0x10, 0xb9, 0x3b, 0x95, 0x6d, 0xa8, 0x9f, 0x9f, 0x34}

func metaUUID(metaConf []byte) (id [16]byte) {
	h, err := blake2b.New256(nil)
	if err != nil {
		panic(err) // only for a key that is too long
	}
	h.Write(uuidNamespace[:])
	h.Write(metaConf)
	copy(id[:], h.Sum(nil))
	id[6] = id[6]&0x0f | 0x50
	return id
}

func formatUUID(id [16]byte) string {
	s := hex.EncodeToString(id[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

//go:embed nickname_words.txt
var nicknameText string

// nicknameWords are the 256 words of nicknames, one for each value of a byte.
var nicknameWords = strings.Fields(nicknameText)

func nickname(id [16]byte) string {
	return nicknameWords[id[0]] + "-" + nicknameWords[id[1]]
}
