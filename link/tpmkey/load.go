package tpmkey

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"github.com/google/go-tpm/tpm2"

	"github.com/ganglion-iot/ganglion/link/clientcert"
)

// DefaultCertificateIndex is the non-volatile index that holds the
// certificates where no other is named.
const DefaultCertificateIndex = 0x1000001

// nvChunk is how much of an index is moved at once. Every TPM can do that.
const nvChunk = 512

// Config names a key in a TPM and its certificates.
type Config struct {
	// Device is the path of the TPM, or "unix:PATH" or "tcp:HOST:PORT".
	// Empty: DefaultDevice.
	Device string

	// The key: a persistent handle, a key file, or the content of one.
	Handle  uint32
	KeyFile string
	KeyPEM  []byte

	Auth       []byte // password of the key
	ParentAuth []byte // password of the hierarchy or key that a key file hangs from

	// The certificates, PEM or DER, the device's own first: a file, its
	// content, or an index of the TPM. None of them: DefaultCertificateIndex.
	CertFile  string
	CertPEM   []byte
	CertIndex uint32
	CertAuth  []byte // password of the index
}

// Load opens the key, reads its certificates and checks that they belong
// together. The closer must be called when the key is no longer needed; then
// it no longer signs. The context only bounds Load itself.
func Load(ctx context.Context, c Config) (tls.Certificate, io.Closer, error) {
	d, err := openDevice(ctx, c.Device)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	chain, err := clientcert.Choose(c.CertFile, c.CertPEM, func() ([]*x509.Certificate, error) { return storedCertificates(d, c) })
	if err != nil {
		d.Close()
		return tls.Certificate{}, nil, err
	}
	key, err := openKey(d, c)
	if err != nil {
		d.Close()
		return tls.Certificate{}, nil, err
	}
	pair, err := clientcert.Pair(chain, key)
	if err != nil {
		key.Close()
		return tls.Certificate{}, nil, fmt.Errorf("TPM key: %w", err)
	}
	d.detach()
	return pair, key, nil
}

// storedCertificates are those in an index of the TPM.
func storedCertificates(d *device, c Config) ([]*x509.Certificate, error) {
	index := tpm2.TPMHandle(c.CertIndex)
	if index == 0 {
		index = DefaultCertificateIndex
	}
	data, err := readIndex(d, index, c.CertAuth)
	if err != nil {
		return nil, err
	}
	chain, err := clientcert.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("index %#x of the TPM: %w", uint32(index), err)
	}
	return chain, nil
}

func readIndex(d *device, index tpm2.TPMHandle, auth []byte) ([]byte, error) {
	doing := fmt.Sprintf("read index %#x of the TPM", uint32(index))
	answer, err := tpm2.NVReadPublic{NVIndex: index}.Execute(d)
	if absent(err) {
		return nil, fmt.Errorf("%s: %w (%w)", doing, ErrNoCertificate, err)
	}
	if err != nil {
		return nil, explain(doing, err)
	}
	public, err := answer.NVPublic.Contents()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	named := tpm2.NamedHandle{Handle: index, Name: answer.NVName}
	by := tpm2.AuthHandle{Handle: index, Name: answer.NVName, Auth: session(auth)}
	if !public.Attributes.AuthRead && public.Attributes.OwnerRead {
		by = tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: session(auth)}
	}
	data := make([]byte, 0, public.DataSize)
	for len(data) < int(public.DataSize) {
		size := min(nvChunk, int(public.DataSize)-len(data))
		part, err := tpm2.NVRead{AuthHandle: by, NVIndex: named, Size: uint16(size), Offset: uint16(len(data))}.Execute(d)
		if errors.Is(err, tpm2.TPMRCNVUninitialized) {
			return nil, fmt.Errorf("%s: %w (%w)", doing, ErrNoCertificate, err)
		}
		if err != nil {
			return nil, explain(doing, err)
		}
		if len(part.Data.Buffer) != size {
			return nil, fmt.Errorf("%s: %d bytes instead of %d", doing, len(part.Data.Buffer), size)
		}
		data = append(data, part.Data.Buffer...)
	}
	return data, nil
}
