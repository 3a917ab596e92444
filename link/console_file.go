package link

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ganglion-iot/ganglion/phx"
)

// Bounds of files over the console.
const (
	maxUploads    = 4           // at once
	uploadPause   = time.Minute // longest between two pieces
	maxFileName   = 200         // bytes
	fileChunk     = 1024        // bytes of a piece we send, as devices of the original do
	partialPrefix = ".partial-" // of the file while it arrives
)

// filePiece is the payload of the events about files.
type filePiece struct {
	Filename string `json:"filename"`
	Chunk    int    `json:"chunk"`
	Data     string `json:"data"` // standard base64
}

// fileName is the name of a file as the other side gives it: one name, without
// any way to another directory.
func fileName(name string) error {
	switch {
	case name == "" || len(name) > maxFileName:
		return fmt.Errorf("a name of a file has 1 to %d bytes", maxFileName)
	case !utf8.ValidString(name) || strings.ContainsAny(name, `/\`) || strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("a name of a file is one name, without directories")
	case strings.HasPrefix(name, "."):
		return errors.New("a name of a file must not begin with a dot")
	}
	return nil
}

// uploads are the files that arrive. They are used by one goroutine.
type uploads struct {
	dir  string
	open map[string]*upload
}

type upload struct {
	f    *os.File
	size int64
	last time.Time // when a piece came
}

func (u *uploads) busy() bool { return len(u.open) > 0 }

// lateAt is when the first of them has waited too long, zero for never.
func (u *uploads) lateAt() time.Time {
	var first time.Time
	for _, f := range u.open {
		if at := f.last.Add(uploadPause); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// abort gives up all of them and removes what came.
func (u *uploads) abort() {
	for name := range u.open {
		u.drop(name)
	}
}

func (u *uploads) drop(name string) {
	if f := u.open[name]; f != nil {
		delete(u.open, name)
		f.f.Close()
		_ = u.inside(func(dir *os.Root) error { return dir.Remove(partialPrefix + name) }) // at worst it is overwritten later
	}
}

// inside works in the directory; nothing outside of it can be reached.
func (u *uploads) inside(do func(dir *os.Root) error) error {
	dir, err := os.OpenRoot(u.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return do(dir)
}

// start begins a file; one of the same name begins anew.
func (u *uploads) start(name string) error {
	if u.dir == "" {
		return errors.New("the device takes no files")
	}
	if err := fileName(name); err != nil {
		return err
	}
	u.drop(name)
	if len(u.open) == maxUploads {
		return fmt.Errorf("%d other files are arriving", maxUploads)
	}
	return u.inside(func(dir *os.Root) error {
		_ = dir.Remove(partialPrefix + name) // of an earlier run
		f, err := dir.OpenFile(partialPrefix+name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if u.open == nil {
			u.open = make(map[string]*upload)
		}
		u.open[name] = &upload{f: f, last: time.Now()}
		return nil
	})
}

// write adds a piece. The file of which one fails is given up; pieces of
// files that are not open are ignored, so that one failure is told once.
func (u *uploads) write(p filePiece) error {
	f := u.open[p.Filename]
	if f == nil {
		return nil
	}
	err := f.write(p.Data)
	if err != nil {
		u.drop(p.Filename)
	}
	return err
}

func (f *upload) write(text string) error {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	if f.size += int64(len(data)); f.size > MaxConsoleFile {
		return fmt.Errorf("files may have %d bytes", MaxConsoleFile)
	}
	f.last = time.Now()
	_, err = f.f.Write(data)
	return err
}

// stop puts a whole file in its place and reports whether there was one.
func (u *uploads) stop(name string) (done bool, err error) {
	f := u.open[name]
	if f == nil {
		return false, nil
	}
	if err := f.f.Sync(); err != nil {
		u.drop(name)
		return false, err
	}
	err = u.inside(func(dir *os.Root) error { return dir.Rename(partialPrefix+name, name) })
	if err != nil {
		u.drop(name)
		return false, err
	}
	f.f.Close()
	delete(u.open, name)
	return true, nil
}

// file takes a part of a file that an operator sends.
func (c *console) file(ctx context.Context, m consoleMessage) {
	var p filePiece
	err := decode(m.payload, &p)
	if err == nil {
		switch m.event {
		case "file-data/start":
			err = c.up.start(p.Filename)
		case "file-data":
			err = c.up.write(p)
		case "file-data/stop":
			var done bool
			if done, err = c.up.stop(p.Filename); done {
				c.l.opts.Logger.Info("received a file", "path", filepath.Join(c.up.dir, p.Filename))
			}
		}
	}
	if err != nil {
		c.l.opts.Logger.Warn("a file was not received", "error", err)
		c.notice(ctx, "The file was not received: "+err.Error())
	}
}

// errSending refuses a second file at once: operators could not tell them
// apart.
var errSending = errors.New("link: another file is being sent")

// SendFile sends a file to the operators who look at the console. It must have
// fewer than MaxConsoleFile bytes. The error is phx.ErrNotJoined while the
// console is not connected; nothing is sent later.
func (l *Link) SendFile(ctx context.Context, path string) error {
	f, size, err := openSmall(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return l.sendFile(ctx, filepath.Base(path), size, f)
}

// openSmall opens a regular file that may be sent.
func openSmall(path string) (*os.File, int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() { // checked before it is opened: a pipe would block
		return nil, 0, fmt.Errorf("%s is not a regular file", path)
	}
	if info.Size() >= MaxConsoleFile {
		return nil, 0, fmt.Errorf("%s has %d bytes; fewer than %d can be sent", path, info.Size(), MaxConsoleFile)
	}
	f, err := os.Open(path)
	return f, info.Size(), err
}

// sendFile sends size bytes of r on one connection.
func (l *Link) sendFile(ctx context.Context, name string, size int64, r io.Reader) error {
	if err := fileName(strings.TrimPrefix(name, ".")); err != nil {
		return err
	}
	if !l.sending.TryLock() {
		return errSending
	}
	defer l.sending.Unlock()
	s := l.connection.Load()
	if s == nil {
		return phx.ErrNotJoined
	}
	send := func(event string, payload any) error {
		return s.pushBulk(ctx, phx.TopicConsole, event, payload)
	}
	whole := map[string]string{"filename": name}
	if err := send("file-data/start", whole); err != nil {
		return err
	}
	buf := make([]byte, fileChunk)
	for n, left := 0, size; left > 0; n++ {
		piece := buf[:min(left, fileChunk)]
		if _, err := io.ReadFull(r, piece); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		left -= int64(len(piece))
		err := send("file-data", filePiece{Filename: name, Chunk: n, Data: base64.StdEncoding.EncodeToString(piece)})
		if err != nil {
			return err
		}
	}
	return send("file-data/stop", whole)
}
