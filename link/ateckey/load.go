package ateckey

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"

	"github.com/ganglion-iot/ganglion/link/clientcert"
)

// Pair names one of the two pairs of certificates.
type Pair string

// The pairs. Primary is locked when the chip is provisioned, Aux is not.
const (
	Primary Pair = "primary"
	Aux     Pair = "aux"
)

// Config names a chip and what to use of it.
type Config struct {
	Bus     string  // "1", "i2c-1" or "/dev/i2c-1"; empty: bus 1
	Address uint16  // 7 bits; zero: DefaultAddress
	Pair    Pair    // empty: Primary
	Layout  *Layout // nil: NervesKey

	// The certificates in place of those in the chip, PEM or DER, the
	// device's own first.
	CertFile string
	CertPEM  []byte
}

// signTimeout is for one signature, tries and waits included.
const signTimeout = 10 * time.Second

// Load opens the chip, builds its certificates and checks them and the key
// against each other. The closer must be called when the key is no longer
// needed; then it no longer signs. The context only bounds Load itself.
func Load(ctx context.Context, c Config) (tls.Certificate, io.Closer, error) {
	if err := c.check(); err != nil {
		return tls.Certificate{}, nil, err
	}
	bus, err := openBus(c.Bus)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return LoadFrom(ctx, bus, c)
}

// LoadFrom is Load with a bus of one's own, which it closes: by the closer,
// or before it returns an error.
func LoadFrom(ctx context.Context, bus Bus, c Config) (tls.Certificate, io.Closer, error) {
	key, err := openKey(ctx, bus, c)
	if err != nil {
		bus.Close()
		return tls.Certificate{}, nil, err
	}
	pair, err := key.pair(ctx, c)
	if err != nil {
		key.Close()
		return tls.Certificate{}, nil, err
	}
	return pair, key, nil
}

func (c Config) check() error {
	switch c.Pair {
	case "", Primary, Aux:
	default:
		return fmt.Errorf("the pair of certificates is primary or aux, not %q", c.Pair)
	}
	if c.Address > 0x7f {
		return fmt.Errorf("I²C address %#x has more than 7 bits", c.Address)
	}
	return nil
}

// Key is the private key in a chip, on P-256. It signs for several
// goroutines, one after the other.
type Key struct {
	chip   *chip
	layout Layout
	public *ecdsa.PublicKey
	raw    []byte // the public key, x and y
	serial []byte // the chip's serial number
	name   string // the manufacturer's serial number
	buffer bool   // the chip has a message buffer

	closed chan struct{}
}

// OpenKey opens a chip without looking for certificates, for example to make
// a certificate request. The key must be closed.
func OpenKey(ctx context.Context, c Config) (*Key, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	bus, err := openBus(c.Bus)
	if err != nil {
		return nil, err
	}
	key, err := openKey(ctx, bus, c)
	if err != nil {
		bus.Close()
		return nil, err
	}
	return key, nil
}

func openKey(ctx context.Context, bus Bus, c Config) (*Key, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	k := &Key{chip: newChip(bus, c.Address), layout: NervesKey, closed: make(chan struct{})}
	if c.Layout != nil {
		k.layout = *c.Layout
	}
	// What belongs together is read in one wake; the watchdog allows 0.7 s.
	var config, otp []byte
	err := k.chip.awake(ctx, func() (err error) {
		if config, err = k.chip.read(ctx, zoneConfig, 0, 32); err != nil {
			return err
		}
		otp, err = k.chip.read(ctx, zoneOTP, 0, 64)
		return err
	})
	if err != nil {
		return nil, err
	}
	k.serial = append(bytes.Clone(config[:4]), config[8:13]...)
	k.buffer = config[6] >= 0x60 // revision: 50 for the 508, 60 for the 608
	if k.name, err = manufacturerSerial(otp, k.layout.Magic); err != nil {
		return nil, err
	}
	err = k.chip.awake(ctx, func() (err error) {
		k.raw, err = k.chip.publicKey(ctx, k.layout.KeySlot)
		return err
	})
	if err != nil {
		return nil, err
	}
	if k.public, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point(k.raw)); err != nil {
		return nil, fmt.Errorf("public key of the ATECC chip: %w", err)
	}
	return k, nil
}

// manufacturerSerial reads the name of the device from the one-time
// programmable zone.
func manufacturerSerial(otp, magic []byte) (string, error) {
	if len(otp) != 64 || !bytes.HasPrefix(otp, magic) {
		return "", ErrLayout
	}
	name := otp[16:32]
	if binary.BigEndian.Uint16(otp[4:]) == 1 {
		name = otp[16:64]
	}
	name = bytes.TrimRight(name, "\x00")
	if len(name) == 0 || !utf8.Valid(name) || bytes.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("%w: its serial number is no text", ErrLayout)
	}
	return string(name), nil
}

// Identifier is the manufacturer's serial number: the name of the device in
// its certificate.
func (k *Key) Identifier() string { return k.name }

// pair reads the certificates and joins them with the key.
func (k *Key) pair(ctx context.Context, c Config) (tls.Certificate, error) {
	chain, err := clientcert.Choose(c.CertFile, c.CertPEM, func() ([]*x509.Certificate, error) { return k.certificates(ctx, c.Pair) })
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := clientcert.Pair(chain, k)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("ATECC key: %w", err)
	}
	return pair, nil
}

// certificates builds the device's certificate and that of its signer. A
// signer that does not verify is left out: servers know their signers, and
// only the device's own certificate must be right.
func (k *Key) certificates(ctx context.Context, which Pair) ([]*x509.Certificate, error) {
	slots := k.layout.Primary
	if which == Aux {
		slots = k.layout.Aux
	}
	var device, signerKey, signer []byte
	err := k.chip.awake(ctx, func() (err error) {
		if device, err = k.chip.read(ctx, zoneData, slots.Device, compressedSize); err != nil {
			return err
		}
		if signerKey, err = k.chip.read(ctx, zoneData, slots.SignerKey, 64); err != nil {
			return err
		}
		signer, err = k.chip.read(ctx, zoneData, slots.Signer, compressedSize)
		return err
	})
	if err != nil {
		return nil, err
	}
	if blank(device) || blank(signerKey) {
		return nil, fmt.Errorf("%w (%s)", ErrNoPair, which)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point(signerKey))
	if err != nil {
		return nil, fmt.Errorf("%w: public key of the signer: %w", ErrLayout, err)
	}
	own, err := build(device, k.layout.Device, subject{publicKey: k.raw, signerKey: signerKey, chipSerial: k.serial, name: k.name}, public)
	if err != nil {
		return nil, fmt.Errorf("device certificate (%s): %w", which, err)
	}
	chain := []*x509.Certificate{own}
	if !blank(signer) {
		if cert, err := build(signer, k.layout.Signer, subject{publicKey: signerKey, signerKey: signerKey, chipSerial: k.serial, name: k.name}, public); err == nil {
			chain = append(chain, cert)
		}
	}
	return chain, nil
}

// build makes the certificate again and checks who signed it.
func build(data []byte, t Template, s subject, signer *ecdsa.PublicKey) (*x509.Certificate, error) {
	for _, s.keyID = range keyIDs {
		der, err := rebuild(data, t, s)
		if err != nil {
			return nil, err
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrLayout, err)
		}
		issuer := &x509.Certificate{PublicKey: signer, PublicKeyAlgorithm: x509.ECDSA}
		if issuer.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil {
			return cert, nil
		}
	}
	return nil, ErrSignature
}

// Public returns the public key.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Sign signs a digest by ECDSA. The chip has its own source of randomness, so
// rand is not used.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	select {
	case <-k.closed:
		return nil, errors.New("sign with the ATECC chip: it is closed")
	default:
	}
	if hash := opts.HashFunc(); hash != 0 && len(digest) != hash.Size() {
		return nil, fmt.Errorf("a digest of %d bytes is none of %s", len(digest), hash)
	}
	// The chip takes 32 bytes, as P-256 does: the beginning of a longer
	// digest, or a shorter one as a number.
	fixed := make([]byte, 32)
	copy(fixed[max(0, 32-len(digest)):], digest)
	ctx, cancel := context.WithTimeout(context.Background(), signTimeout)
	defer cancel()
	var raw []byte
	err := k.chip.awake(ctx, func() (err error) {
		raw, err = k.chip.sign(ctx, k.layout.KeySlot, fixed, k.buffer)
		return err
	})
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	addSignature(&b, raw)
	signature, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	if !ecdsa.VerifyASN1(k.public, digest, signature) {
		return nil, errors.New("the ATECC chip made a wrong signature: its private key is another than before, or it is faulty")
	}
	return signature, nil
}

// Close closes the bus.
func (k *Key) Close() error {
	k.chip.mu.Lock()
	defer k.chip.mu.Unlock()
	select {
	case <-k.closed:
		return nil
	default:
	}
	close(k.closed)
	return k.chip.bus.Close()
}
