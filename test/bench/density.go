package main

import (
	"context"
	"crypto/tls"
	"os"
	"path/filepath"

	"github.com/ganglion-iot/ganglion/internal/pki"
)

const (
	densityDevices = 2000
	warmUp         = 100 // connections made and closed before the empty server is measured
)

// density is the memory of a joined idle device, above the empty server.
func density(ctx context.Context, dir string) ([]row, error) {
	list := names("idle-", densityDevices+warmUp)
	certs, err := certificates(filepath.Join(dir, "devices"), list)
	if err != nil {
		return nil, err
	}
	prepared, err := startChild(ctx, "prepare", dir)
	if err != nil {
		return nil, err
	}
	if err := prepared.stop(); err != nil {
		return nil, err
	}
	overTLS, err := idleKiB(ctx, dir, prepared.OldUUID, sign(list, prepared.Key, prepared.Secret))
	if err != nil {
		return nil, err
	}
	mutual := make([]*device, len(list))
	for i, name := range list {
		mutual[i] = &device{name: name, cert: &certs[i]}
	}
	overMTLS, err := idleKiB(ctx, dir, prepared.OldUUID, mutual)
	if err != nil {
		return nil, err
	}
	return []row{
		atMost("memory per joined idle device, TLS", overTLS, "KiB", 16),
		atMost("memory per joined idle device, mTLS", overMTLS, "KiB", 20),
	}, nil
}

// idleKiB connects the devices to a fresh server; the first warmUp only pass
// through.
func idleKiB(ctx context.Context, dir, uuid string, list []*device) (float64, error) {
	s, err := startChild(ctx, "serve", dir)
	if err != nil {
		return 0, err
	}
	b, err := newBench(s)
	if err != nil {
		return 0, err
	}
	defer closeAll(list)
	connect := func(d *device, i int) error {
		if err := b.connect(ctx, d, i); err != nil {
			return err
		}
		return d.join(uuid)
	}
	if _, err := each(list[:warmUp], connect); err != nil {
		return 0, err
	}
	closeAll(list[:warmUp])
	var empty, full float64
	if err := s.ask("rss", &empty); err != nil {
		return 0, err
	}
	if _, err := each(list[warmUp:], connect); err != nil {
		return 0, err
	}
	if err := s.ask("rss", &full); err != nil {
		return 0, err
	}
	return (full - empty) / densityDevices, s.stop()
}

// certificates makes a key pair and certificate for each name and writes the
// certificates below dir for the child to register.
func certificates(dir string, list []string) ([]tls.Certificate, error) {
	ca, err := pki.CreateCA("bench")
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	certs := make([]tls.Certificate, len(list))
	for i, name := range list {
		pair, err := pki.IssueDeviceCertificate(ca, name)
		if err != nil {
			return nil, err
		}
		certs[i] = pair.TLS()
		err = os.WriteFile(filepath.Join(dir, name+".pem"), pair.CertificatePEM(), 0o600)
		if err != nil {
			return nil, err
		}
	}
	return certs, nil
}
