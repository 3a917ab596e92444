package fat

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"sort"
)

// maxRuns bounds what a File remembers of where its clusters are.
const maxRuns = 1024

// run is a row of neighbouring clusters of a file.
type run struct {
	index   uint32 // of the first of them in the file
	cluster uint32
	count   uint32
}

// File is an open file. One from Open is read with ReadAt, one from Create is
// also written to, from its start on. It may not be used after its file was
// removed, renamed or created anew.
type File struct {
	fs       *FS
	sector   int64 // of its entry
	offset   uint32
	first    uint32
	size     uint32
	writable bool
	changed  bool

	tail uint32 // its last cluster, when it is written to
	runs []run  // of some part of the file
}

// Size returns the size in bytes, at most 4 GiB - 1.
func (f *File) Size() int64 { return int64(f.size) }

// ReadAt reads as io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, ErrInvalidName
	}
	if off >= int64(f.size) {
		return 0, io.EOF
	}
	var end error
	if int64(len(p)) > int64(f.size)-off {
		p, end = p[:int64(f.size)-off], io.EOF
	}
	if err := f.fs.flush(); err != nil {
		return 0, err
	}
	for done := 0; done < len(p); {
		n, err := f.readRun(p[done:], off+int64(done))
		done += n
		if err != nil {
			return done, err
		}
	}
	return len(p), end
}

// readRun reads what lies in a row.
func (f *File) readRun(p []byte, off int64) (int, error) {
	size := f.fs.clusterSize()
	index := uint32(off / size)
	r, err := f.find(index, uint32((off+int64(len(p))-1)/size))
	if err != nil {
		return 0, err
	}
	sector, err := f.fs.sectorOf(r.cluster + index - r.index)
	if err != nil {
		return 0, err
	}
	n := min(int64(len(p)), int64(r.index+r.count)*size-off)
	return int(n), f.fs.readBytes(p[:n], sector*sectorSize+off%size)
}

// find returns the run with a cluster of the file, as far as it goes but no
// farther than last.
func (f *File) find(index, last uint32) (run, error) {
	if len(f.runs) == 0 || index < f.runs[0].index {
		if f.first < 2 || f.first >= f.fs.limit {
			return run{}, ErrCorrupt
		}
		f.runs = append(f.runs[:0], run{cluster: f.first, count: 1})
	}
	for {
		end := &f.runs[len(f.runs)-1]
		if end.index+end.count > last {
			break
		}
		next, err := f.fs.next(end.cluster + end.count - 1)
		if err != nil {
			return run{}, err
		}
		if next < 2 || next >= f.fs.limit {
			return run{}, ErrCorrupt
		}
		if next == end.cluster+end.count {
			end.count++
			continue
		}
		if index < end.index+end.count {
			break
		}
		r := run{index: end.index + end.count, cluster: next, count: 1}
		if len(f.runs) == maxRuns {
			f.runs = f.runs[:0]
		}
		f.runs = append(f.runs, r)
	}
	i := sort.Search(len(f.runs), func(i int) bool { return f.runs[i].index > index })
	return f.runs[i-1], nil
}

// Write adds to the end of the file. When the volume is full, it writes what
// fits and returns ErrFull. Until Sync or Close a reader sees the old size.
func (f *File) Write(p []byte) (n int, err error) {
	if !f.writable {
		return 0, ErrDenied
	}
	full := error(nil)
	if int64(len(p)) > math.MaxUint32-int64(f.size) {
		p, full = p[:math.MaxUint32-int64(f.size)], ErrFull
	}
	f.changed = true
	size := f.fs.clusterSize()
	if within := int64(f.size) % size; within > 0 {
		n = int(min(int64(len(p)), size-within))
		if err := f.put(f.tail, within, p[:n]); err != nil {
			return 0, err
		}
	}
	for n < len(p) {
		k, err := f.writeRun(p[n:])
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, full
}

// writeRun writes to new clusters as long as they are in a row.
func (f *File) writeRun(p []byte) (int, error) {
	size := f.fs.clusterSize()
	done := 0
	first, err := f.grow()
	for err == nil {
		count := int64(1)
		next := uint32(0)
		for count*size < int64(len(p)-done) {
			if next, err = f.grow(); err != nil || next != first+uint32(count) {
				break
			}
			count++
			next = 0
		}
		n := int(min(int64(len(p)-done), count*size))
		if err := f.put(first, 0, p[done:done+n]); err != nil {
			return done, err
		}
		done += n
		if next == 0 {
			break
		}
		first = next
	}
	return done, err
}

// grow adds a cluster to the file.
func (f *File) grow() (uint32, error) {
	c, err := f.fs.allocate(f.tail)
	if err != nil {
		return 0, err
	}
	if f.tail == 0 {
		f.first = c
	}
	f.tail = c
	return c, nil
}

// put writes to clusters in a row, at the end of the file. The rest of the
// last sector becomes zero.
func (f *File) put(cluster uint32, within int64, p []byte) error {
	sector, err := f.fs.sectorOf(cluster)
	if err != nil {
		return err
	}
	off := sector*sectorSize + within
	f.size += uint32(len(p))
	if n := int64(len(p)); off%sectorSize != 0 {
		n = min(n, sectorSize-off%sectorSize)
		if err := f.fs.writeBytes(p[:n], off); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	if whole := len(p) - len(p)%sectorSize; whole > 0 {
		if err := f.fs.writeBytes(p[:whole], off); err != nil {
			return err
		}
		p, off = p[whole:], off+int64(whole)
	}
	if len(p) == 0 {
		return nil
	}
	var last [sectorSize]byte
	copy(last[:], p)
	return f.fs.writeBytes(last[:], off)
}

// Sync writes what is known of the file to its entry.
func (f *File) Sync() error {
	if !f.changed {
		return nil
	}
	b, err := f.fs.load(f.sector)
	if err != nil {
		return err
	}
	e := b[f.offset : f.offset+entrySize]
	e[11] |= attrArchive
	f.fs.setCluster(e, f.first)
	binary.LittleEndian.PutUint32(e[28:], f.size)
	binary.LittleEndian.PutUint32(e[22:], epoch)
	e[18], e[19] = 0, 0 // never read
	f.fs.win.dirty = true
	f.changed = false
	return f.fs.Sync()
}

// Close is Sync, and the end of writing.
func (f *File) Close() error {
	err := f.Sync()
	f.writable = false
	return err
}

// PathError tells what could not be done with which file.
type PathError struct {
	Op   string // "open", "read" or "write"
	Path string
	Err  error
}

func (e *PathError) Error() string { return e.Op + " " + e.Path + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *PathError) Unwrap() error { return e.Err }

// Copy makes or overwrites a file with the content of another, which may be in
// another file system. An error is a *PathError.
func Copy(to *FS, toName string, from *FS, fromName string) error {
	src, err := from.Open(fromName)
	if err != nil {
		return &PathError{Op: "open", Path: fromName, Err: err}
	}
	if to == from {
		if same, err := to.Open(toName); err == nil && same.sector == src.sector && same.offset == src.offset {
			return nil // to itself
		}
	}
	dst, err := to.Create(toName)
	if err != nil {
		return &PathError{Op: "open", Path: toName, Err: err}
	}
	buf := make([]byte, min(64<<10, max(sectorSize, src.Size())))
	for off := int64(0); off < src.Size(); {
		n, err := src.ReadAt(buf, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return &PathError{Op: "read", Path: fromName, Err: err}
		}
		if _, err := dst.Write(buf[:n]); err != nil {
			return &PathError{Op: "write", Path: toName, Err: err}
		}
		off += int64(n)
	}
	if err := dst.Close(); err != nil {
		return &PathError{Op: "write", Path: toName, Err: err}
	}
	return nil
}
