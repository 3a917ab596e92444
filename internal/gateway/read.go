package gateway

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"sync"
	"time"

	"github.com/gobwas/ws"
)

// Bounds of what a device may say.
const (
	maxCloseCode  = 4999                  // RFC 6455 §7.4.2
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

func (e *ending) Error() string { return e.reason }

// read is the life of a session: it waits for frames until the connection
// ends. Nearly all of the time a device is idle, and then this, awaitFrame and
// what they call are all that is on its stack, which fits the smallest there
// is. Whatever takes more runs elsewhere, or while a frame is there.
func (s *session) read() {
	var m message
	var err error
	for err == nil {
		if err = s.awaitFrame(); err == nil {
			err = s.readFrame(&m)
		}
	}
	m.release()
	s.finish(err)
	s.g.live.Done()
}

// awaitFrame waits for the first two bytes of a frame, which every frame has.
func (s *session) awaitFrame() error {
	for n := 0; n < len(s.head); {
		k, err := s.conn.Read(s.head[n:])
		n += k
		if err != nil && n < len(s.head) {
			return err
		}
	}
	return nil
}

// finish ends the session for the reason why reading ended.
func (s *session) finish(err error) {
	reason := "the connection was lost"
	var e *ending
	if errors.As(err, &e) || errors.Is(err, io.EOF) {
		s.g.clones.answered(s)
	}
	switch {
	case e != nil:
		reason = e.reason
		if e.code != 0 {
			s.close(e.code, reason)
			// Until the device has the close frame and hangs up, or is late.
			_, _ = io.Copy(io.Discard, s.conn)
		}
	case errors.Is(err, io.EOF):
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

// readFrame reads the frame that begins with s.head. Control frames are dealt
// with, data is added to m; a message that is whole is handled.
func (s *session) readFrame(m *message) error {
	h, err := s.readHeader()
	if err != nil {
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
	if err := s.readData(m, h); err != nil || m.more {
		return err
	}
	if !s.answerHeartbeat(m.op, *m.buf) {
		err = s.handOver(m.op, *m.buf)
	}
	m.release()
	return err
}

// readHeader reads the rest of the header of a frame (RFC 6455 §5.2).
func (s *session) readHeader() (h ws.Header, err error) {
	h, rest := startHeader(s.head)
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	part := (*buf)[:rest]
	if _, err := io.ReadFull(s.conn, part); err != nil {
		return h, err
	}
	if !endHeader(&h, part) {
		return h, &ending{closeProtocol, "the device broke the WebSocket protocol"}
	}
	return h, nil
}

// startHeader reads the first two bytes of a frame, and tells how many more
// the header has. The length is that of two bytes so far.
func startHeader(head [2]byte) (h ws.Header, rest int) {
	h = ws.Header{
		Fin: head[0]&0x80 != 0, Rsv: head[0] >> 4 & 7, OpCode: ws.OpCode(head[0] & 0x0f),
		Masked: head[1]&0x80 != 0, Length: int64(head[1] & 0x7f),
	}
	switch h.Length {
	case 126:
		rest = 2
	case 127:
		rest = 8
	}
	if h.Masked {
		rest += len(h.Mask)
	}
	return h, rest
}

// endHeader reads the rest of a header. It reports false for a length that is
// none, or that is longer than it need be.
func endHeader(h *ws.Header, rest []byte) bool {
	switch h.Length {
	case 126:
		h.Length = int64(binary.BigEndian.Uint16(rest))
		if h.Length < 126 {
			return false
		}
		rest = rest[2:]
	case 127:
		n := binary.BigEndian.Uint64(rest)
		if n > math.MaxInt64 || n <= math.MaxUint16 {
			return false
		}
		h.Length, rest = int64(n), rest[8:]
	}
	copy(h.Mask[:], rest)
	return true
}

// readData adds the payload of a frame to m.
func (s *session) readData(m *message, h ws.Header) error {
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
		if len(payload) == 1 || code > maxCloseCode || ws.CheckCloseFrameData(code, text) != nil {
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
