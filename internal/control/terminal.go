package control

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// Bounds of a terminal that somebody has open.
const (
	terminalQueue   = 256              // outputs a viewer may be behind
	terminalKeep    = 10 * time.Second // between signs that the viewer is there; three may be missed
	terminalTimeout = 10 * time.Second // of a question to the database
	pieceTimeout    = 30 * time.Second // for the device to take a piece of a file
)

// Terminal is one viewer of one terminal of one device. Its methods may be
// called from several goroutines.
type Terminal struct {
	c      *Control
	s      fleet.Scope
	device fleet.Device
	kind   fleet.TerminalKind
	viewer string
	opened time.Time

	output  chan fleet.TerminalOutput
	acks    chan int      // numbers of pieces the device was sent
	changed chan struct{} // the device came or went
	ended   chan struct{} // closed at the end
	work    sync.WaitGroup
	stops   []func() // of subscriptions
	sending sync.Mutex

	in, out atomic.Int64 // bytes

	mu     sync.Mutex
	node   string // that the viewer is known to
	files  bool   // the device takes files
	state  string // as last told
	over   bool   // nothing is put into output any more
	reason string // why it is over
	closed bool
}

// OpenTerminal makes the caller a viewer of a terminal of a connected device,
// until Close. It needs the role manage. It fails with Conflict when the
// device is not connected or its shell is switched off.
func (c *Control) OpenTerminal(ctx context.Context, s fleet.Scope, product, identifier string, kind fleet.TerminalKind) (*Terminal, error) {
	if err := s.Require(fleet.RoleManage); err != nil {
		return nil, err
	}
	if !kind.Valid() {
		return nil, fleet.InvalidField("kind", "must be console or shell")
	}
	t := &Terminal{
		c: c, s: s, kind: kind, viewer: rand.Text(), opened: c.clock.Now(), output: make(chan fleet.TerminalOutput, terminalQueue),
		acks: make(chan int, 4), changed: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	err := c.change(ctx, s, fleet.RoleManage, func(w *changing) (err error) {
		if t.device, err = terminalDevice(w.Tx, s, product, identifier, kind); err != nil {
			return err
		}
		return w.audit(deviceSubject(t.device), "terminal_open", map[string]any{"terminal": kind, "viewer": t.viewer},
			"opened the %s of the device %s", kind, t.device.Identifier)
	})
	if err != nil {
		return nil, err
	}
	if err = t.listen(); err == nil {
		err = t.attach(t.device.Connection.Node)
	}
	if err != nil {
		t.finish("it could not be opened")
		_ = t.Close() // the first error says why
		return nil, err
	}
	t.work.Go(t.keep)
	return t, nil
}

// terminalDevice finds a device whose terminal may be opened.
func terminalDevice(tx *store.Tx, s fleet.Scope, product, identifier string, kind fleet.TerminalKind) (fleet.Device, error) {
	d, err := deviceOf(tx, s, product, identifier)
	if err != nil {
		return d, err
	}
	if d.Connection.Status != fleet.Connected {
		return d, fleet.Errorf(fleet.Conflict, "the device %s is not connected", d.Identifier)
	}
	if kind != fleet.TerminalShell {
		return d, nil
	}
	p, err := tx.Product(s, d.ProductID)
	if err == nil && !p.Extensions.Without(d.ExtensionsOff).Has(fleet.ExtensionLocalShell) {
		err = fleet.Errorf(fleet.Conflict, "the shell of the device %s is switched off", d.Identifier).
			WithHint("switch on the extension local_shell for its product, and not off for the device")
	}
	return d, err
}

// listen subscribes to what the viewer is to be told, and to where its device
// goes.
func (t *Terminal) listen() error {
	stop, err := t.c.bus.OnTerminalOutput(t.device.ID, t.told)
	if err != nil {
		return err
	}
	t.stops = append(t.stops, stop)
	stop, err = t.c.bus.OnPresence(t.device.OrgID, func(list []fleet.Presence) {
		for _, p := range list {
			if p.DeviceID == t.device.ID && p.Status == fleet.Connected {
				poke(t.changed)
			}
		}
	})
	if err != nil {
		return err
	}
	t.stops = append(t.stops, stop)
	return nil
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// told takes what the node of the device says. It never waits: a viewer that
// does not read is cut.
func (t *Terminal) told(o fleet.TerminalOutput) {
	if o.Kind != t.kind || o.Viewer != "" && o.Viewer != t.viewer {
		return
	}
	switch o.Op {
	case fleet.TerminalFileAck:
		select {
		case t.acks <- o.Chunk:
		default: // nobody waits any more
		}
		return
	case fleet.TerminalClosed:
		t.finish(o.Data)
		return
	}
	t.mu.Lock()
	if o.Op == fleet.TerminalStatus {
		t.state = o.Data
		t.files = o.Data == fleet.TerminalReady && o.Files
	}
	if t.over {
		t.mu.Unlock()
		return
	}
	select {
	case t.output <- o:
		t.mu.Unlock()
		t.out.Add(int64(len(o.Data)))
	default:
		t.mu.Unlock()
		t.finish("the viewer was too slow")
	}
}

// finish ends the output. Only the first reason counts.
func (t *Terminal) finish(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return
	}
	t.over, t.reason = true, reason
	close(t.output)
	close(t.ended)
}

// keep tells the node of the device that the viewer is there, follows the
// device to another node, and ends the terminal of somebody who may not have
// it any more.
func (t *Terminal) keep() {
	tick := time.NewTicker(terminalKeep)
	defer tick.Stop()
	for {
		select {
		case <-t.ended:
			return
		case <-t.changed:
		case <-tick.C:
		}
		d, err := t.still()
		switch fleet.KindOf(err) {
		case "":
			err = t.attach(d.Connection.Node)
		case fleet.NotFound, fleet.Forbidden, fleet.Unauthorized, fleet.Conflict:
			t.finish(err.Error())
			return
		}
		if err != nil {
			t.c.log.Warn("a terminal was not kept alive", "device", t.device.Identifier, "error", err)
		}
	}
}

// still reads the device anew, and whether the viewer may still see it.
func (t *Terminal) still() (d fleet.Device, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), terminalTimeout)
	defer cancel()
	err = t.c.store.View(ctx, func(tx *store.Tx) error {
		if t.s.Actor.Kind == fleet.ActorUser {
			m, err := tx.Membership(t.s, t.s.Actor.ID)
			if err != nil {
				return err
			}
			if !m.Role.Allows(fleet.RoleManage) {
				return fleet.Errorf(fleet.Forbidden, "this needs the role %s", fleet.RoleManage)
			}
		}
		if d, err = tx.Device(t.s, t.device.ID); err != nil {
			return err
		}
		if d.ProductID != t.device.ProductID {
			return fleet.Missing("device")
		}
		return nil
	})
	return d, err
}

// attach makes the viewer known to the node, or says that it is still there.
func (t *Terminal) attach(node string) error {
	t.mu.Lock()
	before := t.node
	t.node = node
	t.mu.Unlock()
	if node == "" {
		return nil // it is gone; its presence brings us back
	}
	op := fleet.TerminalKeep
	if node != before {
		op = fleet.TerminalOpen
		if before != "" {
			_ = t.sendTo(before, fleet.TerminalInput{Op: fleet.TerminalClose}) // else it expires there
		}
	}
	return t.sendTo(node, fleet.TerminalInput{Op: op})
}

func (t *Terminal) sendTo(node string, in fleet.TerminalInput) error {
	in.DeviceID, in.Kind, in.Viewer = t.device.ID, t.kind, t.viewer
	if err := t.c.bus.SendTerminal(node, in); err != nil {
		return fleet.Errorf(fleet.Unavailable, "the device can not be reached right now: %w", err)
	}
	return nil
}

// send passes on what the viewer does.
func (t *Terminal) send(in fleet.TerminalInput) error {
	t.mu.Lock()
	node, over, reason := t.node, t.over, t.reason
	t.mu.Unlock()
	switch {
	case over:
		return fleet.Errorf(fleet.Conflict, "the terminal is closed: %s", reason)
	case node == "":
		return fleet.Errorf(fleet.Conflict, "the device %s is not connected", t.device.Identifier)
	}
	return t.sendTo(node, in)
}

// Output is what the viewer is told, beginning with a status. It is closed at
// the end: by Close, when the viewer may not see the device any more, or when
// it reads too slowly; Reason then says why.
func (t *Terminal) Output() <-chan fleet.TerminalOutput { return t.output }

// Reason says why the output ended; "" while it has not.
func (t *Terminal) Reason() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reason
}

// Write types into the terminal: text of at most fleet.MaxTerminalInput bytes.
func (t *Terminal) Write(data string) error {
	if len(data) > fleet.MaxTerminalInput {
		return fleet.Errorf(fleet.TooLarge, "a terminal takes %d bytes at once", fleet.MaxTerminalInput)
	}
	data = strings.ToValidUTF8(data, "\uFFFD")
	if data == "" {
		return nil
	}
	if err := t.send(fleet.TerminalInput{Op: fleet.TerminalData, Data: data}); err != nil {
		return err
	}
	t.in.Add(int64(len(data)))
	return nil
}

// Resize says how large the viewer's window is. The program gets the smallest
// of all viewers' windows.
func (t *Terminal) Resize(rows, cols int) error {
	for _, n := range [...]int{rows, cols} {
		if n < 1 || n > fleet.MaxTerminalSide {
			return fleet.InvalidField("size", "rows and columns must be 1 to %d", fleet.MaxTerminalSide)
		}
	}
	return t.send(fleet.TerminalInput{Op: fleet.TerminalResize, Rows: rows, Cols: cols})
}

// Restart starts the program of the terminal anew, for all viewers.
func (t *Terminal) Restart() error { return t.send(fleet.TerminalInput{Op: fleet.TerminalRestart}) }

// SendFile writes a file of a size, at most fleet.MaxTerminalFile bytes, to
// the console's directory on the device, and calls sent, where given, with the
// bytes gone so far. Only one file is sent at a time. The device does not say
// whether it kept the file.
func (t *Terminal) SendFile(ctx context.Context, name string, size int64, r io.Reader, sent func(int64)) error {
	if err := t.mayTakeFile(name, size); err != nil {
		return err
	}
	t.sending.Lock()
	defer t.sending.Unlock()
	t.forgetAcks()
	if err := t.sendPiece(ctx, fleet.TerminalInput{Op: fleet.TerminalFileStart, Name: name, User: t.s.Actor.ID}); err != nil {
		return err
	}
	piece := make([]byte, fleet.MaxTerminalPiece)
	limited := io.LimitReader(r, size)
	total := int64(0)
	for chunk := 1; total < size; chunk++ {
		n, err := io.ReadFull(limited, piece)
		short := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if short && total+int64(n) < size {
			return fleet.InvalidField("file", "has %d bytes and not %d", total+int64(n), size)
		}
		if err != nil && !short {
			return fleet.Errorf(fleet.Unavailable, "the file could not be read: %w", err)
		}
		in := fleet.TerminalInput{Op: fleet.TerminalFileData, Name: name, Chunk: chunk, Data: base64.StdEncoding.EncodeToString(piece[:n])}
		if err := t.sendPiece(ctx, in); err != nil {
			return err
		}
		total += int64(n)
		t.in.Add(int64(n))
		if sent != nil {
			sent(total)
		}
	}
	return t.sendPiece(ctx, fleet.TerminalInput{Op: fleet.TerminalFileStop, Name: name, User: t.s.Actor.ID})
}

func (t *Terminal) mayTakeFile(name string, size int64) error {
	t.mu.Lock()
	files := t.files
	t.mu.Unlock()
	switch {
	case t.kind != fleet.TerminalConsole || !files:
		return fleet.Errorf(fleet.Conflict, "the device %s takes no files now", t.device.Identifier)
	case size < 0 || size > fleet.MaxTerminalFile:
		return fleet.Errorf(fleet.TooLarge, "a file may have %d bytes", fleet.MaxTerminalFile)
	case len(name) == 0 || len(name) > 255 || name != filepath.Base(name) || name == "." || name == ".." || strings.ContainsAny(name, "/\\\x00"):
		return fleet.InvalidField("name", "must be a file name of at most 255 bytes without a directory")
	}
	return nil
}

func (t *Terminal) forgetAcks() {
	for {
		select {
		case <-t.acks:
		default:
			return
		}
	}
}

// sendPiece sends a part of a file and waits until the device was sent it, so
// that a slow device is never given more than it takes.
func (t *Terminal) sendPiece(ctx context.Context, in fleet.TerminalInput) error {
	if in.Op == fleet.TerminalFileStop {
		in.Chunk = fleet.TerminalChunkStop
	}
	if err := t.send(in); err != nil {
		return err
	}
	late := time.NewTimer(pieceTimeout)
	defer late.Stop()
	for {
		select {
		case got := <-t.acks:
			if got == in.Chunk {
				return nil
			}
			if got == fleet.TerminalChunkRefused {
				return fleet.Errorf(fleet.Conflict, "somebody else sends a file to the device %s, or it left", t.device.Identifier)
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-t.ended:
			return fleet.Errorf(fleet.Conflict, "the terminal is closed: %s", t.Reason())
		case <-late.C:
			return fleet.Errorf(fleet.Unavailable, "the device %s does not take the file", t.device.Identifier)
		}
	}
}

// Close leaves the terminal and writes down how long it was open and what went
// through it. Calling it again does nothing.
func (t *Terminal) Close() error {
	t.finish("it was closed")
	t.work.Wait()
	t.mu.Lock()
	node, stops, again := t.node, t.stops, t.closed
	t.node, t.closed = "", true
	t.mu.Unlock()
	if again {
		return nil
	}
	for _, stop := range stops {
		stop()
	}
	var left error
	if node != "" {
		left = t.sendTo(node, fleet.TerminalInput{Op: fleet.TerminalClose})
	}
	ctx, cancel := context.WithTimeout(context.Background(), terminalTimeout)
	defer cancel()
	took := t.c.clock.Now().Sub(t.opened)
	// Who lost the right meanwhile has still been there.
	err := t.c.commit(ctx, t.s, func(w *changing) error {
		return w.audit(deviceSubject(t.device), "terminal_close", map[string]any{
			"terminal": t.kind, "viewer": t.viewer, "seconds": int64(took.Seconds()), "bytes_in": t.in.Load(), "bytes_out": t.out.Load(), "reason": t.Reason(),
		}, "closed the %s of the device %s after %s", t.kind, t.device.Identifier, took.Round(time.Second))
	})
	if err != nil {
		return err
	}
	return left
}
