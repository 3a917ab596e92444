package fat

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestFormatSizes(t *testing.T) {
	for _, c := range []struct {
		blocks, table int64
		bits          int
		clusters      uint32
	}{
		{blocks: 0}, {blocks: 127}, {blocks: -1}, {blocks: 1 << 32},
		{blocks: 128, bits: 12, table: 1, clusters: 93},
		{blocks: 2048, bits: 12, table: 7, clusters: 2001},
		{blocks: 4085, bits: 12, table: 12, clusters: 4028},
		{blocks: 4086}, // neither kind fits
		{blocks: 4096},
		{blocks: 16321, bits: 16, table: 64, clusters: 16160},
		{blocks: 66076, bits: 16, table: 259, clusters: 65525},
		{blocks: 66077}, // too many for one, too few for the other
		{blocks: 77238, bits: 32, table: 604, clusters: 75998},
		{blocks: 10 << 21, bits: 32, table: 163841, clusters: 20643806},
	} {
		l, err := planLayout(c.blocks)
		if c.bits == 0 {
			if !errors.Is(err, ErrFormat) || !errors.Is(CheckFormat(c.blocks), ErrFormat) {
				t.Errorf("%d blocks: %+v, %v", c.blocks, l, err)
			}
			continue
		}
		if err != nil || l.bits != c.bits || l.table != c.table || uint32(l.total-l.dataStart()) != c.clusters {
			t.Errorf("%d blocks: %+v with %d clusters, %v", c.blocks, l, l.total-l.dataStart(), err)
		}
	}
}

// TestFormatIsOpenedAsMeant sees that a size that is accepted is not taken for
// another kind of file system later.
func TestFormatIsOpenedAsMeant(t *testing.T) {
	accepted := 0
	for blocks := int64(100); blocks < 68500; blocks++ {
		if blocks == 4300 {
			blocks = 65400
		}
		l, err := planLayout(blocks)
		if err != nil {
			continue
		}
		accepted++
		fs := &FS{}
		copy(fs.boot[:], l.bootSector())
		if bootKind(fs.boot[:]) != bootVolume {
			t.Fatalf("%d blocks: not a boot sector", blocks)
		}
		if err := fs.readGeometry(); err != nil || fs.bits != l.bits || int64(fs.limit-2) != l.total-l.dataStart() {
			t.Fatalf("%d blocks: opened as FAT%d with %d clusters instead of %+v: %v", blocks, fs.bits, fs.limit-2, l, err)
		}
	}
	if accepted < 4000 {
		t.Errorf("only %d sizes are accepted", accepted)
	}
}

func TestFormatted(t *testing.T) {
	for _, blocks := range []int64{128, 2048, 16321, 77238} {
		dev, fs := format(t, blocks)
		dev.check(t)
		serial := fs.boot[39:]
		if fs.bits == 32 {
			serial = fs.boot[67:]
		}
		if got := binary.LittleEndian.Uint32(serial); got != uint32(blocks)+0x00210000 {
			t.Errorf("%d blocks: serial number %#x", blocks, got)
		}
		if _, err := fs.Open("x"); !errors.Is(err, ErrNotExist) {
			t.Errorf("%d blocks: %v", blocks, err)
		}
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		name, short string
		lower       byte
		long, lossy bool
	}{
		{name: "FILE.TXT", short: "FILE    TXT"},
		{name: "file.txt", short: "FILE    TXT", lower: lowerBody | lowerExt},
		{name: "file.TXT", short: "FILE    TXT", lower: lowerBody},
		{name: "FILE.txt", short: "FILE    TXT", lower: lowerExt},
		{name: "file", short: "FILE       ", lower: lowerBody},
		{name: "File.txt", short: "FILE    TXT", long: true},
		{name: "exactly8.ext", short: "EXACTLY8EXT", lower: lowerBody | lowerExt},
		{name: "ninechars", short: "NINECHAR   ", long: true, lossy: true},
		{name: "x.four", short: "X       FOU", long: true, lossy: true},
		{name: "a b.c", short: "AB      C  ", long: true, lossy: true},
		{name: "a.b.c", short: "AB      C  ", long: true, lossy: true},
		{name: ".bashrc", short: "        BAS", long: true, lossy: true},
		{name: " lead", short: "LEAD       ", long: true, lossy: true},
		{name: "a+b", short: "A_B        ", long: true, lossy: true},
		{name: "dots..", short: "DOTS       ", lower: lowerBody},
		{name: "\x82.txt", short: "E       TXT", long: true}, // é
		{name: "\xe5x", short: "OX         ", long: true},
		{name: "12345678.123", short: "12345678123"},
	} {
		n, rest, err := firstName(c.name)
		if err != nil || rest != "" {
			t.Errorf("%q: %v", c.name, err)
			continue
		}
		if string(n.short[:]) != c.short || n.lower != c.lower || n.needLong != c.long || n.lossy != c.lossy {
			t.Errorf("%q: %q, lower %#x, long %v, lossy %v", c.name, n.short, n.lower, n.needLong, n.lossy)
		}
	}
	for _, bad := range []string{"a*", "a:b", "a<", "a>", "a|b", `a"`, "a?", "a\x7f", ".", "..", "  ", strings.Repeat("x", 256)} {
		if _, _, err := firstName(bad); !errors.Is(err, ErrInvalidName) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// shorts returns the short names in the root directory, with what is behind.
func shorts(tb testing.TB, fs *FS) (names []string) {
	tb.Helper()
	d := directory{fs: fs}
	if err := d.seek(0); err != nil {
		tb.Fatal(err)
	}
	for {
		e, err := d.entry()
		if err != nil {
			tb.Fatal(err)
		}
		if e[0] == 0 {
			return names
		}
		if e[11] != attrLong && e[0] != deletedMark {
			names = append(names, string(e[:11]))
		}
		if err := d.step(false); err != nil {
			return names
		}
	}
}

func TestNumberedNames(t *testing.T) {
	_, fs := format(t, 2048)
	for i := 1; i <= 7; i++ {
		if err := fs.Touch(fmt.Sprintf("numbered file %d.bin", i)); err != nil {
			t.Fatal(err)
		}
	}
	// The last two are what the long names and the number 6 give, computed by
	// other means.
	const want = "[NUMBER~1BIN NUMBER~2BIN NUMBER~3BIN NUMBER~4BIN NUMBER~5BIN NUM~D95CBIN NUM~24DDBIN]"
	if got := fmt.Sprint(shorts(t, fs)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestUpper(t *testing.T) {
	_, fs := format(t, 2048)
	writeFile(t, fs, "\x81\x84\x94.long name", []byte("x")) // üäö
	if got := readFile(t, fs, "\x9a\x8e\x99.LONG NAME"); string(got) != "x" {
		t.Errorf("%q", got)
	}
}

// TestAllocation follows where files go: behind what was allocated last,
// where the overwritten one was, and to the front when nothing is known.
func TestAllocation(t *testing.T) {
	first := func(fs *FS, name string, size int) uint32 {
		writeFile(t, fs, name, make([]byte, size))
		f, err := fs.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		return f.first
	}
	for _, c := range []struct{ blocks, base int64 }{{2048, 2}, {16321, 2}, {77238, 3}} {
		dev, fs := format(t, c.blocks)
		base := uint32(c.base)
		for _, s := range []struct {
			name string
			size int
			want uint32
		}{
			{"a", 1000, base}, {"b", 512, base + 2}, {"c", 513, base + 3},
			{"a", 512, base}, // where it was
			{"d", 512, base + 1},
			{"e", 512, base + 5},
		} {
			if got := first(fs, s.name, s.size); got != s.want {
				t.Errorf("FAT%d: %s is at %d, want %d", fs.bits, s.name, got, s.want)
			}
		}
		if err := fs.Remove("b"); err != nil {
			t.Fatal(err)
		}
		if got := first(fs, "f", 1); got != base+6 {
			t.Errorf("FAT%d: a hole is used too early: %d", fs.bits, got)
		}
		fs, err := Open(dev)
		if err != nil {
			t.Fatal(err)
		}
		want := base + 2 // the hole
		if fs.bits == 32 {
			want = base + 7 // the volume tells
			if fs.free != fs.limit-2-1-6 {
				t.Errorf("%d free clusters of %d", fs.free, fs.limit-2)
			}
		}
		if got := first(fs, "g", 1); got != want {
			t.Errorf("FAT%d: after opening again: %d, want %d", fs.bits, got, want)
		}
		dev.check(t)
	}
}

func TestErrors(t *testing.T) {
	_, fs := format(t, 2048)
	for _, err := range []error{fs.Mkdir("dir"), fs.Mkdir("dir/sub"), fs.Touch("dir/file"), fs.Touch("ro"), fs.SetAttributes("ro", Attributes{ReadOnly: true})} {
		if err != nil {
			t.Fatal(err)
		}
	}
	create := func(name string) error { _, err := fs.Create(name); return err }
	open := func(name string) error { _, err := fs.Open(name); return err }
	for _, c := range []struct {
		what string
		got  error
		want error
	}{
		{"open nothing", open("nothing"), ErrNotExist},
		{"open in nothing", open("nothing/x"), ErrNoPath},
		{"open in a file", open("ro/x"), ErrNoPath},
		{"open a directory", open("dir"), ErrNotExist},
		{"open the root", open("/"), ErrInvalidName},
		{"open a bad name", open("a*b"), ErrInvalidName},
		{"open by slashes", open(`\\dir//file/`), nil},
		{"create in nothing", create("nothing/x"), ErrNoPath},
		{"create a directory", create("dir"), ErrDenied},
		{"create over read-only", create("RO"), ErrDenied},
		{"create the root", create(""), ErrInvalidName},
		{"touch read-only", fs.Touch("ro"), ErrDenied},
		{"touch a file", fs.Touch("dir/FILE"), nil},
		{"mkdir again", fs.Mkdir("dir"), nil},
		{"mkdir over a file", fs.Mkdir("ro"), ErrExist},
		{"mkdir the root", fs.Mkdir("/"), ErrExist},
		{"mkdir deep", fs.Mkdir("x/y"), ErrNoPath},
		{"remove a full directory", fs.Remove("dir"), ErrDenied},
		{"remove read-only", fs.Remove("ro"), ErrDenied},
		{"remove nothing", fs.Remove("nothing"), ErrNotExist},
		{"remove the root", fs.Remove("/"), ErrInvalidName},
		{"rename nothing", fs.Rename("nothing", "x"), ErrNotExist},
		{"rename onto", fs.Rename("ro", "dir"), ErrExist},
		{"rename to no path", fs.Rename("ro", "x/y"), ErrNoPath},
		{"rename into itself", fs.Rename("dir", "dir/sub/dir"), ErrDenied},
		{"rename the root", fs.Rename("", "x"), ErrInvalidName},
		{"rename to the root", fs.Rename("ro", "/"), ErrExist},
		{"attributes of nothing", fs.SetAttributes("nothing", Attributes{}), ErrNotExist},
		{"attributes of the root", fs.SetAttributes("/", Attributes{}), ErrInvalidName},
		{"copy nothing", Copy(fs, "x", fs, "nothing"), ErrNotExist},
		{"copy onto a directory", Copy(fs, "dir", fs, "ro"), ErrDenied},
		{"copy onto itself", Copy(fs, "DIR/FILE", fs, "dir/file"), nil},
	} {
		if !errors.Is(c.got, c.want) || c.want == nil && c.got != nil {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
}

func TestFull(t *testing.T) {
	dev, fs := format(t, 128)
	f, err := fs.Create("big")
	if err != nil {
		t.Fatal(err)
	}
	n, err := f.Write(make([]byte, 100*sectorSize))
	if n != 93*sectorSize || !errors.Is(err, ErrFull) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := fs.Mkdir("dir"); !errors.Is(err, ErrDenied) {
		t.Errorf("mkdir: %v", err)
	}
	dev.check(t)
	if err := fs.Remove("big"); err != nil {
		t.Fatal(err)
	}
	if err := fs.Mkdir("dir"); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ { // until the directory cannot grow
		if err = fs.Touch(fmt.Sprintf("dir/file with a long name %d", i)); err != nil || i > 1000 {
			break
		}
	}
	if !errors.Is(err, ErrDenied) {
		t.Errorf("touch: %v", err)
	}
	dev.check(t)
}

func TestRootFull(t *testing.T) {
	dev, fs := format(t, 2048)
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		err = fs.Touch(fmt.Sprintf("F%d", n))
	}
	if !errors.Is(err, ErrDenied) || n != 513 {
		t.Errorf("%d files, %v", n, err)
	}
	dev.check(t)
}

func TestLargestFile(t *testing.T) {
	_, fs := format(t, 2048)
	f, err := fs.Create("f")
	if err == nil {
		_, err = f.Write(make([]byte, 502))
	}
	if err != nil {
		t.Fatal(err)
	}
	f.size = math.MaxUint32 - 9 // as if it had grown so large
	if n, err := f.Write(make([]byte, 20)); n != 9 || !errors.Is(err, ErrFull) || f.Size() != math.MaxUint32 {
		t.Errorf("%d bytes, %v; size %d", n, err, f.Size())
	}
}

func TestLabel(t *testing.T) {
	dev, fs := format(t, 2048)
	for _, bad := range []string{"twelve chars", "a.b", "a/b", "\xe5x", "\x98", "q?"} {
		if err := fs.SetLabel(bad); !errors.Is(err, ErrInvalidName) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, label := range []string{"Some Label", "OTHER", "other two"} {
		if err := fs.SetLabel(label); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "fat.img")
		dev.save(t, path)
		out, err := exec.Command(tool(t, "mlabel"), "-s", "-i", path, "::").CombinedOutput()
		if err != nil || !strings.Contains(string(out), strings.ToUpper(label)) {
			t.Errorf("%s: %s %v", label, out, err)
		}
	}
	if err := fs.SetLabel("  "); err != nil {
		t.Fatal(err)
	}
	dev.check(t)
}

func TestAttributesAndDates(t *testing.T) {
	dev, fs := format(t, 2048)
	writeFile(t, fs, "f.txt", []byte("x"))
	if err := fs.SetAttributes("f.txt", Attributes{ReadOnly: true, Hidden: true, System: true}); err != nil {
		t.Fatal(err)
	}
	if err := fs.SetAttributes("f.txt", Attributes{Hidden: true, System: true}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "fat.img")
	dev.save(t, path)
	out, err := exec.Command(tool(t, "mattrib"), "-i", path, "::f.txt").CombinedOutput()
	if got := strings.Fields(string(out)); err != nil || len(got) < 2 || strings.Join(got[:len(got)-1], "") != "ASH" {
		t.Errorf("%q %v", out, err)
	}
	e, err := fs.load(fs.rootSector)
	if err != nil {
		t.Fatal(err)
	}
	// Made, never read, in cluster 2 of a few, changed.
	want := []byte{0, 0, 0, 0x21, 0, 0, 0, 0, 0, 0, 0, 0x21, 0, 2}
	if got := e[13:27]; !bytes.Equal(got, want) {
		t.Errorf("dates % x", got)
	}
}

// TestPartition opens the volume of a partition where a boot record is.
func TestPartition(t *testing.T) {
	dev := newMemory(4096 * sectorSize)
	if err := Format(part{dev, 63}, 2048); err != nil {
		t.Fatal(err)
	}
	mbr := make([]byte, sectorSize)
	mbr[446+8] = 1 // leads nowhere
	mbr[446+16+8] = 63
	mbr[510], mbr[511] = 0x55, 0xaa
	if _, err := dev.WriteAt(mbr, 0); err != nil {
		t.Fatal(err)
	}
	fs, err := Open(dev)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, fs, "f", []byte("there"))
	if fs, err = Open(part{dev, 63}); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, fs, "f"); string(got) != "there" {
		t.Errorf("%q", got)
	}
	if _, err := Open(newMemory(0)); !errors.Is(err, ErrNoVolume) {
		t.Error(err)
	}
}

// part is a device from a sector on.
type part struct {
	*memory
	first int64
}

func (p part) ReadAt(b []byte, off int64) (int, error) {
	return p.memory.ReadAt(b, off+p.first*sectorSize)
}

func (p part) WriteAt(b []byte, off int64) (int, error) {
	return p.memory.WriteAt(b, off+p.first*sectorSize)
}

// TestLargeFile sees that what is neighbouring is written at once, and reads
// back and forth.
func TestLargeFile(t *testing.T) {
	const size = 64 << 20
	dev, fs := format(t, 300000)
	f, err := fs.Create("large")
	if err != nil {
		t.Fatal(err)
	}
	dev.calls, dev.wrote = 0, 0
	chunk := make([]byte, 128<<10)
	for i := range size / len(chunk) {
		binary.LittleEndian.PutUint32(chunk, uint32(i))
		if _, err := f.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if dev.calls > 8000 || dev.wrote > size+4<<20 {
		t.Errorf("%d writes of %d bytes", dev.calls, dev.wrote)
	}
	if f, err = fs.Open("large"); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{511, 0, 300, 1, 299} {
		if _, err := f.ReadAt(chunk, int64(i*len(chunk))); err != nil || int(binary.LittleEndian.Uint32(chunk)) != i {
			t.Errorf("chunk %d: %v", i, err)
		}
	}
}

// TestScattered reads a file whose clusters are anywhere, of more pieces than
// are remembered.
func TestScattered(t *testing.T) {
	dev, fs := format(t, 20000)
	a, err := fs.Create("a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := fs.Create("b")
	if err != nil {
		t.Fatal(err)
	}
	const clusters = 3 * maxRuns
	block := make([]byte, sectorSize)
	for i := range clusters {
		binary.LittleEndian.PutUint32(block, uint32(i))
		for _, f := range []*File{a, b} {
			if _, err := f.Write(block); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, f := range []*File{a, b} {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	dev.check(t)
	f, err := fs.Open("a")
	if err != nil {
		t.Fatal(err)
	}
	for i := range clusters {
		i = i * 1237 % clusters // in some order
		if _, err := f.ReadAt(block, int64(i)*sectorSize); err != nil || binary.LittleEndian.Uint32(block) != uint32(i) {
			t.Fatalf("cluster %d: %v", i, err)
		}
		if len(f.runs) > maxRuns {
			t.Fatalf("%d runs are remembered", len(f.runs))
		}
	}
}
