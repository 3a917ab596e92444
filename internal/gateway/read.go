package gateway

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/gobwas/ws"
)

// Bounds of what a device may say.
const (
	maxMessage    = 64 << 10              // bytes of one message
	pooledBuffer  = 4 << 10               // bytes; most messages are shorter
	frameInterval = 20 * time.Millisecond // average of frames of one device
	frameBurst    = 300                   // frames at once; then reading waits
)

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, pooledBuffer); return &b }}

// ending says why a session ends. Code 0 hangs up without a close frame.
type ending struct {
	code   ws.StatusCode
	reason string
}

var errEnded = errors.New("the session has ended")

func (e *ending) Error() string { return e.reason }

// read is the life of a session: it reads frames until the connection ends.
// Its stack stays shallow; whatever takes more runs elsewhere.
func (s *session) read() {
	defer s.g.live.Done()
	err := s.readFrames()
	reason := "the connection was lost"
	var e *ending
	if errors.As(err, &e) {
		reason = e.reason
		if e.code != 0 {
			s.close(e.code, reason)
			// Until the device has the close frame and hangs up, or is late.
			_, _ = io.Copy(io.Discard, s.conn)
		}
	} else if errors.Is(err, io.EOF) {
		reason = "the device hung up"
	}
	s.end(reason)
}

// message is what has arrived of one message.
type message struct {
	buf  *[]byte // from the pool; nil while nothing has arrived
	op   ws.OpCode
	more bool // a fragment, and not the last
}

func (m *message) release() {
	if m.buf != nil && cap(*m.buf) == pooledBuffer {
		*m.buf = (*m.buf)[:0]
		buffers.Put(m.buf)
	}
	*m = message{}
}

func (s *session) readFrames() error {
	var m message
	defer m.release()
	for {
		if err := s.readFrame(&m); err != nil {
			return err
		}
		if m.more || m.buf == nil {
			continue
		}
		if err := s.handOver(m.op, *m.buf); err != nil {
			return err
		}
		m.release()
	}
}

// readFrame reads one frame. Control frames are dealt with, data is added to m.
func (s *session) readFrame(m *message) error {
	h, err := ws.ReadHeader(s.conn)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return errEnded
		}
		return err
	}
	now := s.g.clock.Now()
	s.heard.Store(now.Unix())
	s.spoken.Store(true)
	state := ws.StateServerSide
	if m.more {
		state = state.Set(ws.StateFragmented)
	}
	if err := ws.CheckHeader(h, state); err != nil {
		return &ending{closeProtocol, "the device broke the WebSocket protocol"}
	}
	s.throttle(now)
	if h.OpCode.IsControl() {
		return s.readControl(h)
	}
	if m.buf == nil {
		m.buf, m.op = buffers.Get().(*[]byte), h.OpCode
	}
	m.more = !h.Fin
	had := len(*m.buf)
	if h.Length > int64(maxMessage-had) {
		return &ending{closeTooBig, "the device sent too large a message"}
	}
	size := had + int(h.Length)
	if size > cap(*m.buf) {
		larger := make([]byte, had, max(size, 2*cap(*m.buf)))
		copy(larger, *m.buf)
		m.buf = &larger
	}
	*m.buf = (*m.buf)[:size]
	part := (*m.buf)[had:]
	if _, err := io.ReadFull(s.conn, part); err != nil {
		return err
	}
	ws.Cipher(part, h.Mask, 0)
	return nil
}

// readControl answers a ping, and the close frame with which a device leaves.
func (s *session) readControl(h ws.Header) error {
	payload := make([]byte, h.Length) // at most 125
	if _, err := io.ReadFull(s.conn, payload); err != nil {
		return err
	}
	ws.Cipher(payload, h.Mask, 0)
	switch h.OpCode {
	case ws.OpPing:
		s.send(compile(ws.NewPongFrame(payload)))
	case ws.OpClose:
		if len(payload) == 0 {
			return &ending{closeNormal, "the device closed the connection"}
		}
		code, text := ws.ParseCloseFrameData(payload)
		if len(payload) == 1 || ws.CheckCloseFrameData(code, text) != nil {
			return &ending{closeProtocol, "the device broke the WebSocket protocol"}
		}
		return &ending{code, "the device closed the connection"}
	}
	return nil
}

// throttle makes a device that sends too much wait, and keeps its share of
// the server bounded.
func (s *session) throttle(now time.Time) {
	at := now.UnixNano()
	s.arrival = max(s.arrival, at) + int64(frameInterval)
	if ahead := s.arrival - at - frameBurst*int64(frameInterval); ahead > 0 {
		s.g.metrics.throttled.Inc()
		time.Sleep(time.Duration(ahead))
	}
}

// task is a message on its way through a goroutine of its own.
type task struct {
	s    *session
	op   ws.OpCode
	data []byte
	err  error
	done chan struct{}
}

var tasks = sync.Pool{New: func() any { return &task{done: make(chan struct{}, 1)} }}

func (t *task) run() {
	t.err = t.s.handle(t.op, t.data)
	t.done <- struct{}{}
}

// handOver handles a message and waits for that. On this goroutine it would
// leave the idle session with a large stack.
func (s *session) handOver(op ws.OpCode, data []byte) error {
	t := tasks.Get().(*task)
	t.s, t.op, t.data, t.err = s, op, data, nil
	go t.run()
	<-t.done
	err := t.err
	t.s, t.data, t.err = nil, nil, nil
	tasks.Put(t)
	return err
}
