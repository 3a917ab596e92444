package fwupcli

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"strconv"

	"github.com/ganglion-iot/ganglion/fwup"
)

// maxPublicKeys is the most keys an archive is checked with.
const maxPublicKeys = 10

// maxPercent bounds --progress-low and --progress-high: a frame has 2 bytes
// for a percentage.
const maxPercent = 1<<16 - 1

// options is what the command line says.
type options struct {
	command       func(*program) error // the last one given
	easy          bool                 // nothing given that rules easy mode out
	input         string               // "" for stdin
	output        *string              // nil for stdout
	diffSource    string               // what --diff starts from
	config        string
	device        *string // nil for the memory card that is found
	task          *string
	publicKeys    []fwup.PublicKey
	privateKey    fwup.PrivateKey
	metadataKey   *string // nil for everything
	level         int     // of compression, 1 to 9
	low, high     int     // percent
	maxSize       int64
	sparsePath    string
	sparseSize    int64
	verifyWrites  *bool // nil: unless the destination is a regular file
	minimize      bool
	trim          bool
	unsafe        bool
	rebootParam   string // "" for where the system looks for it
	unmount       bool
	accept        bool // the card that was found
	quiet         bool
	numeric       bool
	verbose       bool
	exitHandshake bool
	verifyFirst   bool // before anything is written
	strict        bool
}

func defaults() options {
	return options{easy: true, config: "fwupdate.conf", level: 9, high: 100, sparseSize: 4096, unmount: true}
}

// optionTable returns all options in the order of the usage.
func optionTable() []option {
	return []option{
		command('a', "apply", "Write an update to a device or an image file", (*program).apply),
		command('c', "create", "Create an update", (*program).create),
		{short: 'd', value: true, name: "file", help: "The device or image file to write to", do: func(p *program, v string) error {
			p.opts.device = &v
			return nil
		}},
		{short: 'D', long: "detect", help: "List memory cards and their sizes in bytes", do: (*program).detect},
		whole(named(0, "diff", "fw", "Make a delta from this update to the one of -i, and write it to -o", func(o *options, v string) {
			o.command, o.diffSource = (*program).diff, v
		})),
		flag('E', "eject", "Eject removable media afterwards", func(*options) {}),
		flag(0, "no-eject", "Leave removable media in place", func(*options) {}),
		flag(0, "enable-trim", "Tell the device which blocks are unused", func(o *options) { o.trim = true }),
		flag(0, "exit-handshake", "Send Ctrl+Z and the exit status, then wait until stdin is closed", func(o *options) { o.exitHandshake = true }),
		named('f', "", "conf", "The configuration to create from", func(o *options, v string) { o.config = v }),
		{short: 'F', long: "framing", help: "Read stdin and write stdout in frames", do: func(p *program, _ string) error {
			p.out.framing, p.opts.easy = true, false
			return nil
		}},
		command('g', "gen-keys", "Generate a key pair: fwup-key.pub and fwup-key.priv, or what -o names", (*program).generateKeys),
		{short: 'h', long: "help", help: "Show this", do: func(p *program, _ string) error {
			p.printUsage()
			return errDone
		}},
		named('i', "", "fw", "The update to read; - is stdin", func(o *options, v string) { o.input = dash(v) }),
		command('l', "list", "List the tasks of an update", (*program).list),
		command('m', "metadata", "Print the metadata of an update", (*program).metadata),
		value("metadata-key", "key", "Print only this metadata, without quotes", func(o *options, v string) error {
			o.metadataKey = &v
			return nil
		}),
		flag(0, "minimize-writes", "Read first and skip what is there already", func(o *options) { o.minimize = true }),
		flag(0, "no-minimize-writes", "Write without reading first", func(o *options) { o.minimize = false }),
		number("max-size", "blocks", "Never write past so many blocks of 512 bytes", math.MaxInt64/blockSize, func(o *options, n int64) { o.maxSize = n }),
		flag('n', "", "Show progress as numbers", func(o *options) { o.numeric = true }),
		named('o', "", "fw", "The file to write; - is stdout", func(o *options, v string) {
			if o.output = &v; v == "-" {
				o.output = nil
			}
		}),
		{short: 'p', long: "public-key-file", value: true, name: "file", help: "A public key to check the update with; may be given again", do: (*program).publicKeyFile},
		{long: "private-key", value: true, name: "key", help: "The private key to sign with", do: (*program).privateKeyText},
		{short: 's', long: "private-key-file", value: true, name: "file", help: "The private key to sign with", do: (*program).privateKeyFile},
		number("progress-low", "percent", "Show the start of the work as this", maxPercent, func(o *options, n int64) { o.low = int(n) }),
		number("progress-high", "percent", "Show the end of the work as this", maxPercent, func(o *options, n int64) { o.high = int(n) }),
		{long: "public-key", value: true, name: "key", help: "A public key to check the update with; may be given again", do: (*program).publicKeyText},
		flag('q', "quiet", "Show no progress", func(o *options) { o.quiet = true }),
		value("reboot-param-path", "file", "Where reboot_param writes", func(o *options, v string) error {
			o.rebootParam = v
			return nil
		}),
		command('S', "sign", "Sign an update", (*program).sign),
		{long: "sparse-check", value: true, name: "file", help: "Try whether files may have holes here", do: func(p *program, v string) error {
			p.opts.command, p.opts.easy, p.opts.sparsePath = (*program).sparseCheck, false, v
			return nil
		}},
		number("sparse-check-size", "bytes", "The size of the hole to try", 1<<40, func(o *options, n int64) { o.sparseSize = n }),
		{short: 't', long: "task", value: true, name: "task", help: "The task to apply, or how its name begins", do: func(p *program, v string) error {
			p.opts.task = &v
			return nil
		}},
		flag('u', "unmount", "Unmount the partitions of the device first", func(o *options) { o.unmount = true }),
		flag('U', "no-unmount", "Leave partitions mounted", func(o *options) { o.unmount = false }),
		flag(0, "unsafe", "Allow updates to run commands and to write other files", func(o *options) { o.unsafe = true }),
		whole(flag(0, "strict", "With -V: also refuse what devices take but nobody should publish", func(o *options) { o.strict = true })),
		flag('v', "verbose", "Say more about errors, on stderr", func(o *options) { o.verbose = true }),
		command('V', "verify", "Check an update", (*program).verify),
		whole(flag(0, "verify-first", "With -a: check all the task takes before anything is written", func(o *options) { o.verifyFirst = true })),
		flag(0, "verify-writes", "Read back what was written", func(o *options) { o.verifyWrites = new(true) }),
		flag(0, "no-verify-writes", "Do not read back", func(o *options) { o.verifyWrites = new(false) }),
		{long: "version", help: "Print the version", do: func(p *program, _ string) error {
			// Devices compare it with what an update asks for, so it is the version
			// of the original that this program stands for.
			p.out.write([]byte(fwup.Version + "\n"))
			return errDone
		}},
		flag('y', "", "Take the memory card that was found without asking", func(o *options) { o.accept = true }),
		{short: 'z', help: "Print the memory card that would be taken", do: (*program).printCard},
		{short: 'Z', do: func(*program, string) error { return &usageError{} }},
		level('1'), level('2'), level('3'), level('4'), level('5'), level('6'), level('7'), level('8'), level('9'),
	}
}

func dash(name string) string {
	if name == "-" {
		return ""
	}
	return name
}

// command is an option that says what to do.
func command(short byte, long, help string, run func(*program) error) option {
	return option{short: short, long: long, help: help, do: func(p *program, _ string) error {
		p.opts.command, p.opts.easy = run, false
		return nil
	}}
}

// flag is an option without a value.
func flag(short byte, long, help string, set func(*options)) option {
	return option{short: short, long: long, help: help, do: func(p *program, _ string) error {
		set(&p.opts)
		return nil
	}}
}

// whole is an option that fwup 1.16 does not have.
func whole(o option) option {
	o.whole = true
	return o
}

// named is an option that names a file of a command: it rules easy mode out.
func named(short byte, long, name, help string, set func(*options, string)) option {
	return option{short: short, long: long, value: true, name: name, help: help, do: func(p *program, v string) error {
		p.opts.easy = false
		set(&p.opts, v)
		return nil
	}}
}

func value(long, name, help string, set func(*options, string) error) option {
	return option{long: long, value: true, name: name, help: help, do: func(p *program, v string) error { return set(&p.opts, v) }}
}

// goNumber matches numbers that Go reads but C does not.
var goNumber = regexp.MustCompile(`_|^[+-]?0[bBoO]`)

// number is an option with a number of C from 0 to most.
func number(long, name, help string, most int64, set func(*options, int64)) option {
	return value(long, name, help, func(o *options, v string) error {
		n, err := strconv.ParseInt(v, 0, 64)
		if err != nil || n < 0 || n > most || goNumber.MatchString(v) {
			return fmt.Errorf("--%s takes a number from 0 to %d", long, most)
		}
		set(o, n)
		return nil
	})
}

func level(c byte) option {
	return flag(c, "", "", func(o *options) { o.level = int(c - '0') })
}

func (p *program) publicKeyFile(path string) error {
	if p.tooManyKeys() {
		return nil
	}
	text, err := readKey(path, "public", 44)
	if err != nil {
		return err
	}
	p.opts.easy = false
	return p.addPublicKey(text, fmt.Errorf("Error reading or decoding public key from file '%s'", path)) //nolint:staticcheck // shown as fwup shows it
}

func (p *program) publicKeyText(text string) error {
	if p.tooManyKeys() {
		return nil
	}
	return p.addPublicKey([]byte(text), errors.New("Error decoding public key")) //nolint:staticcheck // shown as fwup shows it
}

// tooManyKeys warns of a key that is left out. Such a key is not even read.
func (p *program) tooManyKeys() bool {
	if len(p.opts.publicKeys) < maxPublicKeys {
		return false
	}
	p.out.warning(fmt.Sprintf("Ignoring public key since only %d supported", maxPublicKeys))
	return true
}

func (p *program) addPublicKey(text []byte, problem error) error {
	key, err := fwup.ParsePublicKey(text)
	if err != nil {
		return problem
	}
	p.opts.publicKeys = append(p.opts.publicKeys, key)
	return nil
}

func (p *program) privateKeyFile(path string) error {
	text, err := readKey(path, "private", 88)
	if err != nil {
		return err
	}
	return p.setPrivateKey(text, fmt.Errorf("Error reading or decoding private key from file '%s'", path)) //nolint:staticcheck // shown as fwup shows it
}

func (p *program) privateKeyText(text string) error {
	return p.setPrivateKey([]byte(text), errors.New("Error decoding private key")) //nolint:staticcheck // shown as fwup shows it
}

func (p *program) setPrivateKey(text []byte, problem error) error {
	key, err := fwup.ParsePrivateKey(text)
	if err != nil {
		return problem
	}
	p.opts.privateKey, p.opts.easy = key, false
	return nil
}

// readKey reads the part of a file that can be a key.
func readKey(path, kind string, size int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("Error opening %s key file '%s': %s", kind, path, systemText(err)) //nolint:staticcheck // shown as fwup shows it
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, size))
	if err != nil {
		return nil, fmt.Errorf("Error reading or decoding %s key from file '%s'", kind, path) //nolint:staticcheck // shown as fwup shows it
	}
	return text, nil
}
