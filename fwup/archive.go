package fwup

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"slices"
	"time"
)

const (
	signatureName = "meta.conf.ed25519"
	metaConfName  = "meta.conf"

	minMetaConf = 10    // bytes
	maxMetaConf = 49999 // bytes
)

// Info is what the head of an archive says.
type Info struct {
	Metadata
	// Key is the public key that the signature was verified with, nil when no
	// key was given.
	Key PublicKey
	// Signed reports whether there is a signature, verified or not.
	Signed bool
	// Tasks are the names of the tasks, in the order of the configuration.
	Tasks []string
	// Variables are the names of the variables that meta.conf asks of the
	// environment it is read in, sorted. Devices fill them in when they apply
	// the archive, whatever was signed.
	Variables []string
}

// archive is an archive of which the head was read.
type archive struct {
	zip      *zipReader
	info     *Info
	metaConf []byte // as signed
	modified time.Time
	// longSignature reports that the signature's member has more than that.
	longSignature bool
	// secondName is the name of a member of the head that has another one too.
	secondName string
	conf       *section
	syntax     metaSyntax
	tasks      []*task
	resources  map[string]*resource
	names      []string // of the resources, in the order of the configuration
}

// archiveOptions says how to read an archive.
type archiveOptions struct {
	keys      []PublicKey
	lookupEnv func(string) (string, bool) // for ${VAR} in meta.conf, nil for none
	buffer    int                         // bytes read ahead, 0 for zipBuffer
	keep      bool                        // remember the members for checkCentral
	zone      *time.Location              // of times that do not say theirs, nil for UTC
}

// openArchive reads the signature and meta.conf, which come first, and checks
// the one with the other when keys are given.
func openArchive(ctx context.Context, r io.Reader, o archiveOptions) (*archive, error) {
	if o.buffer == 0 {
		o.buffer = zipBuffer
	}
	z := newZipReader(ctx, r, o.buffer)
	z.keep, z.zone = o.keep, o.zone
	a := &archive{zip: z}
	if err := a.open(o); err != nil {
		return nil, z.placed(err)
	}
	return a, nil
}

func (a *archive) open(o archiveOptions) error {
	signature, err := a.readHead()
	if err != nil {
		return err
	}
	key, err := checkSignature(a.metaConf, signature, o.keys)
	if err != nil {
		return err
	}
	if err := a.parse(o.lookupEnv); err != nil {
		return err
	}
	a.info = &Info{
		Metadata: metadataOf(a.conf, a.metaConf, a.modified), Key: key, Signed: signature != nil,
		Variables: a.syntax.variables,
	}
	for _, t := range a.tasks {
		a.info.Tasks = append(a.info.Tasks, t.name)
	}
	return nil
}

// placed adds to an error where in the archive reading stopped.
func (z *zipReader) placed(err error) error {
	var e *Error
	if errors.As(err, &e) && e.Offset == 0 {
		e.Offset = z.src.off()
	}
	return err
}

// readHead reads the signature, nil when there is none, and meta.conf.
func (a *archive) readHead() (signature []byte, err error) {
	m, err := a.zip.next()
	if err != nil {
		return nil, err
	}
	if m.name == signatureName {
		signature = make([]byte, ed25519.SignatureSize)
		if n, err := io.ReadFull(m, signature); err != nil {
			if a.zip.src.err != nil {
				return nil, a.zip.src.err
			}
			return nil, errorf(ClassSignatureSize, "Unexpected meta.conf.ed25519 size: %d", n).because(err)
		}
		sig := m
		a.noteSecondName(sig)
		m, err = a.zip.next()
		a.longSignature = sig.read > ed25519.SignatureSize
		if errors.Is(err, io.EOF) {
			return nil, errorf(ClassMetaMissing, "Expecting more than meta.conf.ed25519 in archive")
		}
		if err != nil {
			return nil, err
		}
	}
	if m.name != metaConfName {
		return nil, errorf(ClassMetaNotFirst, "Expecting meta.conf to be at the beginning of the archive")
	}
	a.modified = m.modified
	a.noteSecondName(m)
	a.metaConf, err = readMetaConf(m)
	return signature, err
}

func (a *archive) noteSecondName(m *member) {
	if m.otherName {
		a.secondName = m.name
	}
}

func readMetaConf(m *member) ([]byte, error) {
	size := m.size
	var b []byte
	if size < 0 || size >= minMetaConf && size <= maxMetaConf {
		var err error
		b, err = io.ReadAll(io.LimitReader(m, maxMetaConf+1))
		if err != nil && m.zip.src.err != nil {
			return nil, m.zip.src.err
		}
		if err != nil {
			return nil, errorf(ClassMetaSize, "Unexpected meta.conf size: 0").because(err)
		}
		size = int64(len(b))
	}
	if size < minMetaConf || size > maxMetaConf {
		return nil, errorf(ClassMetaSize, "Unexpected meta.conf size: %d", size)
	}
	return b, nil
}

// checkSignature returns the first key that the signature was made with.
// Without keys everything passes, a signature too.
func checkSignature(message, signature []byte, keys []PublicKey) (PublicKey, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	if signature == nil {
		return nil, &Error{
			Class: ClassSignatureMissing, Msg: "Expecting signed firmware archive.",
			Hint: "sign it with: fwup -S -s KEY -i FILE -o FILE",
		}
	}
	for _, key := range keys {
		if len(key) == ed25519.PublicKeySize && ed25519.Verify(key, message, signature) {
			return bytes.Clone(key), nil
		}
	}
	return nil, errorf(ClassSignatureInvalid, "Firmware archive's meta.conf fails digital signature verification.")
}

func (a *archive) parse(lookupEnv func(string) (string, bool)) (err error) {
	if a.conf, a.syntax, err = parseMetaConfIn(a.metaConf, lookupEnv); err != nil {
		return classify(err, ClassMetaParse)
	}
	if a.tasks, err = tasksOf(a.conf); err != nil {
		return classify(err, ClassMetaParse)
	}
	list, err := resourcesOf(a.conf)
	if err != nil {
		return classify(err, ClassMetaParse)
	}
	a.resources = make(map[string]*resource, len(list))
	for _, r := range list {
		a.resources[r.name] = r
		a.names = append(a.names, r.name)
	}
	return nil
}

// ReadOptions says how to read the head of an archive.
type ReadOptions struct {
	// PublicKeys are the keys that are trusted. When there are any, the archive
	// has to be signed with one of them.
	PublicKeys []PublicKey
	// LookupEnv finds the variables that meta.conf asks for, such as
	// os.LookupEnv; nil for none. Servers must leave it alone: archives of
	// others could read their secrets.
	LookupEnv func(string) (string, bool)
	// Location is the zone of a creation date that does not say its own, as in
	// archives that other programs packed again; nil for UTC.
	Location *time.Location
}

// ReadHead reads the head of an archive: as much as it takes to know its
// metadata, tasks and signature, and a buffer more.
func ReadHead(r io.Reader, o ReadOptions) (*Info, error) {
	a, err := openArchive(context.Background(), r, archiveOptions{
		keys: o.PublicKeys, lookupEnv: o.LookupEnv, zone: o.Location, buffer: 4096,
	})
	if err != nil {
		return nil, err
	}
	return a.info, nil
}

// ReadMetadata is ReadHead with keys only. The signature is verified when keys
// are given; any of them will do.
func ReadMetadata(r io.Reader, keys []PublicKey) (*Info, error) {
	return ReadHead(r, ReadOptions{PublicKeys: keys})
}

// ListTasks returns the names of the tasks of an archive, sorted. It reads the
// head only, as ReadMetadata.
func ListTasks(r io.Reader, keys []PublicKey) ([]string, error) {
	info, err := ReadMetadata(r, keys)
	if err != nil {
		return nil, err
	}
	slices.Sort(info.Tasks)
	return info.Tasks, nil
}
