package fwup

import (
	"context"
	"errors"
	"io"
	"time"
)

// SignOptions says how to sign.
type SignOptions struct {
	// PrivateKey makes the signature.
	PrivateKey PrivateKey
	// Time becomes the creation date. When zero, it is found as by Create.
	Time time.Time
	// LookupEnv finds variables of the environment; nil for none.
	LookupEnv func(string) (string, bool)
}

// Sign copies an archive and signs it with another key. The content stays, and
// with it the UUID; an old signature is dropped, whatever it was worth. What is
// signed is not judged: use Verify for that. When it fails, w holds part of an
// archive that is of no use.
func Sign(ctx context.Context, r io.Reader, w io.Writer, o SignOptions) error {
	if len(o.PrivateKey) == 0 {
		return errorf(ClassKeyDecode, "a private key is needed to sign")
	}
	a, err := openArchive(ctx, r, archiveOptions{lookupEnv: o.LookupEnv})
	if err != nil {
		return err
	}
	z := newZipWriter(w, 9)
	if err := writeHead(z, a.metaConf, o.PrivateKey, creationTime(o.Time, o.LookupEnv)); err != nil {
		return err
	}
	for {
		m, err := a.zip.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if m.name == signatureName || m.name == metaConfName {
			return errorf(ClassDuplicateFile, "Unexpected %s in the middle of the archive", m.name)
		}
		if err := copyMember(z, m); err != nil {
			return err
		}
	}
	if err := z.close(); err != nil {
		return err
	}
	return a.zip.drain()
}

// copyMember copies a member. One of unknown length stays so: with a length it
// might be taken for a delta, which it was not before.
func copyMember(z *zipWriter, m *member) error {
	if m.name == "data/" && m.size <= 0 {
		return nil // a directory, which nothing needs
	}
	return z.add(m.name, methodDeflate, m.size, time.Time{}, m)
}
