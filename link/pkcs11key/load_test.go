//go:build pkcs11 && cgo

package pkcs11key

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/ganglion-iot/ganglion/link/clientcert"
	"github.com/ganglion-iot/ganglion/link/clientcert/clientcerttest"
)

const testPIN = "123456"

// token is one of SoftHSM, with a directory of its own.
type token struct {
	module, util, label, dir string
}

func newToken(t *testing.T) token {
	t.Helper()
	k := token{util: clientcerttest.Program(t, "softhsm2-util", "softhsm2"), label: "device", dir: t.TempDir()}
	var err error
	if k.module, err = (Config{}).module(URI{ModuleName: "softhsm2"}); err != nil {
		clientcerttest.Missing(t, "libsofthsm2.so (Debian package softhsm2)")
	}
	conf := filepath.Join(k.dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+k.dir+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	k.addToken(t, k.label)
	return k
}

func (k token) addToken(t *testing.T, label string) {
	t.Helper()
	k.run(t, "--init-token", "--free", "--label", label, "--so-pin", "87654321", "--pin", testPIN)
}

func (k token) run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(k.util, args...).CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util %v: %v: %s", args, err, out)
	}
}

func (k token) importKey(t *testing.T, key crypto.Signer, label string, id byte, more ...string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	k.run(t, append([]string{"--import", file, "--token", k.label, "--pin", testPIN, "--label", label, "--id", hex.EncodeToString([]byte{id})}, more...)...)
}

func (k token) importCertificate(t *testing.T, cert *x509.Certificate, id byte) {
	t.Helper()
	m, err := openModule(k.module)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	slot, _, err := m.slot(URI{Token: k.label})
	if err != nil {
		t.Fatal(err)
	}
	session, err := m.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	defer m.CloseSession(session)
	if err := m.Login(session, pkcs11.CKU_USER, testPIN); err != nil {
		t.Fatal(err)
	}
	if _, err := m.CreateObject(session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_CERTIFICATE), pkcs11.NewAttribute(pkcs11.CKA_CERTIFICATE_TYPE, pkcs11.CKC_X_509),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, false),
		pkcs11.NewAttribute(pkcs11.CKA_SUBJECT, cert.RawSubject), pkcs11.NewAttribute(pkcs11.CKA_VALUE, cert.Raw),
		pkcs11.NewAttribute(pkcs11.CKA_ID, []byte{id}),
	}); err != nil {
		t.Fatal(err)
	}
}

func newKeys(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	keys := map[string]crypto.Signer{}
	for name, curve := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = key
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys["rsa"] = key
	return keys
}

func TestCertificatesInTheToken(t *testing.T) {
	k := newToken(t)
	authority := clientcerttest.NewAuthority(t)
	k.importCertificate(t, authority.Certificate, 99)
	id := byte(0)
	for name, key := range newKeys(t) {
		id++
		k.importKey(t, key, name, id)
		k.importCertificate(t, authority.Issue(t, name, key.Public()), id)
		t.Run(name, func(t *testing.T) {
			pair, closer, err := Load(t.Context(), Config{URI: "pkcs11:token=device;object=" + name + "?pin-value=" + testPIN, Module: k.module})
			if err != nil {
				t.Fatal(err)
			}
			if len(pair.Certificate) != 2 || pair.Leaf.Subject.CommonName != name {
				t.Fatalf("%d certificates, the first of %q", len(pair.Certificate), pair.Leaf.Subject)
			}
			clientcerttest.Handshake(t, pair, authority.Certificate)
			if err := closer.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := pair.PrivateKey.(crypto.Signer).Sign(nil, make([]byte, 32), crypto.SHA256); err == nil {
				t.Fatal("a closed key signs")
			}
		})
	}
}

// A token may hold nothing but the private key.
func TestPrivateKeyOnly(t *testing.T) {
	k := newToken(t)
	authority := clientcerttest.NewAuthority(t)
	keys := newKeys(t)
	id := byte(0)
	for name, key := range keys {
		id++
		k.importKey(t, key, name, id, "--no-public-key")
		t.Run(name, func(t *testing.T) {
			t.Setenv("TOKEN_PIN", testPIN)
			config := Config{
				URI: fmt.Sprintf("pkcs11:id=%%%02X", id), Module: k.module, PINEnv: "TOKEN_PIN",
				CertPEM: clientcert.PEM([]*x509.Certificate{authority.Issue(t, name, key.Public())}),
			}
			pair, closer, err := Load(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			defer closer.Close()
			clientcerttest.Handshake(t, pair, authority.Certificate)
			config.CertPEM = clientcert.PEM([]*x509.Certificate{authority.Certificate})
			if _, _, err := Load(t.Context(), config); err == nil {
				t.Fatal("the certificate of another is taken")
			}
		})
	}
}

func TestRequest(t *testing.T) {
	k := newToken(t)
	k.importKey(t, newKeys(t)["p256"], "key", 1)
	key, closer, err := OpenKey(t.Context(), Config{URI: "pkcs11:?pin-value=" + testPIN, Module: k.module})
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	if _, err := clientcert.Request(key, "sensor-1"); err != nil {
		t.Fatal(err)
	}
}

func TestSignAfterTheSessionEnded(t *testing.T) {
	k := newToken(t)
	k.importKey(t, newKeys(t)["p256"], "key", 1)
	signer, closer, err := OpenKey(t.Context(), Config{URI: "pkcs11:?pin-value=" + testPIN, Module: k.module})
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	key := signer.(*Key)
	for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		if err := key.module.CloseSession(key.session); err != nil {
			t.Fatal(err)
		}
		digest := hash.New().Sum(nil)
		signature, err := key.Sign(nil, digest, hash)
		if err != nil {
			t.Fatal(err)
		}
		if !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest, signature) {
			t.Errorf("%s: the signature is wrong", hash)
		}
	}
}

func TestErrorsForPeople(t *testing.T) {
	k := newToken(t)
	authority := clientcerttest.NewAuthority(t)
	keys := newKeys(t)
	k.importKey(t, keys["p256"], "key", 1)
	k.importKey(t, keys["p384"], "other", 2)
	k.addToken(t, "spare")
	other := clientcert.PEM([]*x509.Certificate{authority.Certificate})
	pin := "?pin-value=" + testPIN
	cases := []struct {
		name   string
		config Config
		want   error
		text   string
	}{
		{"no module", Config{URI: "pkcs11:", Module: "/nowhere.so"}, nil, "/nowhere.so cannot be loaded"},
		{"no token", Config{URI: "pkcs11:token=missing" + pin}, ErrNoToken, "missing"},
		{"another library", Config{URI: "pkcs11:library-manufacturer=Somebody" + pin}, ErrNoToken, ""},
		{"two tokens", Config{URI: "pkcs11:" + pin}, ErrAmbiguous, "2 tokens"},
		{"two keys", Config{URI: "pkcs11:token=device" + pin}, ErrAmbiguous, "2 keys"},
		{"no key", Config{URI: "pkcs11:token=device;object=missing" + pin}, ErrNoKey, "missing"},
		{"no PIN", Config{URI: "pkcs11:token=device;object=key"}, ErrNoKey, "give the PIN"},
		{"wrong PIN", Config{URI: "pkcs11:token=device;object=key?pin-value=999999"}, ErrPIN, ""},
		{"no certificate", Config{URI: "pkcs11:token=device;object=key" + pin}, nil, "no certificate"},
		{"another's certificate", Config{URI: "pkcs11:token=device;object=key" + pin, CertPEM: other}, clientcert.ErrMismatch, "Factory"},
	}
	for _, c := range cases {
		if c.config.Module == "" {
			c.config.Module = k.module
		}
		_, _, err := Load(t.Context(), c.config)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && strings.Contains(err.Error(), testPIN) {
			t.Errorf("%s: the PIN is told: %v", c.name, err)
		}
	}
	if len(modules) != 0 {
		t.Errorf("%d modules stay loaded", len(modules))
	}
}
