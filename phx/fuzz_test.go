package phx

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func FuzzDecodeJSON(f *testing.F) {
	for _, c := range wireCases {
		if !c.binary && len(c.frame) < 1000 {
			f.Add([]byte(c.frame))
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := DecodeJSON(frame)
		if err != nil {
			if kindOf(err) == "not an *Error" {
				t.Fatal(err)
			}
			return
		}
		var elements []json.RawMessage
		if err := json.Unmarshal(frame, &elements); err != nil || len(elements) < 5 || !utf8.Valid(frame) {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		if !bytes.Equal(elements[4], m.Payload) {
			t.Fatalf("payload %q, want %q", m.Payload, elements[4])
		}
		again, err := AppendJSON(nil, m)
		if err != nil {
			t.Fatalf("cannot encode what was decoded: %v", err)
		}
		m2, err := DecodeJSON(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, m2); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzDecodeBinary(f *testing.F) {
	for _, c := range wireCases {
		if c.binary && c.only != "encode" {
			f.Add(c.from == FromServer, c.bytes(f))
		}
	}
	f.Fuzz(func(t *testing.T, server bool, frame []byte) {
		from := FromDevice
		if server {
			from = FromServer
		}
		m, err := DecodeBinary(from, frame)
		if err != nil {
			return
		}
		again, err := AppendBinary(nil, from, m)
		if err != nil {
			t.Fatal(err)
		}
		m2, err := DecodeBinary(from, again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, m2); diff != "" {
			t.Fatal(diff)
		}
	})
}

func BenchmarkDecodeHeartbeat(b *testing.B) {
	frame := []byte(`[null,"1234","phoenix","heartbeat",{}]`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeJSON(frame); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeProgress(b *testing.B) {
	frame := []byte(`["1001","1234","device","fwup_progress",{"stage":"updating","value":12}]`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeJSON(frame); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendPush(b *testing.B) {
	payload := []byte(`{"update_available":true,"firmware_url":"https://example.com/f"}`)
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendPush(buf[:0], "1", TopicDevice, EventUpdate, payload)
	}
}
