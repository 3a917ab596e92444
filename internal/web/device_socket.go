package web

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
)

// Bounds of the socket of a terminal.
const (
	socketMessage = 6*fleet.MaxTerminalPiece + 4<<10 // bytes; a character may take six as JSON
	socketRate    = 500                              // messages per second
	socketBurst   = 1000
	socketBytes   = 4 << 20          // per second
	socketLook    = 5 * time.Second  // between looks whether the viewer may still be there
	socketPing    = 20 * time.Second // between signs of life
	socketWrite   = 10 * time.Second // for the browser to take a message
	socketPieces  = 16               // pieces of a file that wait for the device
)

// Codes with which a socket ends, for the browser.
const (
	socketSignedOut websocket.StatusCode = 4401 // sign in again
	socketForbidden websocket.StatusCode = 4403 // do not come back
)

// socketMessageIn is what the browser says.
type socketMessageIn struct {
	Op   string `json:"op"` // data, resize, restart, file_start, file_cancel; pieces of a file are binary
	Data string `json:"data"`
	Rows int    `json:"rows"`
	Cols int    `json:"cols"`
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// socketMessageOut is what the browser is told: the words of a
// fleet.TerminalOutput, and problem, sent, sent_all and file_problem.
type socketMessageOut struct {
	Op      string `json:"op"`
	Data    string `json:"data,omitempty"`
	Name    string `json:"name,omitempty"`
	Message string `json:"message,omitempty"`
	Hint    string `json:"hint,omitempty"`
	Chunk   int    `json:"chunk,omitempty"`
	Size    int64  `json:"size,omitempty"`
	Files   bool   `json:"files,omitempty"`
}

// socket is one browser at one terminal.
type socket struct {
	s    *site
	r    *request
	kind fleet.TerminalKind
	conn *websocket.Conn
	work sync.WaitGroup
	stop context.CancelCauseFunc

	// wire is the context of reads and writes. It outlives the rest: its end
	// would cut the connection off before the browser learns why.
	wire context.Context //nolint:containedctx // see above

	mu     sync.Mutex
	term   *control.Terminal // nil while the device can not be reached
	upload *upload           // nil: none
}

// socketEnd is why a socket ends, as the browser is told.
type socketEnd struct {
	code   websocket.StatusCode
	reason string
}

func (e socketEnd) Error() string { return e.reason }

// deviceSocket connects a browser with a terminal of a device. A page of
// another site is refused.
func (s *site) deviceSocket(w http.ResponseWriter, r *request) {
	kind := fleet.TerminalKind(r.PathValue("kind"))
	if !kind.Valid() {
		s.fail(w, r.Request, fleet.Missing("page"))
		return
	}
	if err := r.scope.Require(fleet.RoleManage); err != nil {
		s.fail(w, r.Request, err)
		return
	}
	d, err := s.control.Device(r.ctx, r.scope, r.product(), r.PathValue("device"))
	if err != nil {
		s.fail(w, r.Request, err)
		return
	}
	if !s.streams.enter(r.user.ID) {
		s.fail(w, r.Request, fleet.Errorf(fleet.RateLimited, "too many live pages are open"))
		return
	}
	defer s.streams.leave(r.user.ID)
	if !s.begin() {
		s.fail(w, r.Request, fleet.Errorf(fleet.Unavailable, "the server stops"))
		return
	}
	defer s.work.Done()
	conn, err := websocket.Accept(w, r.Request, nil)
	if err != nil {
		return // it has answered
	}
	conn.SetReadLimit(socketMessage)
	wire, cut := context.WithCancel(context.WithoutCancel(r.ctx)) // the server does not watch the connection any more
	defer cut()
	ctx, stop := context.WithCancelCause(wire)
	x := &socket{s: s, r: r, kind: kind, conn: conn, stop: stop, wire: wire}
	x.serve(ctx, d.ID)
}

// serve runs until the browser leaves, may not be there any more, or the
// server stops.
func (x *socket) serve(ctx context.Context, device int64) {
	wake := make(chan struct{}, 1)
	poke := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	stops, err := x.listen(device, poke)
	if err != nil {
		x.stop(err)
	} else {
		x.work.Go(func() { x.stop(x.read(ctx)) })
		x.work.Go(func() { x.stop(x.ping(ctx)) })
		x.work.Go(func() { x.stop(x.guard(ctx)) })
		x.stop(x.attend(ctx, wake))
	}
	for _, f := range stops {
		f()
	}
	end := socketEnd{websocket.StatusInternalError, "the terminal ended"}
	if cause := context.Cause(ctx); !errors.As(cause, &end) {
		x.s.log.Debug("a terminal's socket ended", "error", cause)
	}
	_ = x.conn.Close(end.code, end.reason) // the browser may have gone
	x.work.Wait()
}

// listen pokes when the device comes, or what is switched on changes.
func (x *socket) listen(device int64, poke func()) (stops []func(), err error) {
	stop, err := x.s.bus.OnPresence(x.r.org.ID, func(list []fleet.Presence) {
		for _, p := range list {
			if p.DeviceID == device {
				poke()
			}
		}
	})
	if err != nil {
		return nil, err
	}
	stops = append(stops, stop)
	stop, err = x.s.bus.OnChange(x.r.org.ID, func(fleet.Change) { poke() })
	if err != nil {
		return stops, err
	}
	return append(stops, stop), nil
}

// attend opens the terminal whenever it can be had, and passes on what it
// tells.
func (x *socket) attend(ctx context.Context, wake <-chan struct{}) error {
	tick := time.NewTicker(socketLook)
	defer tick.Stop()
	said := ""
	for {
		t, err := x.s.control.OpenTerminal(ctx, x.r.scope, x.r.product(), x.r.PathValue("device"), x.kind)
		switch {
		case err == nil:
			if err := x.pass(ctx, t); err != nil {
				return err
			}
			said = ""
		case fleet.KindOf(err) == fleet.Conflict || fleet.KindOf(err) == fleet.Unavailable:
			if m := fleet.MessageOf(err); m != said {
				said = m
				if err := x.tell(socketMessageOut{Op: fleet.TerminalStatus, Data: "waiting", Message: m, Hint: fleet.HintOf(err)}); err != nil {
					return err
				}
			}
		default:
			return endOf(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake:
		case <-tick.C:
		}
	}
}

// endOf makes the end of a socket of an error.
func endOf(err error) error {
	switch fleet.KindOf(err) {
	case fleet.Unauthorized:
		return socketEnd{socketSignedOut, "signed out"}
	case fleet.Forbidden, fleet.NotFound:
		return socketEnd{socketForbidden, fleet.MessageOf(err)}
	}
	return err
}

// pass passes on what an open terminal tells, until its end.
func (x *socket) pass(ctx context.Context, t *control.Terminal) error {
	x.mu.Lock()
	x.term = t
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		x.term = nil
		u := x.upload
		x.mu.Unlock()
		if u != nil {
			u.cancel()
		}
		if err := t.Close(); err != nil {
			x.s.log.Warn("a terminal was not closed well", "error", err)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case o, ok := <-t.Output():
			if !ok {
				return socketEnd{websocket.StatusTryAgainLater, t.Reason()}
			}
			err := x.tell(socketMessageOut{Op: o.Op, Data: o.Data, Name: o.Name, Chunk: o.Chunk, Files: o.Files})
			if err != nil {
				return err
			}
		}
	}
}

func (x *socket) tell(m socketMessageOut) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(x.wire, socketWrite)
	defer cancel()
	return x.conn.Write(ctx, websocket.MessageText, text)
}

// ping finds out about browsers that are gone without a word.
func (x *socket) ping(ctx context.Context) error {
	tick := time.NewTicker(socketPing)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		wait, cancel := context.WithTimeout(ctx, socketWrite)
		err := x.conn.Ping(wait)
		cancel()
		if err != nil {
			return err
		}
	}
}

// guard ends the socket when the session or the role does, or the server.
func (x *socket) guard(ctx context.Context) error {
	tick := time.NewTicker(socketLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-x.s.drain:
			return socketEnd{websocket.StatusGoingAway, "the server stops"}
		case <-tick.C:
		}
		scope, err := x.s.admitted(ctx, x.r)
		if err == nil {
			err = scope.Require(fleet.RoleManage)
		}
		switch fleet.KindOf(err) {
		case fleet.Unauthorized, fleet.Forbidden, fleet.NotFound:
			return endOf(err)
		}
	}
}

// read does what the browser says.
func (x *socket) read(ctx context.Context) error {
	messages, bytes := rate.NewLimiter(socketRate, socketBurst), rate.NewLimiter(socketBytes, socketBytes)
	for {
		kind, data, err := x.conn.Read(x.wire)
		if err != nil {
			return err
		}
		// Who is too quick waits, and so does the browser.
		if err := errors.Join(messages.Wait(ctx), bytes.WaitN(ctx, max(1, len(data)))); err != nil {
			return err
		}
		x.mu.Lock()
		t, u := x.term, x.upload
		x.mu.Unlock()
		if kind == websocket.MessageBinary {
			if u != nil && !u.put(data) {
				return socketEnd{websocket.StatusPolicyViolation, "pieces of the file come faster than they are taken"}
			}
			continue
		}
		var m socketMessageIn
		if err := json.Unmarshal(data, &m); err != nil {
			return socketEnd{websocket.StatusUnsupportedData, "not a message of a terminal"}
		}
		if m.Op == "file_cancel" && u != nil {
			u.cancel()
		}
		if t == nil {
			continue // it has been told that the device is away
		}
		if err := x.act(ctx, t, m); err != nil {
			if err := x.tell(socketMessageOut{Op: "problem", Message: sentence(err), Hint: fleet.HintOf(err)}); err != nil {
				return err
			}
		}
	}
}

func (x *socket) act(ctx context.Context, t *control.Terminal, m socketMessageIn) error {
	switch m.Op {
	case fleet.TerminalData:
		return t.Write(m.Data)
	case fleet.TerminalResize:
		return t.Resize(m.Rows, m.Cols)
	case fleet.TerminalRestart:
		return t.Restart()
	case fleet.TerminalFileStart:
		x.startUpload(ctx, t, m.Name, m.Size)
	}
	return nil
}

// upload is a file on its way from the browser to the device.
type upload struct {
	pieces chan []byte
	ctx    context.Context //nolint:containedctx // it ends with the upload, which has two sides
	cancel context.CancelFunc
	rest   []byte // of the piece that is being read
}

// put takes a piece from the browser; false says that too many wait.
func (u *upload) put(piece []byte) bool {
	select {
	case u.pieces <- piece:
		return true
	case <-u.ctx.Done():
		return true // it is over, and the browser will hear
	default:
		return false
	}
}

// Read gives the pieces to the device.
func (u *upload) Read(p []byte) (int, error) {
	for len(u.rest) == 0 {
		select {
		case u.rest = <-u.pieces:
		case <-u.ctx.Done():
			return 0, u.ctx.Err()
		}
	}
	n := copy(p, u.rest)
	u.rest = u.rest[n:]
	return n, nil
}

var _ io.Reader = (*upload)(nil)

func (x *socket) startUpload(ctx context.Context, t *control.Terminal, name string, size int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.upload != nil {
		return // the browser sends one at a time
	}
	u := &upload{pieces: make(chan []byte, socketPieces)}
	u.ctx, u.cancel = context.WithCancel(ctx)
	x.upload = u
	x.work.Go(func() {
		defer u.cancel()
		err := t.SendFile(u.ctx, name, size, u, func(n int64) {
			_ = x.tell(socketMessageOut{Op: "sent", Name: name, Size: n}) // the reader notices who is gone
		})
		x.mu.Lock()
		x.upload = nil
		x.mu.Unlock()
		m := socketMessageOut{Op: "sent_all", Name: name, Size: size}
		switch {
		case errors.Is(err, context.Canceled):
			m = socketMessageOut{Op: "file_problem", Name: name, Message: "it was broken off"}
		case err != nil:
			m = socketMessageOut{Op: "file_problem", Name: name, Message: fleet.MessageOf(err)}
		}
		_ = x.tell(m)
	})
}
