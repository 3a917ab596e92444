package pki

import "crypto/tls"

// DeviceTLSConfig is the TLS policy of the device listener: TLS 1.2, which
// devices of the field insist on, and 1.3; key exchange with forward secrecy,
// X25519 first; authenticated encryption only; HTTP/1.1, which WebSocket
// upgrades need. A client certificate is asked for and neither demanded nor
// believed: who presents one is looked up afterwards, so that a refusal can be
// an HTTP answer. No authorities are named in the request, or devices would
// hold back certificates of others.
func DeviceTLSConfig(cert tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{cert},
		MinVersion:   tls.VersionTLS12,
		MaxVersion:   tls.VersionTLS13,
		ClientAuth:   tls.RequestClientCert,
		NextProtos:   []string{"http/1.1"},
		CipherSuites: []uint16{ // of TLS 1.2; those of 1.3 are all good
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384},
	}
}
