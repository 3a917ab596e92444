package fwup

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/blake2b"
)

// CreateOptions says what to make an archive of.
type CreateOptions struct {
	// ConfigPath is the configuration file, "-" for Stdin. The host paths in it
	// are relative to its directory.
	ConfigPath string
	Stdin      io.Reader
	// PrivateKey signs the archive; without it the archive is not signed.
	PrivateKey PrivateKey
	// Time is the creation date. When zero, SOURCE_DATE_EPOCH of LookupEnv says
	// it, else NOW, else it is the present. The same time and the same files
	// give the same bytes.
	Time time.Time
	// Level is how hard to compress, 1 to 9; 0 is 9, as fwup does.
	Level int
	// LookupEnv finds the variables of the environment that the configuration
	// may use, such as os.LookupEnv; nil for none.
	LookupEnv func(string) (string, bool)
}

// Create writes an archive. The files that go into it are read twice: for
// their hashes, and for their bytes. When it fails, w holds part of an archive
// that is of no use.
//
// The error is an *Error when the configuration or its files are to blame.
func Create(ctx context.Context, w io.Writer, o CreateOptions) error {
	level, err := compression(o.Level)
	if err != nil {
		return err
	}
	at := creationTime(o.Time, o.LookupEnv)
	conf, err := parseConfig(o.ConfigPath, configOptions{environment: o.LookupEnv, now: at, stdin: o.Stdin})
	if err != nil {
		return classify(err, ClassConfig)
	}
	if _, err := tasksOf(conf); err != nil {
		return classify(err, ClassConfig) // no device could run it
	}
	inputs, err := inputsOf(ctx, conf)
	if err != nil {
		return err
	}
	z := newZipWriter(w, level)
	if err := writeHead(z, conf.metaConf(), o.PrivateKey, at); err != nil {
		return err
	}
	for _, in := range inputs {
		if err := in.writeTo(ctx, z); err != nil {
			return err
		}
	}
	return z.close()
}

// creationTime returns the time given, or what the environment says it is.
func creationTime(given time.Time, lookup func(string) (string, bool)) time.Time {
	if !given.IsZero() {
		return given
	}
	if lookup != nil {
		if text, ok := lookup("SOURCE_DATE_EPOCH"); ok {
			if n, err := parseCInteger(text); err == nil {
				return time.Unix(n, 0)
			}
		}
		if text, ok := lookup("NOW"); ok {
			if t, err := time.Parse(creationDateLayout, text); err == nil {
				return t
			}
		}
	}
	return time.Now()
}

func compression(level int) (int, error) {
	if level < 0 || level > 9 {
		return 0, errorf(ClassOther, "compression level %d: 1 to 9 are possible", level)
	}
	if level == 0 {
		level = 9
	}
	return level, nil
}

// writeHead writes the signature, when there is a key, and meta.conf.
func writeHead(z *zipWriter, metaConf []byte, key PrivateKey, at time.Time) error {
	if len(metaConf) > maxMetaConf {
		return errorf(ClassMetaSize, "Unexpected meta.conf size: %d", len(metaConf))
	}
	switch len(key) {
	case 0:
	case ed25519.PrivateKeySize:
		signature := ed25519.Sign(key, metaConf)
		if err := z.add(signatureName, methodStore, int64(len(signature)), time.Time{}, bytes.NewReader(signature)); err != nil {
			return err
		}
	default:
		return errorf(ClassKeyDecode, "a private key has %d bytes, not %d", ed25519.PrivateKeySize, len(key))
	}
	return z.add(metaConfName, methodDeflate, int64(len(metaConf)), at, bytes.NewReader(metaConf))
}

// input is a resource to be written.
type input struct {
	name   string // of the resource
	layout layout
	hash   string
	pieces []piece
}

// piece is what one file, or a text, contributes to a resource.
type piece struct {
	path string // "" for text
	text string
	runs layout // data, hole, data, …
}

// inputsOf opens every file of the resources once, and writes what is found
// into the configuration.
func inputsOf(ctx context.Context, conf *section) ([]*input, error) {
	list, err := resourcesOf(conf)
	if err != nil {
		return nil, classify(err, ClassConfig)
	}
	var inputs []*input
	for _, res := range list {
		sub := conf.section("file-resource", res.name)
		in, err := inputOf(ctx, res, dirOf(sub.file))
		if err != nil {
			return nil, err
		}
		sub.setResource(in.layout, in.hash)
		inputs = append(inputs, in)
	}
	for i, res := range list {
		if err := checkAsserts(res, inputs[i].layout.size()); err != nil {
			return nil, err
		}
		if err := checkResourceName(res.name); err != nil {
			return nil, err
		}
	}
	return inputs, nil
}

func inputOf(ctx context.Context, res *resource, dir string) (*input, error) {
	in := &input{name: res.name}
	for _, path := range res.paths() {
		p := piece{path: pathFrom(dir, path)}
		if err := p.measure(res.skipHoles); err != nil {
			return nil, errorf(ClassConfig, "can't open path '%s' in file-resource '%s'", path, res.name).about(res.name).because(err)
		}
		in.layout, p.runs = in.layout.take(p.runs)
		in.pieces = append(in.pieces, p)
	}
	if !res.fromFiles {
		size := int64(len(res.contents))
		in.layout = in.layout.join(layout{size})
		in.pieces = []piece{{text: res.contents, runs: layout{size}}}
	}
	var err error
	in.hash, err = in.sum(ctx)
	return in, classify(err, ClassConfig)
}

// paths returns the files that make a resource.
func (res *resource) paths() []string {
	return strings.FieldsFunc(res.hostPaths, func(r rune) bool { return r == ';' })
}

// maxResourceName is the most bytes of a resource's name: fwup has 512 for it
// with data/ before and a NUL behind.
const maxResourceName = 506

// checkResourceName refuses names that do not stay what they are in an archive.
func checkResourceName(name string) error {
	var problem string
	switch {
	case len(name) > maxResourceName:
		problem = fmt.Sprintf("resource name '%s' is too long", name)
	case name == "":
		problem = "resource name can't be empty"
	case strings.HasSuffix(name, "/"):
		problem = fmt.Sprintf("resource name '%s' can't end in a '/'", name)
	case name == "/"+metaConfName, name == "/"+signatureName:
		problem = "resources can't be named " + name
	case name == "/data", strings.HasPrefix(name, "/data/"):
		problem = "use a normal resource name rather than specifying /data"
	default:
		return nil
	}
	return errorf(ClassConfig, "%s", problem).about(name)
}

// checkAsserts holds the size of a resource made of files against the bounds
// of the configuration.
func checkAsserts(res *resource, size int64) error {
	const text = "file size assertion failed on '%s'. Size is %d bytes. It must be %s %d bytes (%d blocks)"
	switch least, most := res.assertAtLeast, res.assertAtMost; {
	case !res.fromFiles:
	case res.hostPaths == "":
		return errorf(ClassConfig, "must specify a host-path for resource '%s'", res.name).about(res.name)
	case least > maxBlock, least >= 0 && size < least*blockSize:
		return errorf(ClassConfig, text, res.hostPaths, size, ">=", uint64(least)*blockSize, least).about(res.name)
	case most >= 0 && most <= maxBlock && size > most*blockSize:
		return errorf(ClassConfig, text, res.hostPaths, size, "<=", most*blockSize, most).about(res.name)
	}
	return nil
}

// join puts another layout behind a layout.
func (l layout) join(next layout) layout {
	for i, n := range next {
		switch {
		case n == 0:
		case len(l)%2 == i%2: // a run of the other kind
			l = append(l, n)
		case len(l) == 0: // a hole in front
			l = append(l, 0, n)
		default:
			l[len(l)-1] += n
		}
	}
	return l
}

// maxRuns is the most runs of data and holes of a resource made of files. It is
// odd: the last is of data.
const maxRuns = 255

// take puts the runs of a file behind a layout. What is beyond maxRuns becomes
// data with all its holes. It returns what the runs of the file are then.
func (l layout) take(runs layout) (joined, taken layout) {
	for i, n := range runs {
		run := layout{0, n}
		if i%2 == 0 || len(l) == maxRuns {
			run = layout{n}
		}
		l, taken = l.join(run), taken.join(run)
	}
	return l, taken
}

// measure finds out how long a file is and where its holes are.
func (p *piece) measure(skipHoles bool) error {
	if p.path == "" {
		return nil
	}
	f, err := os.Open(p.path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if p.path == os.DevNull {
		return nil // nothing, as it says
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", p.path)
	}
	p.runs = layout{info.Size()}
	if skipHoles {
		p.runs, err = holesOf(f, info.Size())
	}
	return err
}

// open returns the data of all pieces, one after the other, without holes.
func (in *input) open(ctx context.Context) (io.Reader, func(), error) {
	var files []*os.File
	closeAll := func() {
		for _, f := range files {
			f.Close()
		}
	}
	var parts []io.Reader
	for i := range in.pieces {
		p := &in.pieces[i]
		if p.path == "" {
			parts = append(parts, strings.NewReader(p.text))
			continue
		}
		f, err := os.Open(p.path)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		files = append(files, f)
		var at int64
		for k, n := range p.runs {
			if k%2 == 0 {
				parts = append(parts, io.NewSectionReader(f, at, n))
			}
			at += n
		}
	}
	return &contextReader{ctx, io.MultiReader(parts...)}, closeAll, nil
}

// sum hashes what open returns.
func (in *input) sum(ctx context.Context) (string, error) {
	h, err := blake2b.New256(nil)
	if err != nil {
		return "", err
	}
	r, closeAll, err := in.open(ctx)
	if err != nil {
		return "", err
	}
	defer closeAll()
	n, err := io.Copy(h, r)
	if err == nil && n != in.layout.dataSize() {
		err = in.changed()
	}
	return hex.EncodeToString(h.Sum(nil)), err
}

func (in *input) changed() error {
	return errorf(ClassConfig, "the files of file-resource '%s' changed while they were read", in.name).about(in.name)
}

// writeTo writes a resource as a member of the archive.
func (in *input) writeTo(ctx context.Context, z *zipWriter) error {
	h, err := blake2b.New256(nil)
	if err != nil {
		return err
	}
	r, closeAll, err := in.open(ctx)
	if err != nil {
		return err
	}
	defer closeAll()
	if err := z.add(memberName(in.name), methodDeflate, in.layout.dataSize(), time.Time{}, io.TeeReader(r, h)); err != nil {
		return err
	}
	if hex.EncodeToString(h.Sum(nil)) != in.hash {
		return in.changed()
	}
	return nil
}

// memberName returns where in the archive a resource is stored.
func memberName(resource string) string {
	if name, ok := strings.CutPrefix(resource, "/"); ok {
		return name
	}
	return "data/" + resource
}

// contextReader stops reading when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
