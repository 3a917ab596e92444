package link

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ganglion-iot/ganglion/fwup"
)

// maxUUID bounds the uuid of an offer, in bytes; it names a file of the cache.
const maxUUID = 64

// offer is the payload of an update event.
type offer struct {
	URL      *string         `json:"firmware_url"`
	Size     int64           `json:"size"`
	Checksum *string         `json:"checksum"`
	Parts    json.RawMessage `json:"partials_checksums"`
	Meta     *struct {
		UUID          string  `json:"uuid"`
		Product       string  `json:"product"`
		Version       string  `json:"version"`
		Platform      string  `json:"platform"`
		Architecture  string  `json:"architecture"`
		Author        *string `json:"author"`
		Description   *string `json:"description"`
		VCSIdentifier *string `json:"vcs_identifier"`
		Misc          *string `json:"misc"`
	} `json:"firmware_meta"`
}

func parseOffer(payload []byte) (Update, error) {
	var o offer
	if err := json.Unmarshal(payload, &o); err != nil {
		return Update{}, fmt.Errorf("update: %w", err)
	}
	if o.Meta == nil || o.URL == nil || *o.URL == "" || o.Meta.UUID == "" {
		return Update{}, errors.New("update: firmware_meta and firmware_url are needed")
	}
	if len(o.Meta.UUID) > maxUUID {
		return Update{}, fmt.Errorf("update: a uuid of %d bytes", len(o.Meta.UUID))
	}
	m := o.Meta
	return Update{URL: *o.URL, Size: max(o.Size, 0), Checksum: text(o.Checksum), Parts: parseParts(o.Parts), Firmware: Firmware{
		UUID: m.UUID, Product: m.Product, Version: m.Version, Platform: m.Platform, Architecture: m.Architecture,
		Author: text(m.Author), Description: text(m.Description), VCSIdentifier: text(m.VCSIdentifier), Misc: text(m.Misc),
	}}, nil
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// parseParts reads checksums of parts. Unless all of them can be read there are
// none: the file is then verified as a whole.
func parseParts(list json.RawMessage) [][sha256.Size]byte {
	var texts []string
	if len(list) == 0 || json.Unmarshal(list, &texts) != nil || len(texts) == 0 {
		return nil
	}
	parts := make([][sha256.Size]byte, len(texts))
	for i, text := range texts {
		if len(text) != hex.EncodedLen(sha256.Size) {
			return nil
		}
		if _, err := hex.Decode(parts[i][:], []byte(text)); err != nil {
			return nil
		}
	}
	return parts
}

// parseKeys reads the public keys of a message of the server. What is no key is
// left out.
func parseKeys(payload []byte) ([]fwup.PublicKey, error) {
	var msg struct {
		Keys []any `json:"keys"`
	}
	if err := json.Unmarshal(payload, &msg); err != nil {
		return nil, err
	}
	var keys []fwup.PublicKey
	for _, k := range msg.Keys {
		s, ok := k.(string)
		if !ok {
			continue
		}
		if key, err := fwup.ParsePublicKey([]byte(s)); err == nil {
			keys = append(keys, key)
		}
	}
	return keys, nil
}
