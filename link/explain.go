package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// The names of checks, see Diagnose and ConnectError.
const (
	CheckSettings          = "settings"
	CheckClock             = "clock"
	CheckDNS               = "dns"
	CheckProxy             = "proxy"
	CheckTCP               = "tcp"
	CheckTLS               = "tls"
	CheckServerCertificate = "server certificate"
	CheckCertificate       = "device certificate"
	CheckAuthentication    = "authentication"
	CheckJoin              = "join"
)

// ConnectError is why a device could not connect, in words for whoever looks
// after it. Client.Disconnected and Options.OnError are told it, and it is
// what Diagnose says.
type ConnectError struct {
	Check  string // the name of the check that fails
	Advice string // one sentence: what is wrong, and what to do
	Err    error  // as the library that failed said it
}

// Error gives the advice, and the cause in brackets.
func (e *ConnectError) Error() string { return e.Advice + " (" + e.Err.Error() + ")" }

// Unwrap gives the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// RefusedError is an answer of the server other than the one that was hoped
// for.
type RefusedError struct {
	Status     int           // of HTTP
	Reason     string        // as the server told it; may be empty
	RetryAfter time.Duration // as the server asked for; 0: it did not

	server time.Time // the server's clock; zero: unknown
	err    error
}

// Error tells the status and the reason.
func (e *RefusedError) Error() string {
	switch {
	case e.Reason != "":
		return fmt.Sprintf("refused with status %d: %s", e.Status, e.Reason)
	case e.err != nil:
		return fmt.Sprintf("refused with status %d: %v", e.Status, e.err)
	}
	return fmt.Sprintf("refused with status %d", e.Status)
}

// Unwrap gives what the WebSocket library made of the answer.
func (e *RefusedError) Unwrap() error { return e.err }

// proxyError is a refusal of the proxy to connect.
type proxyError struct{ status string }

func (e *proxyError) Error() string { return "the proxy answered " + e.status }

// circumstances are what an error is to be understood by.
type circumstances struct {
	host string // and port, of the server
	credentials
	now time.Time // by the device's clock
}

// explain adds advice to an error of connecting. One that nothing is known
// about stays as it is; so does one that is explained already.
func explain(err error, c circumstances) error {
	var known *ConnectError
	if err == nil || errors.As(err, &known) || errors.Is(err, context.Canceled) {
		return err
	}
	for _, words := range []func(error, circumstances) (string, string){
		explainSettings, explainRefusal, explainProxy, explainServerCertificate, explainName, explainAlert, explainNetwork,
	} {
		if check, advice := words(err, c); check != "" {
			return &ConnectError{Check: check, Advice: advice, Err: err}
		}
	}
	return err
}

func explainSettings(err error, _ circumstances) (check, advice string) {
	switch {
	case errors.Is(err, errNoCredentials):
		return CheckSettings, "The device has no credentials: give it a certificate with its key, or a shared secret, in the settings or in its key-value store."
	case errors.Is(err, errHalfSecret):
		return CheckSettings, "The shared secret is incomplete: give both its key and its secret."
	case errors.Is(err, errNoIdentifier):
		return CheckSettings, "The device has no identifier: give one in the settings, or a serial number in its key-value store."
	}
	return "", ""
}

// explainRefusal words an answer of the server.
func explainRefusal(err error, c circumstances) (check, advice string) {
	var refused *RefusedError
	if !errors.As(err, &refused) {
		return "", ""
	}
	switch status := refused.Status; {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return explainUnauthorized(refused, c)
	case status == http.StatusTooManyRequests:
		return CheckAuthentication, "The server takes no more connections from here for now: wait, the device tries again by itself; if it lasts, look for another device with the same identifier or address."
	case status >= 500:
		return CheckAuthentication, "The server cannot check the device at the moment: wait, the device tries again by itself; if it lasts, look at the server's log."
	case status >= 300 && status < 400:
		return CheckSettings, fmt.Sprintf("%s sends devices to an address that is of no use: check the host and the port; devices have a port of their own, which is not that of the website.", c.host)
	}
	return CheckSettings, fmt.Sprintf("%s is no server for devices: check the host and the port; devices have a port of their own, which is not that of the website.", c.host)
}

// skew is how far clocks may be apart before that is the likely reason of a
// refusal.
const skew = time.Minute

func explainUnauthorized(refused *RefusedError, c circumstances) (check, advice string) {
	if c.certificate == nil {
		return explainSecret(refused, c)
	}
	if advice := explainCode(refused.Reason, c); advice != "" {
		return CheckAuthentication, advice
	}
	if refused.Reason != "" {
		return CheckAuthentication, "The server does not take the device's certificate: " + sentence(refused.Reason)
	}
	return CheckAuthentication, fmt.Sprintf("The server does not take the device's certificate: register the certificate itself, or that of its signer%s, with the organization on the server.", issuer(c.certificate))
}

// maxCode bounds what is taken for a reason in a word or two, in bytes. Longer
// ones tell what to do themselves.
const maxCode = 40

// explainCode words a reason that is little more than a code.
func explainCode(reason string, c circumstances) (advice string) {
	lower := strings.ToLower(reason)
	unknown := strings.Contains(lower, "issuer") && strings.Contains(lower, "unknown")
	switch {
	case unknown:
		reason = "unknown issuer" // the server does not name it, and the device can
	case len(reason) > maxCode:
		return ""
	}
	for _, code := range []struct {
		words  []string
		advice func() string
	}{
		{[]string{"unknown ca", "unknown issuer", "unknown authority", "unknown signer"}, func() string {
			return fmt.Sprintf("The server does not know who signed the device's certificate: register the certificate of the signer%s with the organization on the server.", issuer(c.certificate))
		}},
		{[]string{"expired", "not yet valid"}, func() string {
			return "The server takes the device's certificate for out of date: check its dates and the clocks of both sides, or issue a new one."
		}},
		{[]string{"not registered", "unknown device"}, func() string {
			return fmt.Sprintf("The server knows the signer but not the device: create the device %q there, or let the signer register devices.", c.identifier)
		}},
	} {
		for _, w := range code.words {
			if strings.Contains(strings.ReplaceAll(strings.ToLower(reason), "_", " "), w) {
				return code.advice()
			}
		}
	}
	return ""
}

func explainSecret(refused *RefusedError, c circumstances) (check, advice string) {
	if apart := refused.server.Sub(c.now); !refused.server.IsZero() && apart.Abs() > skew {
		return CheckClock, clockAdvice(apart)
	}
	if refused.Reason != "" {
		return CheckAuthentication, "The server does not take the shared secret: " + sentence(refused.Reason)
	}
	if strings.HasPrefix(c.key, productPrefix) {
		return CheckAuthentication, fmt.Sprintf("The server does not take the product's shared secret: check that the key %s and its secret belong together and are active there, and that the identifier %q is not that of a device elsewhere.", c.key, c.identifier)
	}
	return CheckAuthentication, fmt.Sprintf("The server does not take the device's shared secret: check that the key %s and its secret belong together and are active there, and that they are those of the device %q.", c.key, c.identifier)
}

// sentence makes one of what the server said.
func sentence(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "")
	}
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

// clockAdvice words how far the server's clock is ahead.
func clockAdvice(ahead time.Duration) string {
	word := "behind"
	if ahead < 0 {
		word = "ahead of"
	}
	return fmt.Sprintf("The device's clock is %s %s the server's: set it, for example by NTP.", ahead.Abs().Round(time.Second), word)
}

// issuer names who signed a certificate, in brackets after a space.
func issuer(cert *tls.Certificate) string {
	leaf, err := leafOf(cert)
	if err != nil || leaf.Issuer.String() == "" {
		return ""
	}
	return " (" + leaf.Issuer.String() + ")"
}

func leafOf(cert *tls.Certificate) (*x509.Certificate, error) {
	if cert.Leaf != nil {
		return cert.Leaf, nil
	}
	return x509.ParseCertificate(cert.Certificate[0])
}

func explainProxy(err error, _ circumstances) (check, advice string) {
	var refused *proxyError
	if errors.As(err, &refused) {
		if strings.HasPrefix(refused.status, "407") {
			return CheckProxy, "The proxy asks who is there: give its user and password in the proxy's address."
		}
		return CheckProxy, "The proxy does not connect to the server: let it CONNECT to the server's host and port, or go without the proxy."
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if op, ok := e.(*net.OpError); ok && op.Op == "proxyconnect" { //nolint:errorlint // the way down goes on below others of its type
			return CheckProxy, "The proxy cannot be reached or does not connect to the server: check the proxy's address, its user and password, and that it may connect to the server."
		}
	}
	return "", ""
}

// explainServerCertificate words what this side finds wrong with the other.
func explainServerCertificate(err error, c circumstances) (check, advice string) {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		other   *tls.CertificateVerificationError
		noTLS   tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &noTLS), errors.Is(err, http.ErrSchemeMismatch):
		return CheckTLS, fmt.Sprintf("%s answers, but not with TLS: check the port, or give the host as ws://%s if it is meant to be unprotected.", c.host, c.host)
	case errors.As(err, &unknown):
		return CheckServerCertificate, "The device does not know the authority that signed the server's certificate: add that authority's certificate to those the device trusts, and check that nothing between them breaks up TLS."
	case errors.As(err, &name):
		return CheckServerCertificate, fmt.Sprintf("The server's certificate is not for %s: use the name that is in the certificate as host or server name, or issue a certificate for this one.", c.host)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		if c.now.Before(invalid.Cert.NotBefore) {
			return CheckClock, fmt.Sprintf("The server's certificate is valid from %s on, and the device's clock says %s: set the clock, for example by NTP.", day(invalid.Cert.NotBefore), day(c.now))
		}
		return CheckServerCertificate, fmt.Sprintf("The server's certificate was valid until %s, and the device's clock says %s: renew the certificate on the server, or set the clock if it is wrong.", day(invalid.Cert.NotAfter), day(c.now))
	case errors.As(err, &other), errors.As(err, &invalid):
		return CheckServerCertificate, "The server's certificate is not valid: issue a new one on the server."
	}
	return "", ""
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func explainName(err error, c circumstances) (check, advice string) {
	var dns *net.DNSError
	if !errors.As(err, &dns) {
		return "", ""
	}
	if dns.IsNotFound {
		return CheckDNS, fmt.Sprintf("There is no address for the name %s: check the host in the settings, and the device's name server.", dns.Name)
	}
	return CheckDNS, fmt.Sprintf("No name server tells the address of %s: check that the device has a network and a name server that answers.", first(dns.Name, c.host))
}

// alerts are what a server says in TLS when it does not take a device, and
// what that means.
var alerts = []struct{ text, advice string }{
	{"unknown certificate authority", "The server does not know who signed the device's certificate: register the certificate of the signer%s with the organization on the server."},
	{"expired certificate", "The server takes the device's certificate for out of date: check its dates and the clocks of both sides, or issue a new one%s."},
	{"certificate required", "The server asks for a certificate of the device: give the device a certificate and its key, or use the port for shared secrets%s."},
	{"bad certificate", "The server does not take the device's certificate: register the certificate itself, or that of its signer%s, with the organization on the server."},
	{"access denied", "The server does not take the device's certificate: register the certificate itself, or that of its signer%s, with the organization on the server."},
	{"revoked certificate", "The device's certificate was revoked: issue a new one%s."},
	{"protocol version not supported", "The server and the device have no version of TLS in common: allow TLS 1.2 and 1.3 on both sides%s."},
	{"handshake failure", "The server breaks the TLS handshake off: it does not take the device's certificate%s, or has no cipher suite in common with the device; look at the server's log."},
}

func explainAlert(err error, c circumstances) (check, advice string) {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return "", ""
	}
	for _, a := range alerts {
		if strings.Contains(op.Err.Error(), a.text) {
			by := ""
			if c.certificate != nil && strings.Contains(a.text, "certificate") {
				by = issuer(c.certificate)
			}
			return CheckTLS, fmt.Sprintf(a.advice, by)
		}
	}
	return CheckTLS, "The server breaks the TLS handshake off: look at the server's log."
}

func explainNetwork(err error, c circumstances) (check, advice string) {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return CheckTCP, fmt.Sprintf("Nothing listens at %s: check the host and the port, and that the server runs.", c.host)
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return CheckTCP, fmt.Sprintf("There is no way to %s: check that the device has a network and a default route.", c.host)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return CheckTCP, fmt.Sprintf("%s does not answer: check the host and the port, and that no firewall is in between.", c.host)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return CheckTLS, fmt.Sprintf("%s hangs up before the device is connected: check the port, and that nothing in between cuts connections.", c.host)
	}
	return "", ""
}
