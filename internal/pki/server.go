package pki

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Names of the files in the directory of the self-made certificates. The
// authority's certificate is what devices are given to trust.
const (
	caFile        = "ca.pem"
	caKeyFile     = "ca-key.pem"
	serverFile    = "server.pem"
	serverKeyFile = "server-key.pem"
)

// renewBefore is how long before its end the server's certificate is replaced.
const renewBefore = 365 * 24 * time.Hour

// LoadOrCreateServerCertificate returns the device listener's certificate from
// dir, and the path of the authority's certificate that devices must trust.
// What is missing is made: an authority once, and a certificate for localhost,
// the loopback addresses, the host's name and hosts (names or addresses). The
// certificate is made anew when hosts has one it lacks, when less than a year
// of it is left, or when it is damaged; the authority never is. Private keys
// get mode 0600.
func LoadOrCreateServerCertificate(dir string, hosts []string) (cert tls.Certificate, ca string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return cert, "", fmt.Errorf("directory for TLS: %w", err)
	}
	ca = filepath.Join(dir, caFile)
	authority, err := loadOrCreateAuthority(dir)
	if err != nil {
		return cert, "", err
	}
	names, addresses, err := subjects(hosts)
	if err != nil {
		return cert, "", err
	}
	file, keyFile := filepath.Join(dir, serverFile), filepath.Join(dir, serverKeyFile)
	cert, err = tls.LoadX509KeyPair(file, keyFile)
	if err == nil && serves(cert.Leaf, authority.Certificate, names, addresses, time.Now()) {
		return cert, ca, nil
	}
	if err != nil && errors.Is(err, os.ErrPermission) {
		return cert, "", fmt.Errorf("server certificate: %w", err)
	}
	pair, err := issue(authority, &x509.Certificate{
		Subject:     pkix.Name{CommonName: "Ganglion device listener"},
		DNSNames:    names,
		IPAddresses: addresses,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, serverLifetime)
	if err != nil {
		return cert, "", err
	}
	if err := pair.save(file, keyFile); err != nil {
		return cert, "", fmt.Errorf("keep server certificate: %w", err)
	}
	return pair.TLS(), ca, nil
}

// serves reports whether a certificate is the authority's, has enough time
// left, and has all the names.
func serves(cert, ca *x509.Certificate, names []string, addresses []net.IP, now time.Time) bool {
	if VerifyChain(ca, cert, now.Add(renewBefore), true) != nil {
		return false
	}
	for _, name := range names {
		if !slices.Contains(cert.DNSNames, name) {
			return false
		}
	}
	for _, address := range addresses {
		if !slices.ContainsFunc(cert.IPAddresses, address.Equal) {
			return false
		}
	}
	return true
}

// subjects sorts hosts into names and addresses, after those every server has.
func subjects(hosts []string) (names []string, addresses []net.IP, err error) {
	names = []string{"localhost"}
	addresses = []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback}
	if name, err := os.Hostname(); err == nil && validHost(name) && !slices.Contains(names, strings.ToLower(name)) {
		names = append(names, strings.ToLower(name))
	}
	for _, host := range hosts {
		if ip := net.ParseIP(strings.Trim(host, "[]")); ip != nil {
			if !slices.ContainsFunc(addresses, ip.Equal) {
				addresses = append(addresses, ip)
			}
			continue
		}
		if !validHost(host) {
			return nil, nil, fmt.Errorf("%.100q is neither a host name nor an IP address", host)
		}
		if host = strings.ToLower(host); !slices.Contains(names, host) {
			names = append(names, host)
		}
	}
	return names, addresses, nil
}

func validHost(s string) bool {
	s = strings.TrimPrefix(s, "*.")
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// loadOrCreateAuthority makes an authority only where there is no certificate
// yet: devices may trust the one that is there.
func loadOrCreateAuthority(dir string) (*KeyPair, error) {
	file, keyFile := filepath.Join(dir, caFile), filepath.Join(dir, caKeyFile)
	_, err := os.Stat(file)
	switch {
	case err == nil:
		cert, err := tls.LoadX509KeyPair(file, keyFile)
		if err != nil {
			return nil, fmt.Errorf("certificate authority in %s: %w", dir, err)
		}
		key, ok := cert.PrivateKey.(crypto.Signer)
		if !ok || !cert.Leaf.IsCA {
			return nil, fmt.Errorf("certificate authority in %s: %s is not an authority's certificate", dir, caFile)
		}
		if time.Now().After(cert.Leaf.NotAfter) {
			return nil, fmt.Errorf("certificate authority in %s: %w", dir, ErrCAExpired)
		}
		return &KeyPair{Certificate: cert.Leaf, Key: key}, nil
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	pair, err := CreateCA("Ganglion device listener CA")
	if err != nil {
		return nil, err
	}
	if err := pair.save(file, keyFile); err != nil {
		return nil, fmt.Errorf("keep certificate authority: %w", err)
	}
	return pair, nil
}

// save writes the key and then the certificate, each whole or not at all.
func (p *KeyPair) save(file, keyFile string) error {
	key, err := p.KeyPEM()
	if err != nil {
		return err
	}
	if err := writeFile(keyFile, key, 0o600); err != nil {
		return err
	}
	return writeFile(file, p.CertificatePEM(), 0o644)
}

func writeFile(path string, b []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
