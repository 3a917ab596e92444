package blob

import (
	"crypto/sha256"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// Prefix is the path below which files are served.
const Prefix = "/files/"

// Signer signs paths for a time. auth.URLSigner is one.
type Signer interface {
	// Sign returns a query string that proves the right to path until expires.
	Sign(path string, expires time.Time) string
	// Verify returns an error unless query holds a signature of path that has
	// not expired at now. It ignores parameters it does not know.
	Verify(path, query string, now time.Time) error
}

// URL returns an address below base from which the object can be fetched
// until expires. A browser saves it under name; "" leaves that to the browser.
func URL(base string, sg Signer, key, name string, expires time.Time) string {
	u := strings.TrimRight(base, "/") + Prefix + key + "?"
	if name != "" {
		u += "name=" + url.QueryEscape(name) + "&"
	}
	return u + sg.Sign(signedPath(key, name), expires)
}

// signedPath is what is signed: the path and the name to save under.
func signedPath(key, name string) string {
	if name == "" {
		return Prefix + key
	}
	return Prefix + key + "?name=" + url.QueryEscape(name)
}

// Handler serves GET and HEAD of signed URLs below Prefix: always with
// Content-Length, with byte ranges (RFC 9110 §14; an end beyond the last byte
// means the last byte), entity tags and If-Range, the same from every store.
// It wants the ResponseWriter of net/http unwrapped, for sendfile.
func Handler(st Store, sg Signer, clock fleet.Clock) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "files are read with GET or HEAD", http.StatusMethodNotAllowed)
			return
		}
		key, ok := strings.CutPrefix(r.URL.Path, Prefix)
		if !ok || CheckKey(key) != nil {
			http.Error(w, "file not found", http.StatusNotFound)
			return
		}
		name := r.URL.Query().Get("name")
		if err := sg.Verify(signedPath(key, name), r.URL.RawQuery, clock.Now()); err != nil {
			http.Error(w, "this link is not valid or has expired: ask for a new one", http.StatusForbidden)
			return
		}
		file, object, err := st.Open(r.Context(), key)
		if err != nil {
			fail(w, err)
			return
		}
		defer file.Close()
		h := w.Header()
		h.Set("Content-Type", "application/octet-stream")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "private, no-transform, max-age=86400")
		h.Set("ETag", entityTag(object))
		if name != "" {
			h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
		}
		http.ServeContent(w, r, "", object.ModTime, file)
	})
}

// entityTag is strong: a key names the same bytes for ever, in every store.
func entityTag(o Object) string {
	sum := sha256.Sum256([]byte(o.Key))
	return fmt.Sprintf(`"%x-%x"`, sum[:8], o.Size)
}

func fail(w http.ResponseWriter, err error) {
	if isMissing(err) {
		http.Error(w, "file not found", http.StatusNotFound)
		return
	}
	w.Header().Set("Retry-After", "5")
	http.Error(w, "the file store is out of reach: try again", http.StatusServiceUnavailable)
}
