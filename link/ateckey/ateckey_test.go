package ateckey

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ganglion-iot/ganglion/link/clientcert"
	"github.com/ganglion-iot/ganglion/link/clientcert/clientcerttest"
)

// Packets as logic analysers show them.
func TestRecordedPackets(t *testing.T) {
	for _, c := range []struct {
		op, param1 byte
		param2     uint16
		want       string
	}{
		{opRead, zoneConfig | read32, 0, "0307028000 0009ad"},
		{opRandom, 0, 0, "03071b000000 24cd"},
	} {
		want, err := hex.DecodeString(strings.ReplaceAll(c.want, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got := packCommand(c.op, c.param1, c.param2, nil); !bytes.Equal(got, want) {
			t.Errorf("packet % x instead of % x", got, want)
		}
	}
	if content, err := unpackResponse(wakeAnswer); err != nil || !bytes.Equal(content, []byte{0x11}) {
		t.Errorf("wake answer: % x, %v", content, err)
	}
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		packet string
		want   int
		status byte
		crc    bool
		ok     bool
	}{
		{"04001303", 1, 0, true, false},
		{"04000340", 1, 0, false, true},
		{"04000340ffff", 1, 0, false, true},
		{"04000340", 32, 0, true, false},
		{"04113343", 32, 0x11, false, false},
		{"040f2342", 1, 0x0f, false, false},
		{"", 1, 0, true, false},
		{"03", 1, 0, true, false},
		{"ff00", 1, 0, true, false},
		{"0400", 1, 0, true, false},
	} {
		packet, err := hex.DecodeString(c.packet)
		if err != nil {
			t.Fatal(err)
		}
		_, err = interpret(packet, c.want)
		var status StatusError
		switch {
		case c.ok:
			if err != nil {
				t.Errorf("%s: %v", c.packet, err)
			}
		case c.crc:
			if !errors.Is(err, ErrCRC) {
				t.Errorf("%s: %v", c.packet, err)
			}
		default:
			if !errors.As(err, &status) || byte(status) != c.status {
				t.Errorf("%s: %v", c.packet, err)
			}
		}
	}
}

func TestLoad(t *testing.T) {
	for _, c := range []struct {
		name, serial string
		is608        bool
	}{
		{"508", "AER245UNQOY4T3Q", false},
		{"608", "AER245UNQOY4T3Q", true},
		{"long serial number", "a-serial-number-of-32-characters", false},
		{"full serial number", "1234567890123456", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, made := newFakeChip(t, c.serial)
			if f.is608 = c.is608; c.is608 {
				f.config[6], f.config[7] = 0x60, 0x02
			}
			pair, closer, err := LoadFrom(t.Context(), f, Config{})
			if err != nil {
				t.Fatal(err)
			}
			if len(pair.Certificate) != 2 || pair.Leaf.Subject.CommonName != c.serial || !bytes.Equal(pair.Certificate[1], made.cert.Raw) {
				t.Fatalf("%d certificates, the first of %q", len(pair.Certificate), pair.Leaf.Subject)
			}
			clientcerttest.Handshake(t, pair, made.cert)
			if f.awake {
				t.Error("the chip is left awake")
			}
			if err := closer.Close(); err != nil || !f.closed {
				t.Fatalf("closed %v, %v", f.closed, err)
			}
			if _, err := pair.PrivateKey.(crypto.Signer).Sign(nil, make([]byte, 32), crypto.SHA256); err == nil {
				t.Fatal("a closed key signs")
			}
		})
	}
}

func TestAuxiliaryPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, first := newFakeChip(t, "one")
		if _, _, err := LoadFrom(t.Context(), f, Config{Pair: Aux}); !errors.Is(err, ErrNoPair) {
			t.Fatalf("a pair that is not there: %v", err)
		}
		second := newFactory(t, time.Date(2025, 1, 2, 3, 0, 0, 0, time.UTC), 1)
		f.provision(t, NervesKey.Aux, second, "one")
		for pair, made := range map[Pair]factory{Primary: first, Aux: second} {
			got, _, err := LoadFrom(t.Context(), f, Config{Pair: pair})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Certificate[1], made.cert.Raw) {
				t.Errorf("%s: signer %x", pair, got.Certificate[1])
			}
		}
	})
}

func TestSignDigests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := newFakeChip(t, "one")
		key, err := openKey(t.Context(), f, Config{})
		if err != nil {
			t.Fatal(err)
		}
		if key.Identifier() != "one" {
			t.Errorf("identifier %q", key.Identifier())
		}
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			digest := hash.New().Sum(nil)
			signature, err := key.Sign(nil, digest, hash)
			if err != nil || !ecdsa.VerifyASN1(&f.key.PublicKey, digest, signature) {
				t.Errorf("%s: %v", hash, err)
			}
		}
		if _, err := key.Sign(nil, make([]byte, 20), crypto.SHA256); err == nil {
			t.Error("a digest of another size is signed")
		}
		if _, err := clientcert.Request(key, key.Identifier()); err != nil {
			t.Error(err)
		}
		f.key = newECKey(t)
		if _, err := key.Sign(nil, make([]byte, 32), crypto.SHA256); err == nil || !strings.Contains(err.Error(), "wrong signature") {
			t.Errorf("signature of another key: %v", err)
		}
	})
}

// A bus is noisy and chips are slow: one fault anywhere changes nothing.
func TestFaultsOnTheBus(t *testing.T) {
	statuses := []byte{statusCRC, statusWatchdog, statusAwake}
	for name, spoil := range map[string]func(n int, answer []byte){
		"bit":    func(n int, answer []byte) { answer[1+n%(len(answer)-1)] ^= 0x10 },
		"length": func(_ int, answer []byte) { answer[0] = 0xff },
		"status": func(n int, answer []byte) {
			answer[0], answer[1] = 4, statuses[n%len(statuses)]
			crc := crc16(answer[:2])
			answer[2], answer[3] = crc[0], crc[1]
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for n := range 40 {
					f, _ := newFakeChip(t, "one")
					f.damage = func(at int, answer []byte) bool {
						if at == n {
							spoil(n, answer)
						}
						return at == n
					}
					pair, _, err := LoadFrom(t.Context(), f, Config{})
					if err != nil {
						t.Fatalf("answer %d spoilt: %v", n, err)
					}
					digest := make([]byte, 32)
					if _, err := pair.PrivateKey.(crypto.Signer).Sign(nil, digest, crypto.SHA256); err != nil {
						t.Fatalf("answer %d spoilt: %v", n, err)
					}
					if f.commands <= n {
						break
					}
				}
			})
		})
	}
}

func TestSlowChip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := newFakeChip(t, "one")
		f.slow = 15 * time.Millisecond
		if _, _, err := LoadFrom(t.Context(), f, Config{}); err != nil {
			t.Fatal(err)
		}
	})
}

// Another program may have left the chip awake, in the middle of something.
func TestChipLeftAwake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := newFakeChip(t, "one")
		_ = f.Write(0, []byte{0})
		time.Sleep(2 * time.Millisecond)
		_ = f.Write(f.address, packCommand(opRandom, 0, 0, nil))
		if _, _, err := LoadFrom(t.Context(), f, Config{}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestErrorsForPeople(t *testing.T) {
	other := newFactory(t, time.Date(2024, 5, 6, 7, 0, 0, 0, time.UTC), 20)
	cases := []struct {
		name   string
		change func(*fakeChip, *Config)
		want   error
	}{
		{"no chip", func(f *fakeChip, _ *Config) { f.absent = true }, ErrNoChip},
		{"another address", func(_ *fakeChip, c *Config) { c.Address = 0x35 }, ErrNoChip},
		{"too slow", func(f *fakeChip, _ *Config) { f.slow = time.Second }, ErrNAK},
		{"always damaged", func(f *fakeChip, _ *Config) {
			f.damage = func(_ int, answer []byte) bool { answer[1] ^= 1; return true }
		}, ErrCRC},
		{"not provisioned", func(f *fakeChip, _ *Config) { f.otp = [64]byte{} }, ErrLayout},
		{"no serial number", func(f *fakeChip, _ *Config) { clear(f.otp[16:]) }, ErrLayout},
		{"blank", func(f *fakeChip, _ *Config) { clear(f.slots[10]) }, ErrNoPair},
		{"foreign template", func(f *fakeChip, _ *Config) { f.slots[10][69] = 0x70 }, ErrLayout},
		{"renamed", func(f *fakeChip, _ *Config) { f.otp[16] = 'X' }, ErrSignature},
		{"certificate of another key", func(f *fakeChip, c *Config) {
			c.CertPEM = clientcert.PEM([]*x509.Certificate{other.cert})
		}, clientcert.ErrMismatch},
		{"pair", func(_ *fakeChip, c *Config) { c.Pair = "third" }, nil},
		{"address of 8 bits", func(_ *fakeChip, c *Config) { c.Address = 0xc0 }, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, _ := newFakeChip(t, "one")
				var config Config
				c.change(f, &config)
				_, _, err := LoadFrom(t.Context(), f, config)
				if err == nil || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("%v", err)
				}
				if !f.closed {
					t.Error("the bus stays open")
				}
			})
		})
	}
}

// A signer's certificate that is damaged does not keep the device away.
func TestSignerLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := newFakeChip(t, "one")
		f.slots[12][5] ^= 1
		pair, _, err := LoadFrom(t.Context(), f, Config{})
		if err != nil || len(pair.Certificate) != 1 {
			t.Fatalf("%d certificates, %v", len(pair.Certificate), err)
		}
	})
}

func TestBusNames(t *testing.T) {
	_, _, err := Load(t.Context(), Config{Bus: "i2c-12345"})
	if !Available {
		if !errors.Is(err, ErrNotBuilt) {
			t.Errorf("%v", err)
		}
	} else if err == nil || !strings.Contains(err.Error(), "/dev/i2c-12345") {
		t.Errorf("%v", err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte{4, 0, 3, 0x40}, 1)
	f.Add(wakeAnswer, 32)
	f.Fuzz(func(t *testing.T, packet []byte, want int) {
		content, err := interpret(packet, want)
		if err == nil && len(content) != want {
			t.Fatalf("%d bytes instead of %d", len(content), want)
		}
	})
}
