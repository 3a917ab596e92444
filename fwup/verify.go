package fwup

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// VerifyOptions says what Verify asks of an archive.
type VerifyOptions struct {
	// PublicKeys are the keys that are trusted. When there are any, the archive
	// has to be signed with one of them.
	PublicKeys []PublicKey
	// LookupEnv finds the variables that meta.conf asks for, such as
	// os.LookupEnv; nil for none. Servers must leave it alone: archives of
	// others could read their secrets.
	LookupEnv func(string) (string, bool)
	// Strict also refuses what devices accept but nobody should publish: a
	// central directory that says something else than the members in stream
	// order, names that could leave a directory or stand twice, a meta.conf that
	// is cut off, a signature with bytes behind it, deltas, and anything before
	// or behind the archive.
	Strict bool
}

// Verify reads a whole archive in one pass, to the end of r, and checks
// everything in it: the signature, the order and names of the members, the
// length and hash of every resource. It needs little memory, whatever the size
// of the archive.
//
// The error is an *Error when the archive is to blame. Otherwise it is the one
// of r or of ctx.
func Verify(ctx context.Context, r io.Reader, o VerifyOptions) (*Info, error) {
	a, err := openArchive(ctx, r, archiveOptions{keys: o.PublicKeys, lookupEnv: o.LookupEnv, keep: o.Strict})
	if err != nil {
		return nil, err
	}
	if err := a.verify(o.Strict); err != nil {
		return nil, a.zip.placed(err)
	}
	return a.info, nil
}

func (a *archive) verify(strict bool) error {
	if strict {
		if err := a.checkStrictHead(); err != nil {
			return err
		}
	}
	if err := a.verifyResources(strict, nil); err != nil {
		return err
	}
	if strict {
		return a.zip.checkCentral()
	}
	return a.zip.drain()
}

// checkStrictHead refuses what no program that makes archives would write.
func (a *archive) checkStrictHead() error {
	switch {
	case a.secondName != "":
		return secondNameError(a.secondName)
	case a.longSignature:
		return errorf(ClassStrict, "The signature is followed by something else")
	case a.syntax.cutOff:
		return errorf(ClassStrict, "meta.conf ends in the middle of a section")
	}
	return nil
}

// taskNeeds is what a device takes of an archive to run one task.
type taskNeeds struct {
	task *task
	// open reads a resource of the task, also from a delta.
	open func(*member, *resourceTask) (*resourceStream, error)
}

// verifyResources reads the members behind the head. When need is not nil it
// takes what a device takes that runs one task: unknown members pass, only the
// resources of the task have to be there, and their deltas are decoded.
func (a *archive) verifyResources(strict bool, need *taskNeeds) error {
	seen := make(map[string]bool, len(a.resources))
	directory := false
	for {
		m, err := a.zip.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if strict {
			if err := m.checkStrict(); err != nil {
				return err
			}
			if m.name == "data/" && directory {
				return errorf(ClassStrict, "The file name %q stands twice in the archive", m.name)
			}
			directory = directory || m.name == "data/"
		}
		if m.name == "data/" && m.size <= 0 {
			continue
		}
		name := m.resourceName()
		res := a.resources[name]
		switch {
		case res == nil && need != nil:
			continue
		case res == nil:
			return errorf(ClassUnknownFile, "Can't find file-resource for %s", name).about(name)
		case seen[name] && need == nil:
			return errorf(ClassDuplicateFile, "Processing %s twice. Archive is corrupt.", name).about(name)
		}
		seen[name] = true
		if err := verifyResource(m, res, strict, need); err != nil {
			return err
		}
	}
	for _, name := range a.names {
		if !seen[name] && (need == nil || need.task.forResource(name) != nil) {
			return errorf(ClassResourceMissing, "Resource %s not found in archive", name).about(name)
		}
	}
	return nil
}

func verifyResource(m *member, res *resource, strict bool, need *taskNeeds) error {
	if !validHash(res.hash) {
		return errorf(ClassHashMissing, "invalid blake2b-256 hash for '%s'", res.name).about(res.name)
	}
	s := newResourceStream(res, m)
	if isDelta(m, res) {
		if strict {
			return errorf(ClassLength, "'%s' has %d bytes, but should have %d: complete firmware is needed, not a delta", res.name, m.size, res.layout.dataSize()).about(res.name)
		}
		var on *resourceTask
		if need != nil {
			on = need.task.forResource(res.name)
		}
		if on == nil {
			return checkDeltaHeader(m, res.name)
		}
		var err error
		if s, err = need.open(m, on); err != nil {
			return err
		}
	}
	if err := s.each(func([]byte, int64) error { return nil }); err != nil {
		return err
	}
	var more [1]byte
	n, err := io.ReadFull(s.r, more[:])
	switch {
	case n > 0 || s.read != res.layout.dataSize() || s.delta != nil && s.delta.made > s.read:
		return errorf(ClassLength, "ZIP data length mismatch for %s", res.name).about(res.name)
	case !errors.Is(err, io.EOF):
		return err
	case !s.hashFits():
		return errorf(ClassHash, "Detected blake2b digest mismatch for %s", res.name).about(res.name)
	}
	return nil
}

// rewindAfter runs f, which reads r, and then goes back to where r was.
func rewindAfter(r io.Reader, f func() error) error {
	seeker, ok := r.(io.Seeker)
	if !ok {
		return errors.New("the archive cannot be read twice, as verifying it first needs")
	}
	at, err := seeker.Seek(0, io.SeekCurrent)
	if err != nil {
		return fmt.Errorf("the archive cannot be read twice, as verifying it first needs: %w", err)
	}
	if err := f(); err != nil {
		return err
	}
	if _, err := seeker.Seek(at, io.SeekStart); err != nil {
		return fmt.Errorf("read the archive again: %w", err)
	}
	return nil
}
