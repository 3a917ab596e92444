package phx

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func FuzzDecodeJSON(f *testing.F) {
	for _, c := range wireCases {
		if !c.binary && !c.packed && len(c.frame) < 1000 {
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

// Whatever decodes encodes again, and then means the same; and it is JSON.
func FuzzDecodeMessagePack(f *testing.F) {
	for _, c := range wireCases {
		if c.packed && c.only != "encode" && len(c.frame) < 1000 {
			f.Add(c.bytes(f))
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := DecodeMessagePack(frame)
		if err != nil {
			if kindOf(err) == "not an *Error" {
				t.Fatal(err)
			}
			return
		}
		again, err := AppendMessagePack(nil, m)
		if err != nil {
			t.Fatalf("cannot encode what was decoded: %v", err)
		}
		m2, err := DecodeMessagePack(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, m2); diff != "" {
			t.Fatal(diff)
		}
		if m.Binary {
			return
		}
		text, err := AppendJSON(nil, m)
		if err != nil {
			t.Fatalf("not JSON: %v", err)
		}
		m3, err := DecodeJSON(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, m3); diff != "" {
			t.Fatal(diff)
		}
	})
}

// A JSON message keeps its value on the way to MessagePack and back.
func FuzzPackJSON(f *testing.F) {
	for _, c := range wireCases {
		if !c.binary && !c.packed && len(c.frame) < 1000 {
			f.Add([]byte(c.frame))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := DecodeJSON(text)
		if err != nil {
			return
		}
		var want, got any
		wantErr := json.Unmarshal(m.Payload, &want)
		frame, err := AppendPacked(nil, text)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("encoding/json: %v, packed: %v", wantErr, err)
		}
		if err != nil {
			return
		}
		back, err := DecodeMessagePack(frame)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(back.Payload, &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(want, got) { // cmp takes for ever over deep arrays
			t.Fatalf("%s became %s", m.Payload, back.Payload)
		}
		m.Payload, back.Payload = nil, nil
		if diff := cmp.Diff(m, back); diff != "" {
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

// The messages that most frames are, in both versions.
func BenchmarkVersions(b *testing.B) {
	for _, c := range messages() {
		switch strings.TrimSuffix(c.name, ", packed") {
		case "heartbeat", "progress", "health report", "update":
		default:
			continue
		}
		decode, encode := DecodeJSON, AppendJSON
		if c.packed {
			decode, encode = DecodeMessagePack, AppendMessagePack
		}
		frame := c.bytes(b)
		b.Run("decode/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decode(frame); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("encode/"+c.name, func(b *testing.B) {
			buf := make([]byte, 0, 2048)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := encode(buf, c.m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
