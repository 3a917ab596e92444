//go:build !pkcs11 || !cgo

package pkcs11key

import (
	"errors"
	"testing"
)

func TestNotBuilt(t *testing.T) {
	if _, _, err := Load(t.Context(), Config{URI: "pkcs11:token=a"}); !errors.Is(err, ErrNotBuilt) {
		t.Errorf("load: %v", err)
	}
	if _, _, err := OpenKey(t.Context(), Config{URI: "pkcs11:token=a"}); !errors.Is(err, ErrNotBuilt) {
		t.Errorf("open: %v", err)
	}
	if _, _, err := Load(t.Context(), Config{URI: "token"}); err == nil || errors.Is(err, ErrNotBuilt) {
		t.Errorf("a bad URI: %v", err)
	}
}
