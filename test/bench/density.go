package main

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"

	"github.com/ganglion-iot/ganglion/internal/pki"
)

const (
	densityDevices = 10_000
	warmUp         = 100 // connections made and closed before the empty server is measured
)

// jitpDir, in the data directory, holds the authority whose devices make
// themselves known.
const jitpDir = "authority"

// memory is that of a server, in KiB.
type memory struct {
	empty   float64 // of the process without devices
	natural float64 // per device, as it is when the last has joined
	settled float64 // per device, after collection
}

// density is the memory of a joined idle device, above the empty server.
func density(ctx context.Context, dir string) ([]row, error) {
	prepared, err := startChild(ctx, "prepare", dir)
	if err != nil {
		return nil, err
	}
	if err := prepared.stop(); err != nil {
		return nil, err
	}
	authority, err := readAuthority(filepath.Join(dir, jitpDir))
	if err != nil {
		return nil, err
	}
	list := names("idle-", densityDevices+warmUp)
	mutual, err := certified(authority, names("certified-", densityDevices+warmUp))
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, w := range []struct {
		name             string
		settled, natural float64 // goals, KiB
		devices          func() []*device
	}{
		{"TLS", 14, 24, func() []*device { return sign(list, prepared.Key, prepared.Secret) }},
		{"mTLS", 18, 30, func() []*device { return mutual }},
		{"plain", 7, 12, func() []*device {
			plain := sign(list, prepared.Key, prepared.Secret)
			for _, d := range plain {
				d.plain = true
			}
			return plain
		}},
	} {
		// First they make themselves known, which is not what is measured.
		if _, err := idle(ctx, dir, prepared.OldUUID, w.devices()); err != nil {
			return rows, err
		}
		m, err := idle(ctx, dir, prepared.OldUUID, w.devices())
		if err != nil {
			return rows, err
		}
		rows = append(rows,
			atMost("memory per joined idle device, "+w.name, m.settled, "KiB", w.settled),
			atMost("the same right after all have joined, "+w.name, m.natural, "KiB", w.natural))
		if w.name == "TLS" {
			rows = append(rows, atMost("memory of a server without devices", m.empty/1024, "MiB", 80))
		}
	}
	return rows, nil
}

// idle connects the devices to a fresh server; the first warmUp only pass
// through.
func idle(ctx context.Context, dir, uuid string, list []*device) (m memory, err error) {
	s, err := startChild(ctx, "serve", dir)
	if err != nil {
		return m, err
	}
	s.OldUUID = uuid
	defer closeAll(list)
	if _, err := connectAll(ctx, s, list[:warmUp], (*device).settle); err != nil {
		return m, err
	}
	closeAll(list[:warmUp])
	if err := s.ask("rss", &m.empty); err != nil {
		return m, err
	}
	if _, err := connectAll(ctx, s, list[warmUp:], (*device).settle); err != nil {
		return m, err
	}
	if err := s.ask("natural", &m.natural); err != nil {
		return m, err
	}
	if err := s.calm(); err != nil {
		return m, err
	}
	if err := s.ask("rss", &m.settled); err != nil {
		return m, err
	}
	m.natural, m.settled = (m.natural-m.empty)/densityDevices, (m.settled-m.empty)/densityDevices
	return m, s.stop()
}

// readAuthority reads the authority that the prepared server knows.
func readAuthority(dir string) (*pki.KeyPair, error) {
	cert, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, err
	}
	private, err := os.ReadFile(filepath.Join(dir, "ca-key.pem"))
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, private)
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("the authority's key does not sign")
	}
	return &pki.KeyPair{Certificate: pair.Leaf, Key: key}, nil
}

// certified makes devices with certificates of an authority.
func certified(authority *pki.KeyPair, list []string) ([]*device, error) {
	devices := make([]*device, len(list))
	for i, name := range list {
		pair, err := pki.IssueDeviceCertificate(authority, name)
		if err != nil {
			return nil, err
		}
		cert := pair.TLS()
		devices[i] = &device{name: name, cert: &cert}
	}
	return devices, nil
}
