// Package ateckey gives a device's private key that lives in an ATECC508A or
// ATECC608A/B chip on an I²C bus, with its certificates, for TLS client
// authentication. It reads chips that are provisioned as NervesKey.
//
// # What is in the chip
//
// NervesKey is the Layout that describes such a chip: the private key in slot
// 0, and two pairs of compressed certificates, which share the key.
//
//	pair     device certificate   signer's public key   signer certificate
//	primary  slot 10              slot 11               slot 12
//	aux      slot 9               slot 14               slot 15
//
// The one-time programmable zone begins with "Nrvs", two bytes of flags (big
// endian) and ten of a board name, followed by the manufacturer's serial
// number: 16 bytes, or 48 if the flags are 1, padded with zeros. It is the
// common name of the device certificate.
//
// # Compressed certificates
//
// A certificate is kept as 72 bytes, by an application note of the maker:
//
//	 0  64  signature: r and s
//	64   3  dates: years since 2000 (5 bits), month (4), day (5) and hour (5)
//	        of issue, years to expiry (5; 0 means 9999-12-31 23:59:59)
//	67   2  number of the signer
//	69   1  template (4 bits), chain (4 bits)
//	70   1  source of the serial number (4 bits), format (4 bits, 0)
//	71   1  0
//
// Everything else is known in advance: the certificate is built again, byte
// for byte, and its signature proves that nothing was assumed wrongly.
// The serial number is the first 16 bytes of a SHA-256, with the top two bits
// set to 01: of the public key and the dates (source 0xA), or of the chip's
// serial number and the dates (source 0xB). The other sources are refused:
// nothing that provisions NervesKeys uses them.
//
// The chip's maker leaves two things open that NervesKey decides, and which
// are therefore part of the Layout: names are UTF8String with a common name
// only, and the extensions are, in this order, for the device: basic
// constraints (empty, not critical), key usage (critical: digital signature,
// key encipherment), extended key usage (client), authority key identifier;
// for the signer: basic constraints (critical: authority, path length 0), key
// usage (critical: digital signature, certificate and CRL signing), extended
// key usage (server, client), subject and authority key identifier. Key
// identifiers are the SHA-1 of the public key information or of the point in
// it: both are tried.
//
// Chips that the maker provisions itself (Trust&Go) have other templates and
// are not read.
//
// # Bus
//
// The chip wakes when the data line is low for 60 µs, which a byte to address
// 0 does only on a bus of at most 133 kHz: set the bus to 100 kHz if the chip
// is not found. The input and output of the kernel's /dev/i2c-N is built in
// with the build tag atecc, on Linux; without it Load returns ErrNotBuilt.
// Everything else is always built, and takes any Bus.
package ateckey
