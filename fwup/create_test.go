package fwup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// recordedTime is the creation date of the recorded archives.
var recordedTime = time.Unix(1700000000, 0)

// anatomy is all of an archive but its packed data: every record of the file
// in order, and the content of every member.
type anatomy struct {
	locals, contents, descriptors, central []string
}

// dissect takes an archive apart that was laid out by fwup.
func dissect(tb testing.TB, b []byte) (a anatomy) {
	tb.Helper()
	le := binary.LittleEndian
	z := newZipReader(tb.Context(), bytes.NewReader(b), zipBuffer)
	for {
		m, err := z.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			tb.Fatal(err)
		}
		content, err := io.ReadAll(m)
		if err != nil {
			tb.Fatal(err)
		}
		a.locals = append(a.locals, string(b[m.offset:m.start]))
		a.contents = append(a.contents, string(content))
		d := b[m.start+m.packed:]
		a.descriptors = append(a.descriptors, string(d[:8])+string(d[12:16])) // without the packed size
	}
	for d := b[z.src.off():]; le.Uint32(d) == sigCentral; {
		n := 46 + int(le.Uint16(d[28:])) + int(le.Uint16(d[30:]))
		h := slices.Clone(d[:n])
		clear(h[20:24]) // packed size
		clear(h[42:46]) // offset
		a.central = append(a.central, string(h))
		d = d[n:]
	}
	return a
}

// sameAnatomy compares archives byte by byte but for the deflated data, whose
// bytes depend on the compressor, and the sizes and offsets that follow it.
func sameAnatomy(t *testing.T, got, want []byte) {
	t.Helper()
	g, w := dissect(t, got), dissect(t, want)
	for _, part := range []struct {
		name      string
		got, want []string
	}{
		{"local headers", g.locals, w.locals}, {"contents", g.contents, w.contents},
		{"descriptors", g.descriptors, w.descriptors}, {"central headers", g.central, w.central},
	} {
		if !slices.Equal(part.got, part.want) {
			t.Errorf("%s\n got %q\nwant %q", part.name, part.got, part.want)
		}
	}
	if !bytes.Equal(got[len(got)-2:], want[len(want)-2:]) || !bytes.Equal(got[len(got)-22:len(got)-10], want[len(want)-22:len(want)-10]) {
		t.Errorf("end record %x, want %x", got[len(got)-22:], want[len(want)-22:])
	}
}

func create(tb testing.TB, o CreateOptions) []byte {
	tb.Helper()
	var out bytes.Buffer
	if err := Create(tb.Context(), &out, o); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func TestCreateAsRecorded(t *testing.T) {
	for name, o := range map[string]CreateOptions{
		"unsigned": {ConfigPath: "one"},
		"fast":     {ConfigPath: "one", Level: 1},
		"signed-a": {ConfigPath: "one", PrivateKey: privateKey(t, "a")},
		"signed-b": {ConfigPath: "one", PrivateKey: privateKey(t, "b")},
		"two":      {ConfigPath: "two"}, "concat": {ConfigPath: "concat"}, "empty": {ConfigPath: "empty"},
		"meta": {ConfigPath: "meta"}, "ab-v1": {ConfigPath: "ab-v1"}, "ab-v2": {ConfigPath: "ab-v2"},
		"abr-v1": {ConfigPath: "abr-v1"}, "abr-v2": {ConfigPath: "abr-v2"},
		"ab-v2-signed": {ConfigPath: "ab-v2", PrivateKey: privateKey(t, "a")},
	} {
		t.Run(name, func(t *testing.T) {
			o.ConfigPath = filepath.Join(recorded, "conf", o.ConfigPath+".conf")
			o.LookupEnv = func(name string) (string, bool) { return "1700000000", name == "SOURCE_DATE_EPOCH" }
			got := create(t, o)
			sameAnatomy(t, got, recordedArchive(t, name))
			if !bytes.Equal(create(t, o), got) {
				t.Error("made again, it is not the same")
			}
			if _, err := Verify(t.Context(), bytes.NewReader(got), VerifyOptions{Strict: true}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSignAsRecorded(t *testing.T) {
	for _, c := range []struct{ in, key, want string }{
		{"unsigned", "a", "late-signed-a"}, {"signed-a", "b", "resigned-b"},
	} {
		var out bytes.Buffer
		o := SignOptions{PrivateKey: privateKey(t, c.key), Time: recordedTime}
		if err := Sign(t.Context(), bytes.NewReader(recordedArchive(t, c.in)), &out, o); err != nil {
			t.Fatal(err)
		}
		sameAnatomy(t, out.Bytes(), recordedArchive(t, c.want))
	}
}

// TestSignKeepsDeltas signs an archive whose members are not what meta.conf
// says, which signing must not judge, and one of unknown sizes.
func TestSignKeepsDeltas(t *testing.T) {
	for _, name := range []string{"ab-v1-to-v2-delta", "rezip-stream", "rezip-store-stream", "rezip-datadir"} {
		var out bytes.Buffer
		in := recordedArchive(t, name)
		if err := Sign(t.Context(), bytes.NewReader(in), &out, SignOptions{PrivateKey: privateKey(t, "b")}); err != nil {
			t.Fatal(err)
		}
		keys := []PublicKey{publicKey(t, "b")}
		if _, err := Verify(t.Context(), bytes.NewReader(out.Bytes()), VerifyOptions{PublicKeys: keys}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		before, err := ReadMetadata(bytes.NewReader(in), nil)
		if err != nil {
			t.Fatal(err)
		}
		after, err := ReadMetadata(bytes.NewReader(out.Bytes()), keys)
		if err != nil || after.UUID != before.UUID {
			t.Errorf("%s: %v, uuid %v became %v", name, err, before, after)
		}
	}
	if err := Sign(t.Context(), bytes.NewReader(recordedArchive(t, "unsigned")), io.Discard, SignOptions{}); classOf(err) != ClassKeyDecode {
		t.Errorf("without a key: %v", err)
	}
	if err := Sign(t.Context(), bytes.NewReader(recordedArchive(t, "bad-meta-before-sig")), io.Discard, SignOptions{PrivateKey: privateKey(t, "a")}); classOf(err) != ClassDuplicateFile {
		t.Errorf("a signature in the middle: %v", err)
	}
}

func TestCreateRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "two-blocks"), make([]byte, 1024), 0o600); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("n", 507)
	for conf, want := range map[string]string{
		`file-resource x { host-path = "nowhere" }`:                          "can't open path 'nowhere' in file-resource 'x'",
		`file-resource x { host-path = "two-blocks;nowhere" }`:               "can't open path 'nowhere' in file-resource 'x'",
		`file-resource x { host-path = "." }`:                                "can't open path '.' in file-resource 'x'",
		`file-resource x { host-path = "" }`:                                 "must specify a host-path for resource 'x'",
		`file-resource x { host-path = "two-blocks" assert-size-lte = 1 }`:   "file size assertion failed on 'two-blocks'. Size is 1024 bytes. It must be <= 512 bytes (1 blocks)",
		`file-resource x { host-path = "two-blocks" assert-size-gte = 3 }`:   "file size assertion failed on 'two-blocks'. Size is 1024 bytes. It must be >= 1536 bytes (3 blocks)",
		`file-resource x { host-path = ";two-blocks;" assert-size-gte = 3 }`: "file size assertion failed on ';two-blocks;'. Size is 1024 bytes. It must be >= 1536 bytes (3 blocks)",
		`file-resource x { host-path = ";" assert-size-gte = 1 }`:            "file size assertion failed on ';'. Size is 0 bytes. It must be >= 512 bytes (1 blocks)",
		`file-resource "/meta.conf" { contents = "x" }`:                      "resources can't be named /meta.conf",
		`file-resource "/meta.conf.ed25519" { contents = "x" }`:              "resources can't be named /meta.conf.ed25519",
		`file-resource "/data/x" { contents = "x" }`:                         "use a normal resource name rather than specifying /data",
		`file-resource "/data" { contents = "x" }`:                           "use a normal resource name rather than specifying /data",
		`file-resource "" { contents = "x" }`:                                "resource name can't be empty",
		`file-resource "/" { contents = "x" }`:                               "resource name '/' can't end in a '/'",
		`file-resource "x/" { contents = "x" }`:                              "resource name 'x/' can't end in a '/'",
		`file-resource "` + long + `" { contents = "x" }`:                    "resource name '" + long + "' is too long",
		`meta-product = `: "Error parsing configuration file '" + dir + "/x.conf'",
	} {
		path := filepath.Join(dir, "x.conf")
		if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		err := Create(t.Context(), io.Discard, CreateOptions{ConfigPath: path})
		if classOf(err) != ClassConfig || err.Error() != want {
			t.Errorf("%s: %v, want %s", conf, err, want)
		}
	}
	for _, conf := range []string{
		`file-resource x { host-path = "two-blocks" assert-size-lte = 2 assert-size-gte = 2 }`,
		`file-resource x { host-path = "two-blocks" assert-size-lte = 9223372036854775807 }`,
		`file-resource x { contents = "" assert-size-gte = 2 }`,
		`file-resource "` + long[1:] + `" { contents = "x" }`,
		`file-resource "/datum" { contents = "x" }`,
	} {
		if err := os.WriteFile(filepath.Join(dir, "x.conf"), []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		create(t, CreateOptions{ConfigPath: filepath.Join(dir, "x.conf")})
	}
	if err := Create(t.Context(), io.Discard, CreateOptions{ConfigPath: filepath.Join(dir, "none.conf")}); classOf(err) != ClassConfig {
		t.Errorf("no configuration: %v", err)
	}
	one := filepath.Join(recorded, "conf", "one.conf")
	if err := Create(t.Context(), io.Discard, CreateOptions{ConfigPath: one, Level: 10}); err == nil {
		t.Error("level 10 passes")
	}
	if err := Create(t.Context(), io.Discard, CreateOptions{ConfigPath: one, PrivateKey: make(PrivateKey, 5)}); classOf(err) != ClassKeyDecode {
		t.Errorf("short key: %v", err)
	}
}

// TestSparse makes a firmware of a file with holes and writes it: the holes
// are not in the archive, and leave the device as it is.
func TestSparse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "holes")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	const mib = 1 << 20
	for _, at := range []int64{mib, 3 * mib} {
		if _, err := f.WriteAt(bytes.Repeat([]byte{7}, 64<<10), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Truncate(4*mib), f.Close()); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "x.conf")
	text := `file-resource x { host-path = "holes" skip-holes = true }
task complete { on-resource x { raw_write(0) } }`
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b := create(t, CreateOptions{ConfigPath: conf})
	a, err := openArchive(t.Context(), bytes.NewReader(b), archiveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	runs := a.resources["x"].layout
	if len(runs) < 2 {
		t.Skipf("%s: the file system does not tell holes", dir)
	}
	if runs.size() != 4*mib || runs.dataSize() < 128<<10 || runs.dataSize() > 2*mib || runs.endingHole() == 0 {
		t.Errorf("runs of data and holes: %d", runs)
	}
	before := bytes.Repeat([]byte{1}, 5*mib)
	dev := NewMemoryDevice(before)
	if _, err := Apply(t.Context(), bytes.NewReader(b), dev, ApplyOptions{Task: "complete"}); err != nil {
		t.Fatal(err)
	}
	got := dev.Bytes()
	for at, want := range map[int]byte{0: 1, mib: 7, mib + 64<<10 - 1: 7, 3*mib + 5: 7, 2 * mib: 1, 4*mib - 1: 0, 4 * mib: 1} {
		if got[at] != want {
			t.Errorf("byte %d is %d, want %d", at, got[at], want)
		}
	}
}

func TestLayoutJoin(t *testing.T) {
	for _, c := range []struct{ a, b, want layout }{
		{nil, layout{5}, layout{5}}, {layout{5}, layout{6}, layout{11}}, {nil, layout{0, 3}, layout{0, 3}},
		{layout{0, 3}, layout{0, 4, 5}, layout{0, 7, 5}}, {layout{1, 2}, layout{3, 4}, layout{1, 2, 3, 4}}, {layout{1}, layout{0}, layout{1}},
	} {
		if got := c.a.join(c.b); !slices.Equal(got, c.want) {
			t.Errorf("%d and %d: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

// TestHostPathsAreRelativeToTheirFile makes a firmware of files that lie
// beside the configuration that names them.
func TestHostPathsAreRelativeToTheirFile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	for name, text := range map[string]string{
		"main.conf":       "file-resource a { host-path = f }\ninclude(sub/part.conf)\nfile-resource c { include(sub/inside.conf) }",
		"f":               "outer",
		"sub/part.conf":   "file-resource b { host-path = \"f;../f\" }\nfile-resource d { host-path = \"~/f\" }",
		"sub/f":           "inner ",
		"sub/inside.conf": "host-path = f",
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	b := create(t, CreateOptions{ConfigPath: dir + "/main.conf"})
	members, err := readMembers(t, bytes.NewReader(b))
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	want := map[string]string{"data/a": "outer", "data/b": "inner outer", "data/c": "outer", "data/d": "outer"}
	for _, m := range members[1:] {
		if string(m.content) != want[m.name] {
			t.Errorf("%s is %q, want %q", m.name, m.content, want[m.name])
		}
	}
	if len(members) != 5 {
		t.Errorf("%d members", len(members))
	}
}

// TestManyHoles joins files with so many holes that the rest is taken as data.
func TestManyHoles(t *testing.T) {
	file := make(layout, 200)
	for i := range file {
		file[i] = int64(i + 1)
	}
	first, taken := layout(nil).take(file)
	if !slices.Equal(first, file) || !slices.Equal(taken, file) {
		t.Fatalf("the first file is %d", first)
	}
	both, taken := first.take(file)
	if len(both) != maxRuns || both.size() != 2*file.size() {
		t.Fatalf("%d runs of %d bytes", len(both), both.size())
	}
	// The first 55 runs of the second file fill the layout, the others are data.
	if len(taken) != 55 || !slices.Equal(taken[:54], file[:54]) || taken[54] != file[54:].size() || taken.size() != file.size() {
		t.Errorf("the second file is %d", taken)
	}
	last := both[254]
	third, taken := both.take(file)
	if len(third) != maxRuns || len(taken) != 1 || taken[0] != file.size() || third[254] != last+file.size() {
		t.Errorf("the third file is %d of %d", taken, third)
	}
	if third.dataSize()+third.sum(1) != 3*file.size() {
		t.Errorf("%d bytes are gone", 3*file.size()-third.size())
	}
}
