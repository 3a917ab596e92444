// Package tpmkey gives a device's private key that lives in a TPM 2.0, with
// its certificates, for TLS client authentication.
//
// The key is either persistent in the TPM (a handle from 0x81000000) or kept
// outside as a key file, which only this TPM can use: PEM of type
// "TSS2 PRIVATE KEY", as the TPM engines and providers of OpenSSL write it.
// Keys are ECDSA on P-256 or P-384, or RSA.
//
// The certificates are in a file, or in a non-volatile index of the TPM:
// 0x1000001 where nothing else is said.
//
// CreateKey and StoreCertificate provision a device:
//
//	made, err := tpmkey.CreateKey(ctx, tpmkey.CreateConfig{})
//	// keep made.PEM as key file
//	key, err := tpmkey.OpenKey(ctx, tpmkey.Config{KeyFile: file})
//	request, err := clientcert.Request(key, "sensor-1")
//	// have it signed
//	err = tpmkey.StoreCertificate(ctx, tpmkey.StoreConfig{Certificates: pem})
//
// The TPM is best reached by its resource manager, /dev/tpmrm0, which lets
// several programs use it at once. A simulator is reached by "unix:" and the
// path of its socket, or by "tcp:" and host and port.
package tpmkey
