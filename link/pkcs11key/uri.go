package pkcs11key

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// maxURI bounds the bytes of a URI.
const maxURI = 4096

// URI names objects in a token, after RFC 7512. Empty fields match anything.
type URI struct {
	Token, Manufacturer, Serial, Model                      string // of the token
	Object                                                  string // label of the object
	Type                                                    string // private, public, cert, secret-key or data
	ID                                                      []byte // of the object
	SlotManufacturer, SlotDescription                       string
	SlotID                                                  *uint
	LibraryManufacturer, LibraryDescription, LibraryVersion string

	ModulePath, ModuleName string // the library to load
	PIN                    string // never printed
	PINFile                string // where to read it
}

// ParseURI reads a URI. Attributes that are not known are refused in the path,
// since they would narrow the match, except those with a name from x-; in the
// query they are ignored. Errors do not repeat the URI, as it may hold a PIN.
func ParseURI(text string) (u URI, err error) {
	if len(text) > maxURI {
		return u, fmt.Errorf("a PKCS #11 URI of %d bytes: at most %d are read", len(text), maxURI)
	}
	rest, ok := strings.CutPrefix(text, "pkcs11:")
	if !ok {
		return u, errors.New(`a PKCS #11 URI begins with "pkcs11:"`)
	}
	path, query, _ := strings.Cut(rest, "?")
	if err := u.attributes(path, ";", u.setPath); err != nil {
		return URI{}, err
	}
	if err := u.attributes(query, "&", u.setQuery); err != nil {
		return URI{}, err
	}
	if u.PIN != "" && u.PINFile != "" {
		return URI{}, errors.New("a PKCS #11 URI has either pin-value or pin-source")
	}
	return u, nil
}

func (u *URI) attributes(text, separator string, set func(name, value string) error) error {
	if text == "" {
		return nil
	}
	seen := map[string]bool{}
	for part := range strings.SplitSeq(text, separator) {
		name, raw, ok := strings.Cut(part, "=")
		if !ok || name == "" {
			return errors.New("a PKCS #11 URI consists of name=value")
		}
		value, err := url.PathUnescape(raw)
		if err != nil {
			return fmt.Errorf("PKCS #11 URI: %s: bad percent encoding", printable(name))
		}
		if seen[name] {
			return fmt.Errorf("PKCS #11 URI: %s is there twice", printable(name))
		}
		seen[name] = true
		if err := set(name, value); err != nil {
			return fmt.Errorf("PKCS #11 URI: %s: %w", printable(name), err)
		}
	}
	return nil
}

func printable(name string) string { return strconv.Quote(name[:min(len(name), 40)]) }

func (u *URI) setPath(name, value string) error {
	texts := map[string]*string{
		"token": &u.Token, "manufacturer": &u.Manufacturer, "serial": &u.Serial, "model": &u.Model,
		"object": &u.Object, "type": &u.Type, "slot-manufacturer": &u.SlotManufacturer, "slot-description": &u.SlotDescription,
		"library-manufacturer": &u.LibraryManufacturer, "library-description": &u.LibraryDescription, "library-version": &u.LibraryVersion,
	}
	switch to, ok := texts[name]; {
	case ok:
		*to = value
	case name == "id":
		u.ID = []byte(value)
	case name == "slot-id":
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return errors.New("not a number")
		}
		id := uint(n)
		u.SlotID = &id
	case !strings.HasPrefix(name, "x-"):
		return errors.New("not known")
	}
	switch u.Type {
	case "", "private", "public", "cert", "secret-key", "data":
		return nil
	}
	return errors.New("must be private, public, cert, secret-key or data")
}

func (u *URI) setQuery(name, value string) error {
	switch name {
	case "module-path":
		u.ModulePath = value
	case "module-name":
		if value == "" || strings.ContainsRune(value, filepath.Separator) {
			return errors.New("a name without a directory is wanted")
		}
		u.ModuleName = value
	case "pin-value":
		u.PIN = value
	case "pin-source":
		file := strings.TrimPrefix(strings.TrimPrefix(value, "file://"), "file:")
		if strings.HasPrefix(value, "|") || !filepath.IsAbs(file) {
			return errors.New("only the absolute path of a file can be a source of the PIN")
		}
		u.PINFile = file
	}
	return nil
}

// String writes the URI without its PIN and without where the PIN is.
func (u URI) String() string {
	var path, query []string
	add := func(to *[]string, name, value string) {
		if value != "" {
			*to = append(*to, name+"="+escape(value))
		}
	}
	add(&path, "token", u.Token)
	add(&path, "manufacturer", u.Manufacturer)
	add(&path, "serial", u.Serial)
	add(&path, "model", u.Model)
	add(&path, "object", u.Object)
	add(&path, "type", u.Type)
	add(&path, "id", string(u.ID))
	add(&path, "slot-manufacturer", u.SlotManufacturer)
	add(&path, "slot-description", u.SlotDescription)
	if u.SlotID != nil {
		add(&path, "slot-id", strconv.FormatUint(uint64(*u.SlotID), 10))
	}
	add(&path, "library-manufacturer", u.LibraryManufacturer)
	add(&path, "library-description", u.LibraryDescription)
	add(&path, "library-version", u.LibraryVersion)
	add(&query, "module-path", u.ModulePath)
	add(&query, "module-name", u.ModuleName)
	text := "pkcs11:" + strings.Join(path, ";")
	if len(query) > 0 {
		text += "?" + strings.Join(query, "&")
	}
	return text
}

// escape encodes everything that is not plain, byte by byte.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~/", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
