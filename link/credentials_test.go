package link

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
)

// TestSharedSecretSelection goes through the order in which devices of the
// original look for a key and its secret.
func TestSharedSecretSelection(t *testing.T) {
	all := map[string]string{
		"nh_shared_key": "nhd_stored", "nh_shared_secret": "stored secret",
		"nh_shared_product_key": "nhp_stored", "nh_shared_product_secret": "stored product secret",
	}
	config := SharedSecret{Key: "nhd_given", Secret: "given secret", ProductKey: "nhp_given", ProductSecret: "given product secret"}
	stored := func(keys ...string) map[string]string {
		m := map[string]string{}
		for _, k := range keys {
			m["nh_shared_"+k] = all["nh_shared_"+k]
		}
		return m
	}
	for _, c := range []struct {
		name        string
		stored      map[string]string
		config      SharedSecret
		key, secret string
	}{
		{"everything", all, config, "nhd_stored", "stored secret"},
		{"no key of the device stored", stored("secret", "product_key", "product_secret"), config, "nhd_given", "stored secret"},
		{"only config", nil, config, "nhd_given", "given secret"},
		{"product stored before product given", stored("product_key", "product_secret"), SharedSecret{ProductKey: "nhp_given", ProductSecret: "given product secret"}, "nhp_stored", "stored product secret"},
		{"product given", nil, SharedSecret{ProductKey: "nhp_given", ProductSecret: "given product secret"}, "nhp_given", "given product secret"},
		{"product key, its secret stored", stored("product_secret"), SharedSecret{ProductKey: "nhp_given", ProductSecret: "given product secret"}, "nhp_given", "stored product secret"},
		{"key given before product stored", stored("product_key", "product_secret"), SharedSecret{Key: "nhd_given", Secret: "given secret"}, "nhd_given", "given secret"},
		{"a product's key in the device's place", map[string]string{"nh_shared_key": "nhp_here", "nh_shared_secret": "not this", "nh_shared_product_secret": "stored product secret"}, config, "nhp_here", "stored product secret"},
		{"a product's key in the device's place, given", nil, SharedSecret{Key: "nhp_x", Secret: "given secret"}, "nhp_x", "given secret"},
		{"stored key, given secret", stored("key"), config, "nhd_stored", "given secret"},
		{"nothing", nil, SharedSecret{}, "", ""},
	} {
		if key, secret := c.config.choose(c.stored); key != c.key || secret != c.secret {
			t.Errorf("%s: %s, %q; want %s, %q", c.name, key, secret, c.key, c.secret)
		}
	}
}

func TestCredentialsOfTheStore(t *testing.T) {
	leaf := newAuthority(t, "signer").issue(t, "sensor-1", nil)
	cert := string(block("CERTIFICATE", leaf.Certificate[0]))
	key := string(block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(leaf.PrivateKey.(*ecdsa.PrivateKey)))))
	pair := map[string]string{"nerves_hub_cert": cert, "nerves_hub_key": key}
	secret := map[string]string{"nh_shared_key": "nhd_k", "nh_shared_secret": "s"}
	merge := func(maps ...map[string]string) map[string]string {
		all := map[string]string{}
		for _, m := range maps {
			for k, v := range m {
				all[k] = v
			}
		}
		return all
	}
	serial := map[string]string{"nerves_serial_number": "serial-1", "serial_number": "old-1"}
	for _, c := range []struct {
		name       string
		options    Options
		stored     map[string]string
		identifier string
		by         string // certificate, or the key
		err        string
	}{
		{"a certificate", Options{Identifier: "d"}, merge(pair, secret), "d", "certificate", ""},
		{"half a certificate", Options{Identifier: "d"}, merge(secret, map[string]string{"nerves_hub_cert": cert}), "d", "nhd_k", ""},
		{"a secret", Options{Identifier: "d"}, secret, "d", "nhd_k", ""},
		{"a secret is asked for", Options{Identifier: "d", Secret: &SharedSecret{}}, merge(pair, secret), "d", "nhd_k", ""},
		{"given goes first", Options{Identifier: "d", Certificate: &leaf}, secret, "d", "certificate", ""},
		{"the serial number", Options{}, merge(serial, secret), "serial-1", "nhd_k", ""},
		{"the old serial number", Options{}, merge(map[string]string{"serial_number": "old-1"}, secret), "old-1", "nhd_k", ""},
		{"no serial number", Options{}, secret, "", "", "identifier"},
		{"nothing", Options{Identifier: "d"}, nil, "", "", "is needed"},
		{"no secret", Options{Identifier: "d"}, map[string]string{"nh_shared_key": "nhd_k"}, "", "", "a key and a secret"},
		{"damaged", Options{Identifier: "d"}, merge(pair, map[string]string{"nerves_hub_key": "x"}), "", "", "nerves_hub_key"},
	} {
		store := &MemoryStore{}
		if err := store.Put(t.Context(), c.stored); err != nil {
			t.Fatal(err)
		}
		c.options.Store = store
		got, err := c.options.credentials(t.Context())
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		by := got.key
		if got.certificate != nil {
			by = "certificate"
		}
		if err != nil || by != c.by || got.identifier != c.identifier {
			t.Errorf("%s: %s by %s, %v", c.name, got.identifier, by, err)
		}
	}
	broken := Options{Identifier: "d", Store: JSONFile(t.TempDir())}
	if _, err := broken.credentials(t.Context()); err == nil {
		t.Error("read credentials from a directory")
	}
}

// TestProvisionedWhileItRuns: a device that has no credentials waits for them,
// and connects once somebody puts them into its store.
func TestProvisionedWhileItRuns(t *testing.T) {
	store := &MemoryStore{}
	r := newRig(t, func(r *rig) {
		r.options.Identifier, r.options.Secret, r.options.Store = "", nil, store
	})
	r.run()
	err := await(t, "the reason", r.client.lost)
	var why *ConnectError
	if !errors.As(err, &why) || why.Check != CheckSettings {
		t.Errorf("lost by %v", err)
	}
	if err := store.Put(t.Context(), map[string]string{"nerves_serial_number": "sensor-9", "nh_shared_key": "nhd_k", "nh_shared_secret": "s"}); err != nil {
		t.Fatal(err)
	}
	c := r.connection()
	c.join()
	if got := c.request.Header.Get("x-nh-key"); got != "nhd_k" {
		t.Errorf("signed by %q", got)
	}
}
