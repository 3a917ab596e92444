package fwup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"maps"
	"slices"
)

// maxUBootEnvSize bounds an environment: 65534 blocks, as in a configuration.
const maxUBootEnvSize = 65534 * blockSize

// UBootEnvLocation says where an environment lies on a device, in bytes.
type UBootEnvLocation struct {
	Offset    int64 // first byte of the environment, or of its first copy
	Size      int64 // length of one copy
	Redundant int64 // first byte of the second copy; 0 when there is one only
}

func (l UBootEnvLocation) check() error {
	if l.Offset < 0 || l.Redundant < 0 || l.Size < 8 || l.Size > maxUBootEnvSize {
		return errors.New("invalid u-boot environment block count")
	}
	return nil
}

// UBootEnv is a U-Boot environment: variables and their values, in the order
// of their names.
type UBootEnv struct {
	vars map[string]string
}

// NewUBootEnv returns an empty environment.
func NewUBootEnv() *UBootEnv { return &UBootEnv{vars: map[string]string{}} }

// Get returns the value of a variable and whether it is set.
func (e *UBootEnv) Get(name string) (value string, ok bool) {
	value, ok = e.vars[name]
	return value, ok
}

// Set sets a variable. Names are not empty and hold no '=' and no NUL, values
// hold no NUL: WriteUBootEnv refuses others.
func (e *UBootEnv) Set(name, value string) {
	if e.vars == nil {
		e.vars = map[string]string{}
	}
	e.vars[name] = value
}

// Unset removes a variable.
func (e *UBootEnv) Unset(name string) { delete(e.vars, name) }

// Len returns the number of variables.
func (e *UBootEnv) Len() int { return len(e.vars) }

// Vars goes through the variables in the byte order of their names.
func (e *UBootEnv) Vars() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, name := range slices.Sorted(maps.Keys(e.vars)) {
			if !yield(name, e.vars[name]) {
				return
			}
		}
	}
}

// errBadUBootEnv is the original's word for an environment that is no list of
// name=value.
var errBadUBootEnv = errors.New("Invalid U-boot environment") //nolint:staticcheck // shown as fwup shows it

// parseUBootEnv reads the bytes of one copy; header is 4, or 5 for a copy of a
// redundant pair, which has a flag byte that the checksum leaves out.
func parseUBootEnv(b []byte, header int, block int64) (*UBootEnv, error) {
	if len(b) < header {
		return nil, errBadUBootEnv
	}
	want, got := binary.LittleEndian.Uint32(b), crc32.ChecksumIEEE(b[header:])
	if want != got {
		return nil, fmt.Errorf("U-boot environment (block %d) CRC32 mismatch (expected 0x%08x; got 0x%08x)", block, want, got) //nolint:staticcheck // shown as fwup shows it
	}
	env := NewUBootEnv()
	for b = b[header:]; len(b) > 0 && b[0] != 0; {
		entry, rest, ended := bytes.Cut(b, []byte{0})
		name, value, ok := bytes.Cut(entry, []byte{'='})
		// A first '=' belongs to the name, as in the original.
		if len(name) == 0 && ok {
			name, value, ok = bytes.Cut(entry[1:], []byte{'='})
			name = append([]byte{'='}, name...)
		}
		if !ended || !ok {
			return nil, errBadUBootEnv
		}
		env.vars[string(name)] = string(value)
		b = rest
	}
	return env, nil
}

// encode returns the bytes of one copy.
func (e *UBootEnv) encode(size int64, header int, flag byte) ([]byte, error) {
	b := bytes.Repeat([]byte{0xff}, int(size))
	n := header
	for name, value := range e.Vars() {
		if name == "" || bytes.IndexByte([]byte(name), 0) >= 0 || bytes.IndexByte([]byte(name[1:]), '=') >= 0 || bytes.IndexByte([]byte(value), 0) >= 0 {
			return nil, fmt.Errorf("a U-boot variable %q cannot be stored", name)
		}
		if n+len(name)+1+len(value) >= len(b)-2 {
			return nil, errors.New("Not enough room in U-boot environment") //nolint:staticcheck // shown as fwup shows it
		}
		n += copy(b[n:], name)
		b[n] = '='
		n += 1 + copy(b[n+1:], value)
		b[n] = 0
		n++
	}
	b[n] = 0
	if header == 5 {
		b[4] = flag
	}
	binary.LittleEndian.PutUint32(b, crc32.ChecksumIEEE(b[header:]))
	return b, nil
}

// ubootCopies is what lies at a location.
type ubootCopies struct {
	env  *UBootEnv // of the newest copy that is whole; nil when none is
	err  error     // why there is none
	read int       // which copy that is, 0 or 1
	flag byte      // its flag, for a pair
}

// readUBootCopies reads the environment, of a pair the newest whole copy. The
// newest is the second when its flag is 1 to 127 ahead (modulo 256).
func readUBootCopies(dev io.ReaderAt, loc UBootEnvLocation) (ubootCopies, error) {
	if err := loc.check(); err != nil {
		return ubootCopies{}, err
	}
	first, err := readUBootBytes(dev, loc.Offset, loc.Size)
	if err != nil {
		return ubootCopies{}, err
	}
	if loc.Redundant == 0 {
		env, err := parseUBootEnv(first, 4, loc.Offset/blockSize)
		return ubootCopies{env: env, err: err}, nil
	}
	second, err := readUBootBytes(dev, loc.Redundant, loc.Size)
	if err != nil {
		return ubootCopies{}, err
	}
	order := [2]int{0, 1}
	if delta := second[4] - first[4]; delta > 0 && delta < 128 {
		order = [2]int{1, 0}
	}
	var result ubootCopies
	for _, i := range order {
		b, at := first, loc.Offset
		if i == 1 {
			b, at = second, loc.Redundant
		}
		env, err := parseUBootEnv(b, 5, at/blockSize)
		if err == nil {
			return ubootCopies{env: env, read: i, flag: b[4]}, nil
		}
		result.err = err
	}
	return result, nil
}

func readUBootBytes(dev io.ReaderAt, off, size int64) ([]byte, error) {
	b := make([]byte, size)
	n, err := dev.ReadAt(b, off)
	if int64(n) < size && err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("unexpected error reading uboot environment: %w", err)
	}
	return b, nil // what lies past the end is zero, and so no environment
}

// ReadUBootEnv reads the environment at loc, of a redundant pair the newest
// copy whose checksum holds. It is an error when there is none.
func ReadUBootEnv(dev io.ReaderAt, loc UBootEnvLocation) (*UBootEnv, error) {
	copies, err := readUBootCopies(dev, loc)
	if err != nil {
		return nil, err
	}
	return copies.env, copies.err
}

// WriteUBootEnv writes the environment and makes it durable. Of a redundant
// pair it writes the copy that was not the newest, so that a power cut leaves
// the old or the new environment; when neither copy is whole it writes both.
// A single copy can be lost when power fails while it is written.
func WriteUBootEnv(dev BlockDevice, loc UBootEnvLocation, env *UBootEnv) error {
	if err := storeUBootEnv(dev, loc, env, dev.Sync); err != nil {
		return err
	}
	return dev.Sync()
}

// storeUBootEnv writes env over the older copy. between runs between the two
// writes where both are needed.
func storeUBootEnv(dev interface {
	io.ReaderAt
	io.WriterAt
}, loc UBootEnvLocation, env *UBootEnv, between func() error) error {
	copies, err := readUBootCopies(dev, loc)
	if err != nil {
		return err
	}
	switch {
	case loc.Redundant == 0:
		return writeUBootCopy(dev, loc.Offset, loc.Size, env, 4, 0)
	case copies.env == nil:
		if err := writeUBootCopy(dev, loc.Offset, loc.Size, env, 5, 1); err != nil {
			return err
		}
		if err := between(); err != nil {
			return err
		}
		return writeUBootCopy(dev, loc.Redundant, loc.Size, env, 5, 1)
	case copies.read == 0:
		return writeUBootCopy(dev, loc.Redundant, loc.Size, env, 5, copies.flag+1)
	default:
		return writeUBootCopy(dev, loc.Offset, loc.Size, env, 5, copies.flag+1)
	}
}

func writeUBootCopy(dev io.WriterAt, off, size int64, env *UBootEnv, header int, flag byte) error {
	b, err := env.encode(size, header, flag)
	if err != nil {
		return err
	}
	if _, err := dev.WriteAt(b, off); err != nil {
		return fmt.Errorf("unexpected error writing uboot environment: %w", err)
	}
	return nil
}
