package fwupcli

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fwup"
)

// create makes an update from a configuration.
func (p *program) create() error {
	o := &p.opts
	options := fwup.CreateOptions{
		ConfigPath: o.config, Stdin: p.stdin, PrivateKey: o.privateKey, Level: o.level, LookupEnv: os.LookupEnv,
	}
	if o.output == nil {
		out := bufio.NewWriterSize(p.stdout, 64<<10)
		if err := fwup.Create(p.ctx, out, options); err != nil {
			return err
		}
		return out.Flush()
	}
	out := &lateFile{path: *o.output}
	err := fwup.Create(p.ctx, out, options)
	if closeErr := out.close(); err == nil {
		err = closeErr
	}
	if out.missing != nil {
		err = out.missing
	}
	return err
}

// lateFile is made with the first byte that is written to it: a configuration
// that is wrong leaves the archive that was made before.
type lateFile struct {
	path    string
	f       *os.File
	missing error // why it could not be made
}

func (l *lateFile) Write(b []byte) (int, error) {
	if l.f == nil {
		f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
		if err != nil {
			l.missing = fmt.Errorf("error creating archive '%s': %s", l.path, systemText(err))
			return 0, l.missing
		}
		l.f = f
	}
	return l.f.Write(b)
}

func (l *lateFile) close() error {
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}

// sign puts a signature in place of the one an update has, if any.
func (p *program) sign() error {
	o := &p.opts
	switch {
	case o.input == "":
		return errors.New("Specify an input firmware file") //nolint:staticcheck // shown as fwup shows it
	case o.output == nil:
		return errors.New("Specify an output firmware file") //nolint:staticcheck // shown as fwup shows it
	case o.privateKey == nil:
		return errors.New("Specify a signing key") //nolint:staticcheck // shown as fwup shows it
	}
	in, name, err := p.input()
	if err != nil {
		return err
	}
	defer in.Close()
	err = replaceFile(*o.output, name+".tmp", func(out *os.File) error {
		err := fwup.Sign(p.ctx, in, out, fwup.SignOptions{PrivateKey: o.privateKey, LookupEnv: os.LookupEnv})
		return inArchive(err, name, "the beginning")
	})
	if err != nil {
		return err
	}
	p.out.result("")
	return nil
}

// replaceFile puts what write writes in the place of path, at the end only: the
// file may be what write reads. Until then it has the temporary name.
func replaceFile(path, temporary string, write func(out *os.File) error) error {
	out, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("error creating '%s': %s", temporary, systemText(err))
	}
	err = write(out)
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		os.Remove(temporary)
	}
	return err
}

// verify checks all of an update.
func (p *program) verify() error {
	if p.opts.input == "" {
		return errors.New("Specify an input firmware file") //nolint:staticcheck // shown as fwup shows it
	}
	in, name, err := p.input()
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := fwup.Verify(p.ctx, in, fwup.VerifyOptions{
		PublicKeys: p.opts.publicKeys, LookupEnv: os.LookupEnv, Strict: p.opts.strict,
	})
	if err != nil {
		return inArchive(err, name, "the beginning")
	}
	text := "Valid archive without a signature\n"
	switch {
	case info.Key != nil:
		text = "Valid archive with a good signature\n"
	case info.Signed:
		text = "Valid archive with an unverified signature. Specify a public key to authenticate.\n"
	}
	p.out.result(text)
	return nil
}

// readOptions reads the head of an update as the person who asks would.
func (p *program) readOptions() fwup.ReadOptions {
	return fwup.ReadOptions{PublicKeys: p.opts.publicKeys, LookupEnv: os.LookupEnv, Location: time.Local}
}

// metadata prints what an update says about itself.
func (p *program) metadata() error {
	in, name, err := p.input()
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := fwup.ReadHead(in, p.readOptions())
	if err != nil {
		return inArchive(err, name, "beginning")
	}
	if p.opts.metadataKey == nil {
		p.out.result(info.Text())
		return nil
	}
	text := "(null)"
	for _, f := range info.Fields() {
		if f.Name == *p.opts.metadataKey {
			text = f.Value
		}
	}
	p.out.result(text + "\n")
	return nil
}

// list prints the names of the tasks of an update.
func (p *program) list() error {
	in, name, err := p.input()
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := fwup.ReadHead(in, p.readOptions())
	if err != nil {
		return inArchive(err, name, "beginning")
	}
	slices.Sort(info.Tasks)
	var b strings.Builder
	for _, task := range info.Tasks {
		b.WriteString(task + "\n")
	}
	p.out.result(b.String())
	return nil
}

// generateKeys writes a new key pair.
func (p *program) generateKeys() error {
	public, private, err := fwup.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	prefix := "fwup-key"
	if p.opts.output != nil {
		prefix = *p.opts.output
	}
	if err := writeKey(prefix+".pub", fwup.FormatPublicKey(public)); err != nil {
		return err
	}
	if err := writeKey(prefix+".priv", fwup.FormatPrivateKey(private)); err != nil {
		// A public key alone is of no use, and would stand in the way of the
		// next try.
		return errors.Join(err, os.Remove(prefix+".pub"))
	}
	base := filepath.Base(prefix)
	p.out.result(fmt.Sprintf("Firmware signing keys created and saved to '%.32s' and '%.32s'\n\n"+
		"Distribute '%.32s' with your system so that firmware updates can be\n"+
		"authenticated. Keep '%.32s' in a safe location.\n", base+".pub", base+".priv", base+".pub", base+".priv"))
	return nil
}

// writeKey writes a file that must not be there before: losing a key is worse
// than an error.
func writeKey(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("Couldn't create '%s': %s", path, systemText(err)) //nolint:staticcheck // shown as fwup shows it
	}
	_, err = io.WriteString(f, text)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("Couldn't write to '%s': %s", path, systemText(err)) //nolint:staticcheck // shown as fwup shows it
	}
	return nil
}

// sparseCheck tells whether the file system at a path keeps holes.
func (p *program) sparseCheck() error {
	if err := probeHole(p.opts.sparsePath, p.opts.sparseSize); err != nil {
		return err
	}
	p.out.result("Sparse files supported\n")
	return nil
}
