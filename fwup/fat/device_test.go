package fat

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const testPage = 4096

// memory is a device in memory of a fixed size. What was never written reads
// as zero and takes no memory.
type memory struct {
	size  int64
	pages map[int64]*[testPage]byte
	wrote int64 // bytes
	calls int   // of WriteAt
}

func newMemory(size int64) *memory { return &memory{size: size, pages: map[int64]*[testPage]byte{}} }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= m.size {
		return 0, io.EOF
	}
	var end error
	if int64(len(p)) > m.size-off {
		p, end = p[:m.size-off], io.EOF
	}
	for done := 0; done < len(p); {
		at := off + int64(done)
		part := p[done:min(len(p), done+testPage-int(at%testPage))]
		if page := m.pages[at/testPage]; page != nil {
			copy(part, page[at%testPage:])
		} else {
			clear(part)
		}
		done += len(part)
	}
	return len(p), end
}

var errOutside = errors.New("write outside the device")

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || int64(len(p)) > m.size-off {
		return 0, errOutside
	}
	m.wrote += int64(len(p))
	m.calls++
	for done := 0; done < len(p); {
		at := off + int64(done)
		page := m.pages[at/testPage]
		if page == nil {
			page = new([testPage]byte)
			m.pages[at/testPage] = page
		}
		done += copy(page[at%testPage:], p[done:])
	}
	return len(p), nil
}

// save writes the content to a file, with holes where there is nothing.
func (m *memory) save(tb testing.TB, path string) {
	tb.Helper()
	f, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := f.Truncate(m.size); err != nil {
		tb.Fatal(err)
	}
	for i, page := range m.pages {
		if _, err := f.WriteAt(page[:min(testPage, m.size-i*testPage)], i*testPage); err != nil {
			tb.Fatal(err)
		}
	}
}

// tool returns a command that is installed for the tests.
func tool(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = filepath.Join("/usr/sbin", name)
		_, err = os.Stat(path)
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			tb.Fatalf("%s is not installed", name)
		}
		tb.Skipf("%s is not installed", name)
	}
	return path
}

// check runs fsck.fat on the content.
func (m *memory) check(t *testing.T) {
	t.Helper()
	fsck := tool(t, "fsck.fat")
	path := filepath.Join(t.TempDir(), "fat.img")
	m.save(t, path)
	if out, err := exec.Command(fsck, "-n", "-v", path).CombinedOutput(); err != nil {
		t.Fatalf("fsck.fat: %v\n%s", err, out)
	}
}

func format(tb testing.TB, blocks int64) (*memory, *FS) {
	tb.Helper()
	m := newMemory(blocks * sectorSize)
	if err := Format(m, blocks); err != nil {
		tb.Fatal(err)
	}
	fs, err := Open(m)
	if err != nil {
		tb.Fatal(err)
	}
	return m, fs
}

func writeFile(tb testing.TB, fs *FS, name string, data []byte) {
	tb.Helper()
	f, err := fs.Create(name)
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
}

func readFile(tb testing.TB, fs *FS, name string) []byte {
	tb.Helper()
	f, err := fs.Open(name)
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	data, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	return data
}
