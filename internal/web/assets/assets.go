// Package assets holds the browser's code and styles, bundled by
// scripts/bundle-assets and served under names that change with the content.
package assets

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/http"
)

//go:embed all:dist
var dist embed.FS

// ErrNotBuilt says that the bundle was not made before the program was.
var ErrNotBuilt = errors.New("the browser code is not bundled; build with make")

type file struct{ kind, path, body string }

// Pair is a script and its styles, by their addresses.
type Pair struct{ Script, CSS string }

// Bundle is the browser's code, ready to serve.
type Bundle struct {
	files    map[string]file
	Pair          // of every page
	Terminal Pair // of pages with a terminal, beside that
	Charts   Pair // of pages with charts, beside that
}

// Load reads the bundle out of the program. It fails with ErrNotBuilt if the
// program was built without it.
func Load() (*Bundle, error) {
	b := &Bundle{files: map[string]file{}}
	for name, pair := range map[string]*Pair{"app": &b.Pair, "terminal": &b.Terminal, "charts": &b.Charts} {
		var err error
		if pair.Script, err = b.add(name+".js", "text/javascript; charset=utf-8"); err != nil {
			return nil, err
		}
		if pair.CSS, err = b.add(name+".css", "text/css; charset=utf-8"); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (b *Bundle) add(name, kind string) (string, error) {
	body, err := fs.ReadFile(dist, "dist/"+name)
	if err != nil {
		return "", ErrNotBuilt
	}
	sum := sha256.Sum256(body)
	path := "/assets/" + hex.EncodeToString(sum[:8]) + "/" + name
	b.files[path] = file{kind, path, string(body)}
	return path, nil
}

// ServeHTTP serves the bundle; a browser may keep it for ever.
func (b *Bundle) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := b.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", f.kind)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write([]byte(f.body)) // the browser may have gone
}
