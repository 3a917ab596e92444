package fat

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

// node is a file or directory that should be on the volume.
type node struct {
	name string // as it was first written
	dir  bool
	ro   bool
	data []byte
	kids map[string]*node
}

// model says what a volume should hold.
type model struct {
	t    *testing.T
	r    *rand.Rand
	fs   *FS
	dev  *memory
	root *node
	log  []string
}

func key(name string) string { return strings.ToUpper(strings.TrimRight(name, " .")) }

var someNames = []string{
	"a", "B", "file.txt", "FILE.TXT", "Readme.MD", "UPPER.low", "low.UPP", "noext", "a long file name.text",
	"another long file name.text", ".hidden", "two.dots.txt", "trailing dots..", "plus+and=[x].y", "with space",
	"exactly8.ext", "ninechars", "x.four", strings.Repeat("long ", 50) + "12345",
}

func (m *model) someName() string {
	if m.r.IntN(2) == 0 {
		return fmt.Sprintf("numbered file %d.bin", m.r.IntN(14))
	}
	return someNames[m.r.IntN(len(someNames))]
}

// place is where a name is or could be.
type place struct {
	path   string
	parent *node
	inside []*node // the directories on the way
	name   string
}

func (p place) node() *node { return p.parent.kids[key(p.name)] }

func (m *model) place() place {
	p := place{parent: m.root}
	for m.r.IntN(3) > 0 {
		var dirs []*node
		for _, n := range p.parent.kids {
			if n.dir {
				dirs = append(dirs, n)
			}
		}
		if len(dirs) == 0 {
			break
		}
		sort.Slice(dirs, func(i, j int) bool { return dirs[i].name < dirs[j].name })
		p.parent = dirs[m.r.IntN(len(dirs))]
		p.inside = append(p.inside, p.parent)
		p.path += p.parent.name + "/"
	}
	p.name = m.someName()
	p.path += p.name
	return p
}

func (m *model) expect(what string, got, want error) bool {
	m.t.Helper()
	m.log = append(m.log, fmt.Sprintf("%s: %v", what, got))
	if !errors.Is(got, want) || want == nil && got != nil {
		m.t.Fatalf("%s: %v, want %v\n%s", what, got, want, strings.Join(m.log, "\n"))
	}
	return got == nil
}

func (m *model) put(p place, data []byte) {
	n := p.node()
	if n == nil {
		n = &node{name: strings.TrimRight(p.name, " .")}
		p.parent.kids[key(p.name)] = n
	}
	n.data = data
}

func (m *model) create() {
	p := m.place()
	n := p.node()
	f, err := m.fs.Create(p.path)
	if n != nil && (n.dir || n.ro) {
		m.expect("create "+p.path, err, ErrDenied)
		return
	}
	m.expect("create "+p.path, err, nil)
	data := make([]byte, m.r.IntN(9000))
	for i := range data {
		data[i] = byte(m.r.Uint32())
	}
	for rest := data; len(rest) > 0; {
		k := min(len(rest), 1+m.r.IntN(3000))
		_, err := f.Write(rest[:k])
		m.expect("write "+p.path, err, nil)
		rest = rest[k:]
	}
	m.expect("close "+p.path, f.Close(), nil)
	m.put(p, data)
}

func (m *model) touch() {
	p := m.place()
	n := p.node()
	err := m.fs.Touch(p.path)
	switch {
	case n == nil:
		m.expect("touch "+p.path, err, nil)
		m.put(p, nil)
	case n.dir || n.ro:
		m.expect("touch "+p.path, err, ErrDenied)
	default:
		m.expect("touch "+p.path, err, nil)
	}
}

func (m *model) mkdir() {
	p := m.place()
	n := p.node()
	err := m.fs.Mkdir(p.path)
	if n != nil && !n.dir {
		m.expect("mkdir "+p.path, err, ErrExist)
		return
	}
	m.expect("mkdir "+p.path, err, nil)
	if n == nil {
		p.parent.kids[key(p.name)] = &node{name: strings.TrimRight(p.name, " ."), dir: true, kids: map[string]*node{}}
	}
}

func (m *model) remove() {
	p := m.place()
	n := p.node()
	err := m.fs.Remove(p.path)
	switch {
	case n == nil:
		m.expect("remove "+p.path, err, ErrNotExist)
	case n.ro || len(n.kids) > 0:
		m.expect("remove "+p.path, err, ErrDenied)
	default:
		m.expect("remove "+p.path, err, nil)
		delete(p.parent.kids, key(p.name))
	}
}

func (m *model) rename() {
	from, to := m.place(), m.place()
	n, taken := from.node(), to.node()
	err := m.fs.Rename(from.path, to.path)
	what := "rename " + from.path + " to " + to.path
	into := false
	for _, d := range to.inside {
		into = into || d == n
	}
	switch {
	case n == nil:
		m.expect(what, err, ErrNotExist)
	case taken != nil && taken != n:
		m.expect(what, err, ErrExist)
	case into:
		m.expect(what, err, ErrDenied)
	default:
		m.expect(what, err, nil)
		delete(from.parent.kids, key(from.name))
		n.name = strings.TrimRight(to.name, " .")
		to.parent.kids[key(to.name)] = n
	}
}

func (m *model) copy() {
	from, to := m.place(), m.place()
	n, taken := from.node(), to.node()
	err := Copy(m.fs, to.path, m.fs, from.path)
	what := "copy " + from.path + " to " + to.path
	switch {
	case n == nil || n.dir:
		m.expect(what, err, ErrNotExist)
	case taken == n:
		m.expect(what, err, nil)
	case taken != nil && (taken.dir || taken.ro):
		m.expect(what, err, ErrDenied)
	default:
		m.expect(what, err, nil)
		m.put(to, n.data)
	}
}

func (m *model) attributes() {
	p := m.place()
	n := p.node()
	ro := m.r.IntN(3) == 0
	err := m.fs.SetAttributes(p.path, Attributes{ReadOnly: ro, Hidden: m.r.IntN(2) == 0})
	if n == nil {
		m.expect("attributes "+p.path, err, ErrNotExist)
		return
	}
	m.expect("attributes "+p.path, err, nil)
	n.ro = ro
}

func (m *model) reopen() {
	m.expect("close", m.fs.Close(), nil)
	fs, err := Open(m.dev)
	m.expect("open", err, nil)
	m.fs = fs
}

func (m *model) step() {
	switch m.r.IntN(16) {
	case 0, 1, 2, 3:
		m.create()
	case 4:
		m.touch()
	case 5, 6:
		m.mkdir()
	case 7, 8, 9:
		m.remove()
	case 10, 11, 12:
		m.rename()
	case 13:
		m.copy()
	case 14:
		m.attributes()
	default:
		m.reopen()
	}
}

// compare looks for everything in a tree that mcopy made, and for nothing else.
func (m *model) compare(n *node, path, where string) {
	m.t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		m.t.Fatal(err)
	}
	if len(entries) != len(n.kids) {
		m.t.Errorf("%s has %d entries, want %d", where, len(entries), len(n.kids))
	}
	for _, kid := range n.kids {
		full := filepath.Join(path, kid.name)
		if kid.dir {
			m.compare(kid, full, where+kid.name+"/")
			continue
		}
		data, err := os.ReadFile(full)
		if err != nil || !bytes.Equal(data, kid.data) {
			m.t.Errorf("%s%s: %d bytes are not the %d written: %v", where, kid.name, len(data), len(kid.data), err)
		}
		if got := readFile(m.t, m.fs, where+kid.name); !bytes.Equal(got, kid.data) {
			m.t.Errorf("%s%s is not read as it was written", where, kid.name)
		}
	}
}

// foreign returns a volume that another program formatted.
func foreign(t *testing.T, options ...string) (*memory, *FS) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "foreign.img")
	options = append(options, "-C", path, "40000") // KiB
	if out, err := exec.Command(tool(t, "mkfs.fat"), options...).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.fat: %v\n%s", err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dev := newMemory(int64(len(b)))
	patch(t, dev, 0, b...)
	fs, err := Open(dev)
	if err != nil {
		t.Fatal(err)
	}
	return dev, fs
}

// TestRandomOperations does what the model says should work and what should
// not, and then has other programs look at the outcome.
func TestRandomOperations(t *testing.T) {
	mcopy := tool(t, "mcopy")
	for _, c := range []struct {
		name  string
		seeds uint64
		make  func(*testing.T) (*memory, *FS)
	}{
		{"FAT12", 8, func(t *testing.T) (*memory, *FS) { return format(t, 4000) }},
		{"FAT16", 8, func(t *testing.T) (*memory, *FS) { return format(t, 20000) }},
		{"FAT32", 8, func(t *testing.T) (*memory, *FS) { return format(t, 70000) }},
		{"foreign FAT12", 2, func(t *testing.T) (*memory, *FS) { return foreign(t, "-F", "12", "-s", "32") }},
		{"foreign FAT16", 2, func(t *testing.T) (*memory, *FS) { return foreign(t, "-F", "16", "-s", "4", "-f", "1") }},
		{"foreign FAT32", 2, func(t *testing.T) (*memory, *FS) { return foreign(t, "-F", "32", "-s", "1", "-R", "64") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range c.seeds {
				dev, fs := c.make(t)
				m := &model{
					t: t, r: rand.New(rand.NewPCG(seed, uint64(fs.bits))), fs: fs, dev: dev,
					root: &node{dir: true, kids: map[string]*node{}},
				}
				for range 150 {
					m.step()
				}
				if seed%2 == 0 {
					// A label in the root directory only, as fwup leaves it, is
					// something that fsck.fat frowns at.
					m.expect("label", m.fs.SetLabel("Seed Label"), nil)
					m.expect("no label", m.fs.SetLabel(""), nil)
				}
				m.expect("close", m.fs.Close(), nil)
				dev.check(t)
				m.readBack(mcopy)
				if t.Failed() {
					t.Fatalf("seed %d:\n%s", seed, strings.Join(m.log, "\n"))
				}
			}
		})
	}
}

// readBack has mcopy take everything out, and compares.
func (m *model) readBack(mcopy string) {
	m.t.Helper()
	dir := m.t.TempDir()
	image, tree := filepath.Join(dir, "fat.img"), filepath.Join(dir, "tree")
	m.dev.save(m.t, image)
	if err := os.Mkdir(tree, 0o755); err != nil {
		m.t.Fatal(err)
	}
	if out, err := exec.Command(mcopy, "-s", "-n", "-i", image, "::", tree).CombinedOutput(); err != nil {
		m.t.Fatalf("mcopy: %v\n%s", err, out)
	}
	m.compare(m.root, tree, "/")
}
