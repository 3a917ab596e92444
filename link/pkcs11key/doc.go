// Package pkcs11key gives a device's private key that lives in a PKCS #11
// token, such as a smart card, a secure element or a software store, with its
// certificates, for TLS client authentication.
//
// A key is named by a URI of RFC 7512, for example
//
//	pkcs11:token=device;object=nerves?module-name=softhsm2&pin-source=file:/etc/pin
//
// The certificates are those in the token, the one with the same ID or public
// key first and then its issuers, or those in a file.
//
// Tokens come with a C library. The package therefore does its work only if
// it is built with cgo and the build tag pkcs11; otherwise Load returns
// ErrNotBuilt. URIs are read either way.
package pkcs11key
