package pkcs11key

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestParseURI(t *testing.T) {
	five := uint(5)
	cases := []struct {
		text string
		want URI
	}{
		{"pkcs11:", URI{}},
		{"pkcs11:token=The%20Software%20PKCS%2311%20Softtoken", URI{Token: "The Software PKCS#11 Softtoken"}},
		{"pkcs11:object=my-pubkey;type=public", URI{Object: "my-pubkey", Type: "public"}},
		{"pkcs11:id=%69%95%3E%5C%F4%BD%EC%91", URI{ID: []byte("\x69\x95\x3e\x5c\xf4\xbd\xec\x91")}},
		{"pkcs11:slot-id=5;slot-description=Reader;slot-manufacturer=Maker", URI{SlotID: &five, SlotDescription: "Reader", SlotManufacturer: "Maker"}},
		{"pkcs11:library-manufacturer=a;library-description=b;library-version=3.1", URI{LibraryManufacturer: "a", LibraryDescription: "b", LibraryVersion: "3.1"}},
		{"pkcs11:manufacturer=m;serial=s;model=o", URI{Manufacturer: "m", Serial: "s", Model: "o"}},
		{"pkcs11:token=t?pin-source=file:/etc/token_pin&module-name=softhsm2", URI{Token: "t", PINFile: "/etc/token_pin", ModuleName: "softhsm2"}},
		{"pkcs11:?pin-source=file:///etc/pin", URI{PINFile: "/etc/pin"}},
		{"pkcs11:?pin-source=/etc/pin", URI{PINFile: "/etc/pin"}},
		{"pkcs11:?pin-value=1%26%3f&module-path=/usr/lib/x.so", URI{PIN: "1&?", ModulePath: "/usr/lib/x.so"}},
		{"pkcs11:x-vendor=1;token=t?x-more=2&other=3", URI{Token: "t"}},
	}
	for _, c := range cases {
		got, err := ParseURI(c.text)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", c.text, got, err)
		}
	}
}

func TestParseURIRefuses(t *testing.T) {
	cases := []struct{ text, why string }{
		{"", "begins with"},
		{"http://example.com", "begins with"},
		{"pkcs11:token", "name=value"},
		{"pkcs11:=a", "name=value"},
		{"pkcs11:token=a;;object=b", "name=value"},
		{"pkcs11:token=a;token=b", "twice"},
		{"pkcs11:token=%zz", "percent"},
		{"pkcs11:colour=red", "not known"},
		{"pkcs11:type=thing", "must be"},
		{"pkcs11:slot-id=-1", "not a number"},
		{"pkcs11:?pin-value=1&pin-source=/etc/pin", "either"},
		{"pkcs11:?pin-source=|/usr/lib/pinomatic", "absolute path"},
		{"pkcs11:?pin-source=pin", "absolute path"},
		{"pkcs11:?module-name=../evil", "without a directory"},
		{"pkcs11:token=" + strings.Repeat("a", maxURI), "at most"},
	}
	for _, c := range cases {
		if _, err := ParseURI(c.text); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%.60s: %v", c.text, err)
		}
	}
	if _, err := ParseURI("pkcs11:token=%zz?pin-value=123456"); err == nil || strings.Contains(err.Error(), "123456") {
		t.Errorf("the PIN is told: %v", err)
	}
}

func TestURIWithoutPIN(t *testing.T) {
	u, err := ParseURI("pkcs11:token=a%20b;id=%01?pin-value=123456&module-name=softhsm2")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := u.String(), "pkcs11:token=a%20b;id=%01?module-name=softhsm2"; got != want {
		t.Errorf("written as %s", got)
	}
}

func TestPINSources(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(file, []byte("1234\r\nnot this\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TOKEN_PIN", "5678")
	cases := []struct {
		name   string
		config Config
		uri    URI
		want   string
		given  bool
	}{
		{"none", Config{}, URI{}, "", false},
		{"value", Config{PIN: "1"}, URI{PIN: "2"}, "1", true},
		{"file", Config{PINFile: file}, URI{PIN: "2"}, "1234", true},
		{"environment", Config{PINEnv: "TOKEN_PIN"}, URI{}, "5678", true},
		{"URI", Config{}, URI{PIN: "2"}, "2", true},
		{"file of the URI", Config{}, URI{PINFile: file}, "1234", true},
	}
	for _, c := range cases {
		got, given, err := c.config.pin(c.uri)
		if err != nil || got != c.want || given != c.given {
			t.Errorf("%s: %q, %v, %v", c.name, got, given, err)
		}
	}
	for _, c := range []Config{{PINFile: file + "x"}, {PINEnv: "NO_SUCH_PIN"}} {
		if _, _, err := c.pin(URI{}); err == nil {
			t.Errorf("a PIN from %+v", c)
		}
	}
}

func TestModule(t *testing.T) {
	if got, err := (Config{Module: "/a.so"}).module(URI{ModulePath: "/b.so"}); err != nil || got != "/a.so" {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := (Config{}).module(URI{ModulePath: "/b.so", ModuleName: "c"}); err != nil || got != "/b.so" {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := (Config{}).module(URI{ModuleName: "no-*-such"}); err == nil || !strings.Contains(err.Error(), "not installed") {
		t.Errorf("%v", err)
	}
}

func FuzzURI(f *testing.F) {
	f.Add("pkcs11:token=a%20b;id=%01;slot-id=7?pin-value=123456&module-name=softhsm2")
	f.Add("pkcs11:type=private;object=x?pin-source=/p")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseURI(text)
		if err != nil {
			return
		}
		again, err := ParseURI(u.String())
		if err != nil {
			t.Fatalf("%q is written as %q: %v", text, u.String(), err)
		}
		u.PIN, u.PINFile = "", ""
		if len(u.ID) == 0 {
			u.ID = nil
		}
		if !reflect.DeepEqual(u, again) {
			t.Fatalf("%q is written as %q", text, u.String())
		}
	})
}
