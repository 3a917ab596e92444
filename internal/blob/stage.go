package blob

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// stageDir holds files being written. No key reaches it: parts of keys do not
// begin with a dot.
const stageDir = ".stage"

// staging makes temporary files in a directory.
type staging struct {
	root *os.Root
}

func openStaging(dir string) (staging, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return staging{}, badDir(dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return staging{}, badDir(dir, err)
	}
	if err := root.Mkdir(stageDir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		root.Close()
		return staging{}, badDir(dir, err)
	}
	return staging{root: root}, nil
}

func badDir(dir string, err error) error {
	return fleet.Errorf(fleet.Unavailable, "files cannot be kept in %s: %w", dir, err)
}

// create makes a temporary file that Abort removes.
func (s staging) create(ctx context.Context) (*stagedFile, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name := stageDir + "/" + rand.Text()
	file, err := s.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return nil, mapError(err, "stage a file")
	}
	return &stagedFile{ctx: ctx, root: s.root, name: name, file: file}, nil
}

func (s staging) deleteBefore(ctx context.Context, t time.Time) (int, error) {
	entries, err := fs.ReadDir(s.root.FS(), stageDir)
	if err != nil {
		return 0, mapError(err, "list staged files")
	}
	deleted := 0
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return deleted, err
		}
		info, err := e.Info()
		if err != nil || info.IsDir() || !info.ModTime().Before(t) {
			continue // an upload that just ended, or one still under way
		}
		if err := s.root.Remove(stageDir + "/" + e.Name()); err == nil {
			deleted++
		} else if !errors.Is(err, fs.ErrNotExist) {
			return deleted, mapError(err, "remove a staged file")
		}
	}
	return deleted, nil
}

// probe shows that files can be written.
func (s staging) probe(ctx context.Context) error {
	f, err := s.create(ctx)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte("ganglion"))
	return errors.Join(err, f.Abort())
}

// stagedFile is a temporary file with the context of its upload.
type stagedFile struct {
	ctx  context.Context
	root *os.Root
	name string
	file *os.File // nil after the end
	size int64
}

func (f *stagedFile) Write(p []byte) (int, error) {
	if f.file == nil {
		return 0, fs.ErrClosed
	}
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := f.file.Write(p)
	f.size += int64(n)
	return n, mapError(err, "write a staged file")
}

// ReadFrom is io.Copy's loop with a check of the context in each round: the
// larger buffer halves the system calls of an upload.
func (f *stagedFile) ReadFrom(r io.Reader) (int64, error) {
	buf := make([]byte, 128<<10)
	var total int64
	for {
		n, err := r.Read(buf)
		if n > 0 {
			w, werr := f.Write(buf[:n])
			total += int64(w)
			if werr != nil {
				return total, werr
			}
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// Abort closes and removes the file.
func (f *stagedFile) Abort() error {
	if f.file == nil {
		return nil
	}
	f.file.Close()
	f.file = nil
	if err := f.root.Remove(f.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return mapError(err, "remove a staged file")
	}
	return nil
}
