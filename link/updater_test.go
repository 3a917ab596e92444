package link

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fwup"
)

func TestUpdateFromOfferToRestart(t *testing.T) {
	for _, strategy := range []Strategy{Streaming, Caching, Parts} {
		t.Run(fmt.Sprintf("strategy %d", strategy), func(t *testing.T) {
			cache := strategy != Streaming
			r := newRig(t, func(r *rig) { r.options.Strategy = strategy })
			next := r.factory.build(t, "1.1.0", nil)
			files := newFileServer(t, next.data, half(next.data, `"v1"`))
			c := r.start()
			c.join()
			c.send(r.offer(next, files.URL))
			seen := c.until("status_update", "completed")
			var stages []string
			for _, line := range seen {
				event, payload, _ := strings.Cut(line, " ")
				var p struct {
					Stage  string
					Status string
					Value  int
				}
				if err := json.Unmarshal([]byte(payload), &p); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				word := p.Status + p.Stage
				if event == "fwup_progress" && (p.Value < 0 || p.Value > 100) {
					t.Errorf("progress %s", line)
				}
				if len(stages) == 0 || stages[len(stages)-1] != word {
					stages = append(stages, word)
				}
			}
			got := strings.Join(stages, " ")
			want := "received started downloading started downloading updating completed"
			if !cache {
				want = "received started updating started updating completed"
			}
			// Whether progress falls between two connections is a matter of time.
			short := strings.Replace(got, "started downloading started", "started started", 1)
			short = strings.Replace(short, "started updating started", "started started", 1)
			short = strings.Replace(short, "started started", "started", 1)
			wanted := strings.Replace(strings.Replace(want, "downloading started ", "", 1), "updating started ", "", 1)
			if short != wanted && got != want {
				t.Errorf("told %q, want %q", got, want)
			}
			if !slices.ContainsFunc(seen, func(s string) bool { return strings.Contains(s, `{"downloader_network_interface":"lo`) }) {
				t.Errorf("no network interface in %q", seen)
			}
			if last := seen[len(seen)-2]; last != `fwup_progress {"stage":"updating","value":100}` {
				t.Errorf("before completed came %s", last)
			}
			if err := await(t, "the end", r.done); !errors.Is(err, ErrRebooting) {
				t.Fatalf("Run returned %v", err)
			}
			running, err := r.options.Slots.Running(t.Context())
			if err != nil || running.UUID != next.uuid || running.Validated {
				t.Errorf("after it %s, validated %v, %v", running.UUID, running.Validated, err)
			}
			if left, _ := os.ReadDir(r.options.CacheDir); len(left) > 0 {
				t.Errorf("the cache keeps %v", left)
			}
			if r.client.applied.Load() != 1 {
				t.Errorf("the client was told %d times that it is written", r.client.applied.Load())
			}
			if !slices.Contains(r.client.messages, "writing slot b") {
				t.Errorf("messages %q", r.client.messages)
			}
		})
	}
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		decision Decision
		want     string
	}{
		{Decision{Verdict: Ignore, Reason: "not this one"}, `{"reason":"not this one","status":"ignored"}`},
		{Decision{Verdict: Ignore}, `{"reason":"","status":"ignored"}`},
		{Decision{Verdict: Reschedule, Delay: time.Second}, `{"delay_for":5,"reason":"","status":"rescheduled"}`},
		{Decision{Verdict: Reschedule, Delay: 90*time.Minute + 31*time.Second, Reason: "busy"}, `{"delay_for":91,"reason":"busy","status":"rescheduled"}`},
	} {
		r := newRig(t, func(r *rig) { r.client.decide = func(Update) Decision { return c.decision } })
		conn := r.start()
		conn.join()
		for range 2 { // after a verdict the next offer is taken up again
			conn.send(r.offer(built{uuid: "some-uuid"}, "http://localhost/x"))
			if m, _ := conn.next(); m.Event != "status_update" || string(m.Payload) != c.want {
				t.Errorf("%s %s, want %s", m.Event, m.Payload, c.want)
			}
		}
		r.stop()
	}
}

func TestFailuresAreWorded(t *testing.T) {
	var mine string
	gone := func(_ int, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(404); return true }
	for _, c := range []struct {
		name  string
		cache bool
		rig   func(*rig)
		next  func(*rig) built
		how   func(int, http.ResponseWriter, *http.Request) bool
		want  string
		first string // first status told
	}{
		{name: "gone", cache: true, how: gone, want: "Download failed : HTTP status 404", first: "received"},
		{name: "gone, streaming", how: gone, want: "Download failed : HTTP status 404", first: "received"},
		{name: "no keys", rig: func(r *rig) { r.options.PublicKeys = nil }, want: "Refusing unverified firmware : no public keys available", first: "failed"},
		{name: "foreign key", cache: true, next: func(r *rig) built { return newFactory(r.t).build(r.t, "1.1.0", nil) },
			want: `FWUP error : "`, first: "received"},
		{name: "foreign key, streaming", next: func(r *rig) built { return newFactory(r.t).build(r.t, "1.1.0", nil) },
			want: `FWUP error : "`, first: "received"},
		{name: "other hardware", cache: true, next: func(r *rig) built {
			return r.factory.build(r.t, "1.1.0", func(s string) string { return strings.Replace(s, `"board"`, `"tank"`, 1) })
		}, want: `Update failed : the firmware is for platform "tank", this device is "board"`, first: "received"},
		{name: "other product, streaming", next: func(r *rig) built {
			return r.factory.build(r.t, "1.1.0", func(s string) string { return strings.Replace(s, `"thermostat"`, `"toaster"`, 1) })
		}, want: `Update failed : the firmware is for product "toaster", this device is "thermostat"`, first: "received"},
		{name: "no task", cache: true, rig: func(r *rig) { r.options.Task = "nothing" }, want: `FWUP error : "`, first: "received"},
		{name: "too large", cache: true, rig: func(r *rig) { r.options.Download.MaxSize = 10 },
			want: "Download failed : the file has", first: "failed"},
		{name: "wrong checksum", cache: true, next: func(r *rig) built {
			b := r.factory.build(r.t, "1.1.0", nil)
			b.checksum = strings.Repeat("0", 64)
			return b
		}, want: "Update failed : the download is not the file that was offered: SHA-256 ", first: "received"},
		{name: "another firmware", cache: true, next: func(r *rig) built {
			b := r.factory.build(r.t, "1.1.0", nil)
			b.uuid = "11111111-2222-3333-4444-555555555555"
			return b
		}, want: "Update failed : the file is firmware ", first: "received"},
		{name: "no target", rig: func(r *rig) { r.options.Target = FileTarget("/nonexistent/disk") }, want: "Update failed : open the target: ", first: "received"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, func(r *rig) {
				if !c.cache {
					r.options.CacheDir = ""
				}
				if c.rig != nil {
					c.rig(r)
				}
			})
			next := c.next
			if next == nil {
				next = func(r *rig) built { return r.factory.build(r.t, "1.1.0", nil) }
			}
			fw := next(r)
			files := newFileServer(t, fw.data, c.how)
			before, err := os.ReadFile(r.image)
			if err != nil {
				t.Fatal(err)
			}
			conn := r.start()
			conn.join()
			conn.send(r.offer(fw, files.URL))
			seen := conn.until("status_update", "failed")
			if !strings.Contains(seen[0], c.first) {
				t.Errorf("first told %s", seen[0])
			}
			var last struct{ Reason string }
			if err := json.Unmarshal([]byte(strings.TrimPrefix(seen[len(seen)-1], "status_update ")), &last); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(last.Reason, c.want) {
				t.Errorf("failed: %s, want %s", last.Reason, c.want)
			}
			mine = last.Reason
			if err := await(t, "UpdateFailed", r.client.failed); reason(err) != mine {
				t.Errorf("the client was told %v", err)
			}
			if after, err := os.ReadFile(r.image); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the device changed (%v)", err)
			}
			if left, _ := os.ReadDir(r.options.CacheDir); c.cache && len(left) > 0 {
				t.Errorf("the cache keeps %v", left)
			}
			// It is ready for another.
			conn.send(r.offer(fw, files.URL))
			conn.until("status_update", "failed")
		})
	}
}

func TestSecondOfferIsDroppedWhileBusy(t *testing.T) {
	held := make(chan struct{})
	r := newRig(t, nil)
	next := r.factory.build(t, "1.1.0", nil)
	files := newFileServer(t, next.data, func(int, http.ResponseWriter, *http.Request) bool {
		<-held
		return false
	})
	c := r.start()
	c.join()
	c.send(r.offer(next, files.URL))
	c.until("status_update", "received")
	c.send(r.offer(built{uuid: "another"}, files.URL))
	c.send(`[null,null,"device","identify",{}]`)
	await(t, "identify", r.client.identified)
	// A broken connection does not disturb the download, and the join says so.
	c.ws.CloseNow()
	c = r.connection()
	if params := c.join(); params["currently_downloading_uuid"] != next.uuid {
		t.Errorf("currently downloading %v", params["currently_downloading_uuid"])
	}
	close(held)
	for _, line := range c.until("status_update", "completed") {
		if strings.Contains(line, "received") {
			t.Errorf("took up a second offer: %s", line)
		}
	}
	if n := len(files.seen()); n != 1 {
		t.Errorf("%d downloads", n)
	}
}

func TestVerdictOutlivesABrokenConnection(t *testing.T) {
	asked, held := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(r *rig) {
		r.client.decide = func(Update) Decision {
			close(asked)
			<-held
			return Decision{Verdict: Ignore, Reason: "later told"}
		}
	})
	c := r.start()
	c.join()
	c.send(r.offer(built{uuid: "some"}, "http://localhost/"))
	await(t, "the question", asked)
	c.ws.CloseNow()
	c = r.connection()
	join, _ := c.next() // the old connection is over, the new one not accepted
	close(held)
	c.send(`["` + join.Ref + `","` + join.Ref + `","device","phx_reply",{"status":"ok","response":{}}]`)
	if m, _ := c.next(); string(m.Payload) != `{"reason":"later told","status":"ignored"}` {
		t.Errorf("%s %s", m.Event, m.Payload)
	}
}

func TestWrittenUpdateInsistsOnTheRestart(t *testing.T) {
	var attempts atomic.Int32
	r := newRig(t, func(r *rig) {
		r.client.reboot = func() error {
			if attempts.Add(1) < 3 {
				return errors.New("busy")
			}
			return nil
		}
	})
	next := r.factory.build(t, "1.1.0", nil)
	files := newFileServer(t, next.data, nil)
	c := r.start()
	c.join()
	c.send(r.offer(next, files.URL))
	if err := await(t, "the end", r.done); !errors.Is(err, ErrRebooting) || attempts.Load() != 3 {
		t.Errorf("Run returned %v after %d attempts", err, attempts.Load())
	}
}

// TestNothingIsMarkedGoodThatNeverRan: between the written update and the
// restart the device reconnects. It still runs the old firmware, and says so.
func TestNothingIsMarkedGoodThatNeverRan(t *testing.T) {
	held, asked := make(chan struct{}), make(chan struct{}, 64)
	r := newRig(t, func(r *rig) {
		r.options.Backoff = []time.Duration{time.Millisecond, time.Hour}
		r.client.reboot = func() error {
			asked <- struct{}{}
			select {
			case <-held:
				return nil
			default:
				return errors.New("busy")
			}
		}
	})
	next := r.factory.build(t, "1.1.0", nil)
	files := newFileServer(t, next.data, nil)
	c := r.start()
	c.join()
	c.send(r.offer(next, files.URL))
	await(t, "the order to restart", asked)
	c.ws.CloseNow()
	c = r.connection()
	if params := c.join(); params["nerves_fw_uuid"] != r.old.uuid || params["currently_downloading_uuid"] != next.uuid {
		t.Errorf("joined with %v", params)
	}
	close(held)
	c.send(`[null,null,"device","reboot",{}]`)
	if err := await(t, "the end", r.done); !errors.Is(err, ErrRebooting) {
		t.Fatalf("Run returned %v", err)
	}
	if running, err := r.options.Slots.Running(t.Context()); err != nil || running.UUID != next.uuid || running.Validated {
		t.Errorf("after it %s, validated %v, %v", running.UUID, running.Validated, err)
	}
}

// TestPartsSurviveTheProcess stops a link in the middle of a download in parts;
// the next one goes on inside the part.
func TestPartsSurviveTheProcess(t *testing.T) {
	r := newRig(t, func(r *rig) { r.options.Strategy = Parts })
	next := r.factory.build(t, "1.1.0", nil)
	cut := 3*16<<10 + 5000
	files := newFileServer(t, next.data, func(n int, w http.ResponseWriter, req *http.Request) bool {
		if n > 0 {
			return false
		}
		w.Header().Set("Content-Length", strconv.FormatInt(next.size, 10))
		w.Write(next.data[:cut])
		w.(http.Flusher).Flush()
		<-req.Context().Done()
		return true
	})
	conn := r.start()
	conn.join()
	conn.send(r.offer(next, files.URL))
	conn.until("fwup_progress", "downloading")
	r.stop()
	await(t, "the end", r.done)
	there, err := os.ReadDir(filepath.Join(r.options.CacheDir, next.uuid+partsDir))
	if err != nil || len(there) == 0 {
		t.Fatalf("kept %v, %v", there, err)
	}
	conn = r.start()
	conn.join()
	conn.send(r.offer(next, files.URL))
	if err := await(t, "the end", r.done); !errors.Is(err, ErrRebooting) {
		t.Fatalf("Run returned %v", err)
	}
	requests := files.seen()[1:]
	var from int
	if len(requests) == 1 {
		fmt.Sscanf(requests[0].Header.Get("Range"), "bytes=%d-", &from)
	}
	if from == 0 || from > cut || from < (len(there)-1)*16<<10 {
		t.Errorf("went on from %d with %d parts, over %d requests", from, len(there), len(requests))
	}
}

// TestCacheSurvivesTheProcess stops a link in the middle of a download; the
// next one goes on.
func TestCacheSurvivesTheProcess(t *testing.T) {
	for _, c := range []struct {
		name    string
		damage  bool
		fetches int // of the second link
	}{{"whole", false, 1}, {"damaged", true, 2}} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			next := r.factory.build(t, "1.1.0", nil)
			cut := int(next.size / 2)
			files := newFileServer(t, next.data, func(n int, w http.ResponseWriter, req *http.Request) bool {
				if n > 0 {
					return false
				}
				w.Header().Set("Content-Length", strconv.FormatInt(next.size, 10))
				w.Write(next.data[:cut])
				w.(http.Flusher).Flush()
				<-req.Context().Done()
				return true
			})
			conn := r.start()
			conn.join()
			conn.send(r.offer(next, files.URL))
			conn.until("fwup_progress", "downloading")
			r.stop()
			await(t, "the end", r.done)
			name := filepath.Join(r.options.CacheDir, next.uuid+partial)
			there, err := os.ReadFile(name)
			if err != nil || len(there) == 0 || !bytes.HasPrefix(next.data, there) {
				t.Fatalf("kept %d bytes, %v", len(there), err)
			}
			if c.damage {
				if err := os.WriteFile(name, make([]byte, len(there)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			conn = r.start()
			conn.join()
			conn.send(r.offer(next, files.URL))
			if err := await(t, "the end", r.done); !errors.Is(err, ErrRebooting) {
				t.Fatalf("Run returned %v", err)
			}
			requests := files.seen()[1:]
			if len(requests) != c.fetches {
				t.Fatalf("%d requests, want %d", len(requests), c.fetches)
			}
			if got, want := requests[0].Header.Get("Range"), "bytes="+strconv.Itoa(len(there))+"-"; got != want {
				t.Errorf("went on with %q, want %q", got, want)
			}
			if running, err := r.options.Slots.Running(t.Context()); err != nil || running.UUID != next.uuid {
				t.Errorf("runs %s, %v", running.UUID, err)
			}
		})
	}
}

func TestProgressIsThrottled(t *testing.T) {
	l := &Link{}
	told := func(stage Stage, percent int) bool {
		at := l.lastTold
		l.progress(stage, percent)
		return l.lastTold != at
	}
	for i, c := range []struct {
		stage   Stage
		percent int
		pause   bool // half a second passed
		want    bool
	}{
		{Downloading, 1, false, true}, {Downloading, 1, false, false}, {Downloading, 2, false, false},
		{Downloading, 3, true, true}, {Downloading, 99, false, false}, {Downloading, 100, false, true},
		{Downloading, 100, false, false}, {Updating, 0, false, true}, {Updating, 50, false, false},
		{Updating, 100, false, true}, {Downloading, 1, false, true},
	} {
		if c.pause {
			l.lastTold = l.lastTold.Add(-progressPause)
		}
		if got := told(c.stage, c.percent); got != c.want {
			t.Errorf("%d: %s %d told: %v", i, c.stage, c.percent, got)
		}
	}
}

func TestReasonsAreBounded(t *testing.T) {
	long := reason(errors.New(strings.Repeat("ä", 400)))
	if len(long) > 500 || !strings.HasPrefix(long, "Update failed : ä") || strings.ContainsRune(long, '\uFFFD') {
		t.Errorf("%d bytes: %s", len(long), long)
	}
	if got := reason(&fwup.Error{Msg: `no "task"`}); got != `FWUP error : "no \"task\""` {
		t.Error(got)
	}
}

func TestCacheNamesStayInTheCache(t *testing.T) {
	for uuid, want := range map[string]string{
		"0b6cf1a4-2f0c-5d0e-9a55-7d1b6a0f3c11": "0b6cf1a4-2f0c-5d0e-9a55-7d1b6a0f3c11",
		"../../etc/passwd":                     "______etc_passwd",
		"ä":                                    "_",
	} {
		if got := cacheName(uuid); got != want {
			t.Errorf("%q: %q, want %q", uuid, got, want)
		}
	}
}

func TestParseOffer(t *testing.T) {
	u, err := parseOffer([]byte(`{"firmware_url":"http://h/f","size":-1,"checksum":null,"firmware_meta":{"uuid":"u","version":"1","misc":null,"author":"me"}}`))
	if err != nil || !reflect.DeepEqual(u, Update{URL: "http://h/f", Firmware: Firmware{UUID: "u", Version: "1", Author: "me"}}) {
		t.Errorf("%+v, %v", u, err)
	}
	for _, bad := range []string{
		``, `null`, `7`, `{}`, `{"firmware_url":"","firmware_meta":{"uuid":"u"}}`, `{"firmware_url":"x","firmware_meta":{}}`,
		`{"firmware_url":"x"}`, `{"firmware_url":"x","firmware_meta":{"uuid":"` + strings.Repeat("u", 65) + `"}}`,
		`{"firmware_url":"x","size":1e30,"firmware_meta":{"uuid":"u"}}`,
	} {
		if u, err := parseOffer([]byte(bad)); err == nil {
			t.Errorf("%s: %+v", bad, u)
		}
	}
}

func TestParseOfferInParts(t *testing.T) {
	a, b := sha256.Sum256([]byte("a")), sha256.Sum256([]byte("b"))
	for list, want := range map[string][][sha256.Size]byte{
		fmt.Sprintf(`["%X","%x"]`, a, b):      {a, b},
		fmt.Sprintf(`["%X"]`, a):              {a},
		fmt.Sprintf(`["%X","%x0"]`, a, b):     nil,
		fmt.Sprintf(`["%X",null]`, a):         nil,
		fmt.Sprintf(`["%X",7]`, a):            nil,
		`["` + strings.Repeat("g", 64) + `"]`: nil,
		`[]`:                                  nil, `null`: nil, `{}`: nil, `"x"`: nil,
	} {
		u, err := parseOffer([]byte(`{"firmware_url":"x","firmware_meta":{"uuid":"u"},"partials_checksums":` + list + `}`))
		if err != nil || !reflect.DeepEqual(u.Parts, want) {
			t.Errorf("%s: %x, %v", list, u.Parts, err)
		}
	}
}

func FuzzParseOffer(f *testing.F) {
	for _, s := range []string{
		`{"firmware_url":"x","firmware_meta":{"uuid":"u"},"partials_checksums":["` + strings.Repeat("aB", 32) + `",null]}`,
		`{"firmware_url":"http://h/f","size":10,"checksum":"ab","firmware_meta":{"uuid":"u","version":"1","misc":null}}`,
		`{"update_available":false,"firmware_url":null,"firmware_meta":null}`, `{"firmware_url":"x","firmware_meta":{"uuid":"../x"}}`, `[]`, `{`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		u, err := parseOffer(payload)
		if err == nil && (u.URL == "" || u.Firmware.UUID == "" || u.Size < 0 || strings.ContainsAny(cacheName(u.Firmware.UUID), "./\x00")) {
			t.Errorf("%+v", u)
		}
	})
}
