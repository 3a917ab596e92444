package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// Parameters of a signed URL.
const (
	paramExpires   = "expires"
	paramSignature = "signature"
)

// URLSigner signs paths for a time, by HMAC-SHA-256.
type URLSigner struct {
	keys [][]byte // the first one signs
}

// URLSigner returns the signer under the ring's keys.
func (r *Keyring) URLSigner() URLSigner {
	var s URLSigner
	for _, k := range r.keys {
		s.keys = append(s.keys, k.url)
	}
	return s
}

// Sign returns a query string that proves the right to path until expires,
// which is cut to seconds.
func (s URLSigner) Sign(path string, expires time.Time) string {
	at := strconv.FormatInt(expires.Unix(), 10)
	return paramExpires + "=" + at + "&" + paramSignature + "=" + base64.RawURLEncoding.EncodeToString(urlMAC(s.keys[0], path, at))
}

// Verify returns an Unauthorized error unless query holds a signature of path
// that has not expired at now. It ignores parameters it does not know.
func (s URLSigner) Verify(path, query string, now time.Time) error {
	refused := fleet.Errorf(fleet.Unauthorized, "the link's signature is not valid")
	if len(query) > 4096 {
		return refused
	}
	q, err := url.ParseQuery(query)
	if err != nil || len(q[paramExpires]) != 1 || len(q[paramSignature]) != 1 {
		return refused
	}
	at, text := q.Get(paramExpires), q.Get(paramSignature)
	expires, err := strconv.ParseInt(at, 10, 64)
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return refused
	}
	mac, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return refused
	}
	for _, key := range s.keys {
		if hmac.Equal(mac, urlMAC(key, path, at)) {
			if now.Unix() >= expires {
				return fleet.Errorf(fleet.Unauthorized, "the link has expired")
			}
			return nil
		}
	}
	return refused
}

func urlMAC(key []byte, path, expires string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(expires + "\n" + path))
	return m.Sum(nil)
}
