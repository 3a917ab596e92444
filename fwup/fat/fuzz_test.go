package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"
)

// patch overwrites a part of a device.
func patch(tb testing.TB, dev *memory, off int64, b ...byte) {
	tb.Helper()
	if _, err := dev.WriteAt(b, off); err != nil {
		tb.Fatal(err)
	}
}

// TestHostile has volumes that somebody damaged on purpose. Whatever is done
// with them ends, with an error if need be.
func TestHostile(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dev *memory, fs *FS)
		want   error // of reading dir/file
	}{
		{"none", func(*testing.T, *memory, *FS) {}, nil},
		{"a directory in a circle", func(t *testing.T, _ *memory, fs *FS) {
			fill(t, fs, "dir", 1)
			must(t, fs.setNext(firstOf(t, fs, "dir"), firstOf(t, fs, "dir")))
		}, ErrNotExist},
		{"a directory to nowhere", func(t *testing.T, _ *memory, fs *FS) {
			fill(t, fs, "dir", 1)
			must(t, fs.setNext(firstOf(t, fs, "dir"), 0))
		}, ErrCorrupt},
		{"a directory at a bad cluster", func(t *testing.T, _ *memory, fs *FS) {
			setFirst(t, fs, "dir", fs.limit)
		}, ErrCorrupt},
		{"a directory at cluster 1", func(t *testing.T, _ *memory, fs *FS) {
			setFirst(t, fs, "dir", 1)
		}, ErrCorrupt},
		{"a directory that is the root", func(t *testing.T, _ *memory, fs *FS) {
			setFirst(t, fs, "dir", 0)
		}, ErrNotExist},
		{"a file in a circle", func(t *testing.T, _ *memory, fs *FS) {
			must(t, fs.setNext(firstOf(t, fs, "dir/file"), firstOf(t, fs, "dir/file")))
		}, nil},
		{"a file that is cut", func(t *testing.T, _ *memory, fs *FS) {
			must(t, fs.setNext(firstOf(t, fs, "dir/file"), endOfChain))
		}, ErrCorrupt},
		{"a file without clusters", func(t *testing.T, _ *memory, fs *FS) {
			setFirst(t, fs, "dir/file", 0)
		}, ErrCorrupt},
		{"a file larger than the volume", func(t *testing.T, _ *memory, fs *FS) {
			o, err := fs.walk("dir/file")
			must(t, err)
			e, err := o.entry()
			must(t, err)
			binary.LittleEndian.PutUint32(e[28:], 0xffffffff)
			o.changed()
		}, ErrCorrupt},
	} {
		for _, blocks := range []int64{2048, 20000, 77238} {
			t.Run(fmt.Sprint(c.name, " ", blocks), func(t *testing.T) {
				dev, fs := format(t, blocks)
				must(t, fs.Mkdir("dir"))
				writeFile(t, fs, "dir/file", make([]byte, 3000))
				c.damage(t, dev, fs)
				must(t, fs.Close())
				fs, err := Open(dev)
				must(t, err)
				f, err := fs.Open("dir/file")
				if err == nil {
					_, err = f.ReadAt(make([]byte, f.Size()), 0)
				}
				if !errors.Is(err, c.want) || c.want == nil && err != nil {
					t.Errorf("%v, want %v", err, c.want)
				}
				everything(fs)
			})
		}
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// fill makes so many files that a directory takes more than one cluster, of
// which count stay in the first.
func fill(t *testing.T, fs *FS, dir string, count int) {
	t.Helper()
	for i := range 20 {
		must(t, fs.Touch(fmt.Sprintf("%s/F%d", dir, i)))
	}
	for i := range 20 - count {
		must(t, fs.Remove(fmt.Sprintf("%s/F%d", dir, 19-i)))
	}
	must(t, fs.Rename(dir+"/file", dir+"/other"))
	for i := range 12 {
		must(t, fs.Touch(fmt.Sprintf("%s/G%d", dir, i)))
	}
}

func firstOf(t *testing.T, fs *FS, name string) uint32 {
	t.Helper()
	o, err := fs.walk(name)
	must(t, err)
	e, err := o.entry()
	must(t, err)
	return fs.clusterOf(e)
}

func setFirst(t *testing.T, fs *FS, name string, cluster uint32) {
	t.Helper()
	o, err := fs.walk(name)
	must(t, err)
	e, err := o.entry()
	must(t, err)
	fs.setCluster(e, cluster)
	o.changed()
}

// everything does one of each, whatever comes of it.
func everything(fs *FS) {
	for i := range byte(16) {
		operate(fs, i, i*37, i*11)
	}
}

// operate does something with files named by a and b.
func operate(fs *FS, what, a, b byte) {
	x, y := fuzzNames[int(a)%len(fuzzNames)], fuzzNames[int(b)%len(fuzzNames)]
	switch what % 10 {
	case 0:
		if f, err := fs.Create(x); err == nil {
			_, _ = f.Write(make([]byte, int(b)*40))
			_ = f.Close()
		}
	case 1:
		_ = fs.Touch(x)
	case 2:
		_ = fs.Mkdir(x)
	case 3:
		_ = fs.Remove(x)
	case 4:
		_ = fs.Rename(x, y)
	case 5:
		if f, err := fs.Open(x); err == nil && f.Size() < 1<<20 {
			_ = Copy(fs, y, fs, x)
		}
	case 6:
		_ = fs.SetAttributes(x, Attributes{ReadOnly: b&1 != 0, Hidden: b&2 != 0})
	case 7:
		_ = fs.SetLabel(y)
	case 8:
		if f, err := fs.Open(x); err == nil {
			p := make([]byte, 4096)
			_, _ = f.ReadAt(p, 0)
			_, _ = f.ReadAt(p, f.Size()-int64(b))
			_, _ = f.ReadAt(p, f.Size()/2)
		}
	default:
		_ = fs.Sync()
	}
}

var fuzzNames = []string{"a", "file", "dir", "dir/file", "dir/long name of a file", "dir/sub", "dir/sub/x.y", "LONGNA~1", ""}

// FuzzFS opens any image and does anything with it: it must end soon, and
// never write outside. The first byte of the script says what to start from:
// an image that is given or a proper one that patches change.
func FuzzFS(f *testing.F) {
	images := map[byte]*memory{}
	for i, blocks := range []int64{256, 5000, 66700} {
		dev, fs := format(f, blocks)
		must(f, fs.Mkdir("dir"))
		writeFile(f, fs, "dir/file", make([]byte, 3000))
		writeFile(f, fs, "dir/long name of a file", []byte("x"))
		images[byte(i)] = dev
		var boot [sectorSize]byte
		_, _ = dev.ReadAt(boot[:], 0)
		f.Add([]byte{3}, boot[:])
		for op := range byte(10) {
			f.Add([]byte{byte(i), 1, 2, op, 3, 4, op + 1, 2, 3}, []byte{0, 13, 2, 2, 0, 3, 2, 5, 0xff})
		}
	}
	f.Fuzz(func(t *testing.T, script, data []byte) {
		if len(script) == 0 || len(script) > 60 {
			return
		}
		dev := newMemory(1 << 20)
		if base := images[script[0]]; base != nil {
			dev.size = base.size
			for i, page := range base.pages {
				p := *page
				dev.pages[i] = &p
			}
			for ; len(data) >= 3; data = data[3:] {
				off := int64(binary.LittleEndian.Uint16(data)) % dev.size
				patch(t, dev, off, data[2])
			}
		} else if int64(len(data)) <= dev.size {
			patch(t, dev, 0, data...)
		}
		start := time.Now()
		fs, err := Open(dev)
		if err != nil {
			return
		}
		for script = script[1:]; len(script) >= 3; script = script[3:] {
			operate(fs, script[0], script[1], script[2])
		}
		_ = fs.Close()
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}
