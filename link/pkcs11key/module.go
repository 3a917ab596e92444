//go:build pkcs11 && cgo

package pkcs11key

import (
	"errors"
	"fmt"
	"sync"

	"github.com/miekg/pkcs11"
)

// module is a loaded library. A process initializes a library once, however
// many keys it uses.
type module struct {
	*pkcs11.Ctx
	path  string
	users int
	ours  bool // initialized by us
}

var (
	modulesMu sync.Mutex
	modules   = map[string]*module{}
)

func openModule(path string) (*module, error) {
	modulesMu.Lock()
	defer modulesMu.Unlock()
	if m := modules[path]; m != nil {
		m.users++
		return m, nil
	}
	ctx := pkcs11.New(path)
	if ctx == nil {
		return nil, fmt.Errorf("PKCS #11 module %s cannot be loaded: check that it exists and is made for this system", path)
	}
	m := &module{Ctx: ctx, path: path, users: 1, ours: true}
	if err := ctx.Initialize(); err != nil {
		if !is(err, pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
			ctx.Destroy()
			return nil, fmt.Errorf("PKCS #11 module %s: %w", path, err)
		}
		m.ours = false
	}
	modules[path] = m
	return m, nil
}

func (m *module) close() error {
	modulesMu.Lock()
	defer modulesMu.Unlock()
	if m.users--; m.users > 0 {
		return nil
	}
	delete(modules, m.path)
	var err error
	if m.ours {
		err = m.Finalize()
	}
	m.Destroy()
	return err
}

func is(err error, codes ...pkcs11.Error) bool {
	var code pkcs11.Error
	if !errors.As(err, &code) {
		return false
	}
	for _, c := range codes {
		if code == c {
			return true
		}
	}
	return false
}

// slot finds the one token that matches the URI.
func (m *module) slot(u URI) (slot uint, info pkcs11.TokenInfo, err error) {
	library, err := m.GetInfo()
	if err != nil {
		return 0, info, fmt.Errorf("PKCS #11 module %s: %w", m.path, err)
	}
	version := fmt.Sprintf("%d.%d", library.LibraryVersion.Major, library.LibraryVersion.Minor)
	if !matches(u.LibraryManufacturer, library.ManufacturerID) || !matches(u.LibraryDescription, library.LibraryDescription) || !matches(u.LibraryVersion, version) {
		return 0, info, fmt.Errorf("%w %s: the module is another", ErrNoToken, u)
	}
	slots, err := m.GetSlotList(true)
	if err != nil {
		return 0, info, fmt.Errorf("PKCS #11 module %s: %w", m.path, err)
	}
	found := 0
	for _, id := range slots {
		token, err := m.GetTokenInfo(id)
		if is(err, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_TOKEN_NOT_RECOGNIZED) {
			continue // pulled out meanwhile, or empty
		}
		if err != nil {
			return 0, info, fmt.Errorf("PKCS #11 module %s: %w", m.path, err)
		}
		place, err := m.GetSlotInfo(id)
		if err != nil {
			return 0, info, fmt.Errorf("PKCS #11 module %s: %w", m.path, err)
		}
		if token.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 || u.SlotID != nil && *u.SlotID != id ||
			!matches(u.Token, token.Label) || !matches(u.Manufacturer, token.ManufacturerID) ||
			!matches(u.Serial, token.SerialNumber) || !matches(u.Model, token.Model) ||
			!matches(u.SlotManufacturer, place.ManufacturerID) || !matches(u.SlotDescription, place.SlotDescription) {
			continue
		}
		found++
		slot, info = id, token
	}
	switch found {
	case 0:
		return 0, info, fmt.Errorf("%w %s", ErrNoToken, u)
	case 1:
		return slot, info, nil
	}
	return 0, info, fmt.Errorf("%d tokens for %s: %w", found, u, ErrAmbiguous)
}

func matches(want, got string) bool { return want == "" || want == got }
