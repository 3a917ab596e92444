package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"
)

// sink takes pushes, and fails while it is down.
type sink struct {
	mu    sync.Mutex
	down  bool
	lines chan logLine
}

func newSink() *sink { return &sink{lines: make(chan logLine, 1000)} }

func (s *sink) push(event string, payload any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if event != "send" {
		return fmt.Errorf("event %s", event)
	}
	if s.down {
		return errors.New("no connection")
	}
	s.lines <- payload.(logLine)
	return nil
}

func (s *sink) set(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

func TestLogLinesOfSlog(t *testing.T) {
	l := &Logging{}
	log := slog.New(l.Handler())
	log.Debug("below the level")
	log.With("unit", "pump").WithGroup("motor").With("rpm", 900).Warn("hot",
		"celsius", 91.5, slog.Group("inner", "a", 1, slog.Group("", "b", true)), slog.Group("none"), "took", time.Second, "", "nameless")
	log.Error("gone", "error", errors.New("no current"))
	log.Log(context.Background(), slog.LevelInfo+1, "between")
	if len(l.lines) != 3 {
		t.Fatalf("%d lines", len(l.lines))
	}
	first := l.lines[0]
	if _, err := time.Parse(time.RFC3339Nano, first.Timestamp); err != nil || !strings.HasSuffix(first.Timestamp, "Z") {
		t.Errorf("timestamp %s", first.Timestamp)
	}
	first.Timestamp = ""
	got, _ := json.Marshal(first)
	want := `{"level":"warning","message":"hot","meta":{"motor.celsius":"91.5","motor.inner.a":"1","motor.inner.b":"true","motor.rpm":"900","motor.took":"1s","unit":"pump"},"timestamp":""}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if l.lines[1].Level != "error" || l.lines[1].Meta["error"] != "no current" || l.lines[2].Level != "info" {
		t.Errorf("lines %+v", l.lines[1:])
	}
}

func TestLogLinesAreBounded(t *testing.T) {
	l := &Logging{Level: slog.LevelDebug}
	var args []any
	for i := range 50 {
		args = append(args, strings.Repeat("k", 100)+strconv.Itoa(i), strings.Repeat("€", 500))
		args = append(args, strconv.Itoa(i), "\xff")
	}
	slog.New(l.Handler()).Debug(strings.Repeat("€", 5000), args...)
	line := l.lines[0]
	if line.Level != "debug" || len(line.Message) > maxLogText || len(line.Meta) > maxLogMeta {
		t.Errorf("%d bytes, %d attributes", len(line.Message), len(line.Meta))
	}
	for k, v := range line.Meta {
		if len(k) > maxMetaKey || len(v) > maxMetaVal || !utf8.ValidString(v) || v != "\uFFFD" && strings.ContainsRune(v, utf8.RuneError) {
			t.Errorf("%s: %d bytes", k, len(v))
		}
	}
}

func TestLogLinesWaitForTheServer(t *testing.T) {
	l := &Logging{Queue: 5}
	log := slog.New(l.Handler())
	for i := range 8 {
		log.Info(strconv.Itoa(i))
	}
	l.limit = rate.NewLimiter(rate.Inf, 1)
	s := newSink()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := l.Attach(ctx, s.push); err != nil {
		t.Fatal(err)
	}
	if len(s.lines) > 0 {
		t.Error("sent before the server knew")
	}
	l.Announced(ctx)
	want := []string{"3 log lines were dropped", "3", "4", "5", "6", "7"}
	for _, text := range want {
		if got := await(t, text, s.lines); got.Message != text {
			t.Errorf("%s instead of %s", got.Message, text)
		}
	}
	// Without a connection they wait; more than there is room for are counted.
	s.set(true)
	for i := 10; i < 30; i++ {
		log.Info(strconv.Itoa(i))
	}
	s.set(false)
	l.Announced(ctx)
	total := 0
	for last := ""; last != "29"; {
		line := await(t, "a line", s.lines)
		last = line.Message
		if n, ok := strings.CutSuffix(last, " log lines were dropped"); ok {
			count, _ := strconv.Atoi(n)
			total += count
			continue
		}
		total++
	}
	if total != 20 {
		t.Errorf("%d of 20 lines are accounted for", total)
	}
	cancel()
	l.Detach()
}

func TestLogLinesArePaced(t *testing.T) {
	l := &Logging{}
	log := slog.New(l.Handler())
	for range 100 {
		log.Info("x")
	}
	s := newSink()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_ = l.Attach(ctx, s.push)
	l.Announced(ctx)
	<-ctx.Done()
	l.Detach()
	if n := len(s.lines); n < logBurst || n > logBurst+6 {
		t.Errorf("%d lines within a second", n)
	}
}

// recorded are entries as journalctl printed them.
const recorded = `{"__CURSOR":"s=1;i=2","__REALTIME_TIMESTAMP":"1787392062250000","__MONOTONIC_TIMESTAMP":"5","_BOOT_ID":"b","PRIORITY":"6","_TRANSPORT":"stdout","SYSLOG_IDENTIFIER":"pump","_SYSTEMD_UNIT":"pump.service","_PID":"321","MESSAGE":"started"}
{"__REALTIME_TIMESTAMP":"1787392062250001","PRIORITY":"3","_PID":"322","MESSAGE":[27,91,51,49,109,114,101,100,255]}
{"__REALTIME_TIMESTAMP":"1787392062250002","PRIORITY":"7","MESSAGE":"detail"}
{"__REALTIME_TIMESTAMP":"1787392062250003","PRIORITY":"5","SYSLOG_IDENTIFIER":["kernel","other"],"MESSAGE":["first","second"]}
{"__REALTIME_TIMESTAMP":"1787392062250004","MESSAGE":null}
{"__REALTIME_TIMESTAMP":"x","MESSAGE":"no time"}
[1,2]

-- No entries --
{"__REALTIME_TIMESTAMP":"1787392062250005","PRIORITY":"2","_TRANSPORT":"kernel","MESSAGE":"no newline at the end"}`

func TestJournal(t *testing.T) {
	l := &Logging{}
	long := `{"__REALTIME_TIMESTAMP":"1","MESSAGE":"` + strings.Repeat("x", maxJournalLine) + "\"}\n"
	if err := l.ReadJournal(strings.NewReader(long + recorded)); err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(l.lines)
	want := `[{"level":"info","message":"started","meta":{"identifier":"pump","pid":"321","unit":"pump.service"},"timestamp":"2026-08-22T09:47:42.250000Z"},` +
		`{"level":"error","message":"\u001b[31mred�","meta":{"pid":"322"},"timestamp":"2026-08-22T09:47:42.250001Z"},` +
		`{"level":"notice","message":"first","meta":{"identifier":"kernel"},"timestamp":"2026-08-22T09:47:42.250003Z"},` +
		`{"level":"critical","message":"no newline at the end","meta":{},"timestamp":"2026-08-22T09:47:42.250005Z"}]`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestJournalLeavesOutOwnLines(t *testing.T) {
	line := fmt.Sprintf(`{"__REALTIME_TIMESTAMP":"1","_PID":"%d","MESSAGE":"mine"}`, os.Getpid())
	l := &Logging{}
	_ = l.ReadJournal(strings.NewReader(line))
	l.Handler()
	_ = l.ReadJournal(strings.NewReader(line))
	if len(l.lines) != 1 {
		t.Errorf("%d lines", len(l.lines))
	}
}

func TestJournalIsFollowed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/journal", []byte(recorded), 0o600); err != nil {
		t.Fatal(err)
	}
	l := &Logging{Journal: []string{"sh", "-c", "cat " + dir + "/journal; echo; exec sleep 1000"}}
	r := newRig(t, withExtensions(l))
	c := r.start()
	c.join()
	c.event("device", "extensions:get", struct{}{})
	c.accept("extensions", `["logging"]`)
	c.push("extensions", "logging:attached")
	if _, p := c.push("extensions", "logging:send"); p["message"] != "started" {
		t.Errorf("sent %v", p)
	}
	c.until("logging:send", "no newline")
	r.stop()
	await(t, "the end", r.done)
}

func TestJournalProgramFails(t *testing.T) {
	l := &Logging{Journal: []string{"/no/such/journalctl"}}
	s := newSink()
	ctx, cancel := context.WithCancel(t.Context())
	_ = l.Attach(ctx, s.push)
	l.Announced(ctx)
	if line := await(t, "the news", s.lines); line.Level != "error" || !strings.HasPrefix(line.Message, "the journal is not followed: ") {
		t.Errorf("told %+v", line)
	}
	cancel()
	l.Detach()
}

func FuzzJournal(f *testing.F) {
	for line := range strings.Lines(recorded) {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		l := &Logging{Level: slog.LevelDebug}
		if err := l.ReadJournal(strings.NewReader(string(line))); err != nil {
			t.Error(err)
		}
		for _, e := range l.lines {
			if !utf8.ValidString(e.Message) || len(e.Message) > maxLogText || e.Level == "" {
				t.Errorf("%+v", e)
			}
		}
	})
}
