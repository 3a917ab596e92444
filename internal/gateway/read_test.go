package gateway

import (
	"bytes"
	"testing"

	"github.com/gobwas/ws"
)

// FuzzHeader compares our reading of frame headers with the library's.
func FuzzHeader(f *testing.F) {
	for _, h := range []ws.Header{
		{Fin: true, OpCode: ws.OpText, Masked: true, Mask: [4]byte{1, 2, 3, 4}, Length: 5},
		{Fin: true, OpCode: ws.OpBinary, Masked: true, Length: 126},
		{OpCode: ws.OpContinuation, Rsv: 4, Length: 1 << 16},
	} {
		var b bytes.Buffer
		must(f, ws.WriteHeader(&b, h))
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		want, err := ws.ReadHeader(bytes.NewReader(raw))
		if len(raw) < 2 {
			return
		}
		got, rest := startHeader([2]byte(raw))
		if len(raw)-2 < rest {
			if err == nil {
				t.Fatalf("%x: the library needs less than 2 + %d bytes", raw, rest)
			}
			return
		}
		ok := endHeader(&got, raw[2:2+rest])
		short := raw[1]&0x7f == 126 && want.Length < 126 || raw[1]&0x7f == 127 && want.Length < 1<<16
		switch {
		case ok != (err == nil && !short):
			t.Fatalf("%x: read: %v, by the library: %v", raw, ok, err)
		case ok && got != want:
			t.Fatalf("%x: %+v instead of %+v", raw, got, want)
		}
	})
}

func TestHeartbeatsOfTheUsualForm(t *testing.T) {
	for text, ref := range map[string]string{
		`[null,"9","phoenix","heartbeat",{}]`:                     "9",
		`[null,"12345678901234567890","phoenix","heartbeat",{}]`:  "12345678901234567890",
		`[null,"123456789012345678901","phoenix","heartbeat",{}]`: "",
		`[null,"","phoenix","heartbeat",{}]`:                      "",
		`[null,"a","phoenix","heartbeat",{}]`:                     "",
		`[null,"1\"","phoenix","heartbeat",{}]`:                   "",
		`[null, "9","phoenix","heartbeat",{}]`:                    "",
		`[null,"9","phoenix","heartbeat",{"a":1}]`:                "",
		`[null,"phoenix","heartbeat",{}]`:                         "",
		``:                                                        "",
	} {
		got, ok := heartbeatRef([]byte(text))
		if string(got) != ref || ok != (ref != "") {
			t.Errorf("%s: reference %q, %v", text, got, ok)
		}
	}
}

// BenchmarkHeartbeat is a heartbeat and its answer; the device's half runs on
// the same processors.
func BenchmarkHeartbeat(b *testing.B) {
	p := start(b, nil)
	c := p.dial("sn-1")
	c.join("")
	frame := ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte(`[null,"9","phoenix","heartbeat",{}]`))))
	s := p.gateway.registry.get(p.device("sn-1").ID)
	b.ReportAllocs()
	for b.Loop() {
		s.arrival = 0 // nobody is throttled here; the reader waits for the frame
		_, err := c.conn.Write(frame)
		must(b, err)
		_, err = ws.ReadFrame(c.conn)
		must(b, err)
	}
}
