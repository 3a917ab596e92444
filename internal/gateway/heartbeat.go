package gateway

import (
	"bytes"

	"github.com/gobwas/ws"

	"github.com/ganglion-iot/ganglion/phx"
)

// Heartbeats are nearly all that idle devices send. In the form in which
// devices of the field write them they are answered where they are read: that
// takes little stack, and wakes no other goroutine.
var (
	heartbeatHead = []byte(`[null,"`)
	heartbeatTail = []byte(`","phoenix","heartbeat",{}]`)
)

// maxHeartbeatRef is the most digits of a reference that are read here.
const maxHeartbeatRef = 20

// heartbeatRef returns the reference of a heartbeat of the usual form.
func heartbeatRef(data []byte) (ref []byte, ok bool) {
	rest, ok := bytes.CutPrefix(data, heartbeatHead)
	if !ok {
		return nil, false
	}
	if ref, ok = bytes.CutSuffix(rest, heartbeatTail); !ok || len(ref) == 0 || len(ref) > maxHeartbeatRef {
		return nil, false
	}
	for _, c := range ref {
		if c < '0' || c > '9' {
			return nil, false
		}
	}
	return ref, true
}

// answerHeartbeat answers a heartbeat of the usual form, if data is one and
// nothing else is to be done. It reports whether it did.
func (s *session) answerHeartbeat(op ws.OpCode, data []byte) bool {
	if op != ws.OpText || s.serializer != phx.JSON || s.heard.Load() >= s.refresh {
		return false
	}
	ref, ok := heartbeatRef(data)
	if !ok {
		return false
	}
	s.mu.Lock()
	closing := s.closing
	s.mu.Unlock()
	if closing {
		return true
	}
	s.g.metrics.heartbeats.Inc()
	const head = 2
	frame := make([]byte, head, 96)
	frame = append(frame, `[null,"`...)
	frame = append(frame, ref...)
	frame = append(frame, `","phoenix","phx_reply",{"status":"ok","response":{}}]`...)
	frame[0], frame[1] = 0x81, byte(len(frame)-head)
	s.send(frame)
	return true
}
