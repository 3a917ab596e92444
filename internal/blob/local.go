package blob

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path"
	"time"
)

// Local keeps objects as files below one directory.
type Local struct {
	staging
}

// OpenLocal opens the store in dir and makes the directory if need be.
func OpenLocal(dir string) (*Local, error) {
	s, err := openStaging(dir)
	if err != nil {
		return nil, err
	}
	return &Local{staging: s}, nil
}

// Close lets go of the directory.
func (l *Local) Close() error { return l.root.Close() }

// Stage implements Store.
func (l *Local) Stage(ctx context.Context) (Staged, error) {
	f, err := l.create(ctx)
	if err != nil {
		return nil, err
	}
	return localStaged{f}, nil
}

// Open implements Store.
func (l *Local) Open(ctx context.Context, key string) (io.ReadSeekCloser, Object, error) {
	if err := CheckKey(key); err != nil {
		return nil, Object{}, err
	}
	if err := ctx.Err(); err != nil {
		return nil, Object{}, err
	}
	f, err := l.root.Open(key)
	if err != nil {
		return nil, Object{}, mapError(err, "open a file")
	}
	o, err := describe(key, f.Stat)
	if err != nil {
		f.Close()
		return nil, Object{}, err
	}
	return f, o, nil
}

// Stat implements Store.
func (l *Local) Stat(ctx context.Context, key string) (Object, error) {
	if err := CheckKey(key); err != nil {
		return Object{}, err
	}
	if err := ctx.Err(); err != nil {
		return Object{}, err
	}
	return describe(key, func() (fs.FileInfo, error) { return l.root.Stat(key) })
}

func describe(key string, stat func() (fs.FileInfo, error)) (Object, error) {
	info, err := stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist // a directory on the way to other keys
	}
	if err != nil {
		return Object{}, mapError(err, "look at a file")
	}
	return Object{Key: key, Size: info.Size(), ModTime: info.ModTime()}, nil
}

// Delete implements Store.
func (l *Local) Delete(ctx context.Context, key string) error {
	_, err := l.Stat(ctx, key)
	if isMissing(err) {
		return nil
	} else if err != nil {
		return err
	}
	if err := mapError(l.root.Remove(key), "remove a file"); err != nil && !isMissing(err) {
		return err
	}
	return nil
}

// DeleteStagedBefore implements Store.
func (l *Local) DeleteStagedBefore(ctx context.Context, t time.Time) (int, error) {
	return l.deleteBefore(ctx, t)
}

// Ping implements Store.
func (l *Local) Ping(ctx context.Context) error { return l.probe(ctx) }

type localStaged struct{ *stagedFile }

// Commit writes the file through to the disk before its name appears, and then
// the name: a power cut leaves all of the object or nothing.
func (s localStaged) Commit(ctx context.Context, key string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if s.file == nil {
		return fs.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return mapError(err, "write a file through")
	}
	dir := path.Dir(key)
	if err := s.root.MkdirAll(dir, 0o750); err != nil {
		return mapError(err, "make a directory")
	}
	if err := s.root.Rename(s.name, key); err != nil {
		return mapError(err, "name a file")
	}
	s.file.Close()
	s.file = nil
	for {
		if err := syncDir(s.root, dir); err != nil {
			return mapError(err, "write a directory through")
		}
		if dir == "." {
			return nil
		}
		dir = path.Dir(dir)
	}
}

func syncDir(root *os.Root, dir string) error {
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
