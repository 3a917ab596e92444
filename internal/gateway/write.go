package gateway

import (
	"time"

	"github.com/gobwas/ws"

	"github.com/ganglion-iot/ganglion/phx"
)

// Bounds of writing to a device. One whose queue is full does not read, and is
// hung up on.
const (
	writeTimeout   = 10 * time.Second
	lingerTimeout  = 2 * time.Second // for a device to take its close frame
	maxQueueFrames = 64
	maxQueueBytes  = 2 << 20
)

// compile returns the bytes of a frame. They may be sent to many devices, and
// nobody may change them.
func compile(f ws.Frame) []byte {
	b, err := ws.CompileFrame(f)
	if err != nil {
		return nil // only a payload over the limit of int64 can fail
	}
	return b
}

func textFrame(payload []byte) []byte { return compile(ws.NewTextFrame(payload)) }

// packedFrame is the frame of a JSON message for devices that speak
// MessagePack.
func packedFrame(text []byte) ([]byte, error) {
	packed, err := phx.AppendPacked(nil, text)
	if err != nil {
		return nil, err
	}
	return compile(ws.NewBinaryFrame(packed)), nil
}

// frame is a JSON message in the encoding of the connection; nil, and a line
// in the log, if it has no form there.
func (s *session) frame(text []byte) []byte {
	if s.serializer != phx.MessagePack {
		return textFrame(text)
	}
	frame, err := packedFrame(text)
	if err != nil {
		s.g.log.Error("a message is not fit for its device", "device", s.identifier, "error", err)
		return nil
	}
	return frame
}

// say sends a JSON message in the encoding of the connection. It may wait for
// the network.
func (s *session) say(text []byte) {
	if frame := s.frame(text); frame != nil {
		s.send(frame)
	}
}

// tell is say for callers that must not wait for this device.
func (s *session) tell(text []byte) {
	if frame := s.frame(text); frame != nil {
		s.push(frame)
	}
}

// outgoing is a frame that waits to be written.
type outgoing struct {
	frame   []byte
	written func() // called without locks once it is; nil: nobody cares
}

// append queues a frame. The caller holds mu.
func (s *session) append(o outgoing) {
	s.queue = append(s.queue, o)
	s.queued += len(o.frame)
}

// enqueue queues a frame. It reports whether the caller must see to it that
// the queue is written.
func (s *session) enqueue(o outgoing) (write bool) {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return false
	}
	if len(s.queue) >= maxQueueFrames || s.queued+len(o.frame) > maxQueueBytes && len(s.queue) > 0 {
		s.closing, s.queue, s.reason = true, nil, "the device does not read what it is sent"
		s.g.metrics.closes.WithLabelValues("slow").Inc()
		s.mu.Unlock()
		_ = s.conn.Close() // the reader notices
		return false
	}
	s.append(o)
	write = !s.writing
	s.writing = true
	s.mu.Unlock()
	return write
}

// send writes a frame after those that wait, or leaves it to whoever is
// writing. It may wait for the network.
func (s *session) send(frame []byte) {
	if s.enqueue(outgoing{frame: frame}) {
		s.writeQueue()
	}
}

// push is send for callers that must not wait for this device.
func (s *session) push(frame []byte) {
	if s.enqueue(outgoing{frame: frame}) {
		s.g.flush(s)
	}
}

// flush writes the queue of s on a goroutine of its own.
func (g *Gateway) flush(s *session) {
	g.flushers <- struct{}{}
	go func() {
		defer func() { <-g.flushers }()
		s.writeQueue()
	}()
}

// writeQueue writes until nothing waits. One caller at a time does it: the one
// that set writing.
func (s *session) writeQueue() {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 {
			s.queue, s.writing = nil, false
			last := s.closing
			s.mu.Unlock()
			if last {
				// The device closes the connection; hanging up before it has
				// read could take the close frame from it.
				_ = s.conn.SetReadDeadline(time.Now().Add(lingerTimeout))
			}
			return
		}
		next := s.queue[0]
		s.queue[0] = outgoing{}
		s.queue = s.queue[1:]
		s.queued -= len(next.frame)
		s.mu.Unlock()
		_ = s.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := s.conn.Write(next.frame); err != nil {
			// After a part of a frame nothing else can follow.
			s.mu.Lock()
			s.closing, s.queue = true, nil
			if s.reason == "" {
				s.reason = "the device does not take what it is sent"
			}
			s.mu.Unlock()
			_ = s.conn.Close()
			return
		}
		if next.written != nil {
			next.written()
		}
	}
}
