package link

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestScripts(t *testing.T) {
	for _, c := range []struct {
		name, text string
		scripts    Scripts
		want       scriptResult
	}{
		{"output and status", "echo out; echo err >&2", Scripts{},
			scriptResult{Output: "out\nerr\n", Return: "exit status 0", Result: "completed"}},
		{"failure", "echo bad; exit 3", Scripts{},
			scriptResult{Output: "bad\n", Return: "exit status 3", Result: "error", Reason: "exit status 3"}},
		{"signal", "kill -TERM $$", Scripts{},
			scriptResult{Return: "signal: terminated", Result: "error", Reason: "signal: terminated"}},
		{"time", "echo begun; sleep 100", Scripts{Timeout: 200 * time.Millisecond},
			scriptResult{Output: "begun\n", Return: "signal: killed", Result: "error", Reason: "timeout"}},
		{"the last of much", "i=0; while [ $i -lt 100 ]; do echo 0123456789; i=$((i+1)); done", Scripts{MaxOutput: 22},
			scriptResult{Output: "[1078 bytes left out]\n0123456789\n0123456789\n", Return: "exit status 0", Result: "completed"}},
		{"not text", `printf 'a\377b'`, Scripts{},
			scriptResult{Output: "a\uFFFDb", Return: "exit status 0", Result: "completed"}},
		{"interpreter", "anything", Scripts{Interpreter: []string{"echo", "-n", "said"}},
			scriptResult{Output: "said anything", Return: "exit status 0", Result: "completed"}},
		{"environment", "echo $COLOUR; pwd", Scripts{Env: []string{"COLOUR=blue"}, Dir: "/"},
			scriptResult{Output: "blue\n/\n", Return: "exit status 0", Result: "completed"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.Ref = "r"
			if got := c.scripts.run(t.Context(), scriptOrder{Text: c.text, Ref: "r"}); got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
	none := (&Scripts{Interpreter: []string{"/no/such/program"}}).run(t.Context(), scriptOrder{Ref: "r"})
	if none.Result != "error" || !strings.HasPrefix(none.Reason, "could not start: ") {
		t.Errorf("without an interpreter: %+v", none)
	}
}

func TestScriptTimeouts(t *testing.T) {
	ms := func(v float64) *float64 { return &v }
	for _, c := range []struct {
		own   time.Duration
		order *float64
		want  time.Duration
	}{
		{0, nil, 10 * time.Second}, {time.Second, nil, time.Second}, {time.Second, ms(2500), 2500 * time.Millisecond},
		{0, ms(0), 10 * time.Second}, {0, ms(-5), 10 * time.Second}, {0, ms(1e300), MaxScriptTimeout}, {time.Hour, nil, MaxScriptTimeout},
	} {
		if got := (&Scripts{Timeout: c.own}).timeout(scriptOrder{Timeout: c.order}); got != c.want {
			t.Errorf("%v, %v: %s, want %s", c.own, c.order, got, c.want)
		}
	}
}

// A script that is killed takes with it what it started.
func TestScriptGroupIsKilled(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	s := &Scripts{Timeout: 300 * time.Millisecond}
	s.run(t.Context(), scriptOrder{Ref: "r", Text: fmt.Sprintf("sleep 1000 & echo $! > %s; wait", pid)})
	raw, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	// A zombie of a container without an init counts as gone.
	gone := func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n))
		return err != nil || strings.Contains(string(stat), ") Z ") || syscall.Kill(n, 0) != nil
	}
	deadline := time.Now().Add(5 * time.Second)
	for !gone() {
		if time.Now().After(deadline) {
			t.Fatal("the child still runs")
		}
		_ = pause(t.Context(), time.Millisecond)
	}
}

// What a script leaves in the background does not keep its result.
func TestScriptLeavesAChild(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got := (&Scripts{}).run(ctx, scriptOrder{Ref: "r", Text: "sleep 30 & echo done"})
	if got.Result != "completed" || got.Output != "done\n" {
		t.Errorf("got %+v", got)
	}
}

func TestScriptsOverTheWire(t *testing.T) {
	r := newRig(t, func(r *rig) { r.options.Scripts = &Scripts{} })
	c := r.start()
	c.join()
	c.event("device", "scripts/run", map[string]any{"text": "echo hello", "ref": "connecting_code"})
	m, _ := c.push("device", "scripts/run")
	if want := `{"ref":"connecting_code","output":"hello\n","return":"exit status 0","result":"completed"}`; string(m.Payload) != want {
		t.Errorf("answered %s", m.Payload)
	}
	for _, bad := range []any{5, map[string]any{}, map[string]any{"ref": 7, "text": "x"}, map[string]any{"text": "x", "ref": strings.Repeat("r", 256)}} {
		c.event("device", "scripts/run", bad)
	}
	c.silent()
	c.event("device", "scripts/run", map[string]any{"text": strings.Repeat("#", maxScript+1), "ref": "long"})
	if _, p := c.push("device", "scripts/run"); p["result"] != "error" || p["ref"] != "long" {
		t.Errorf("answered %v", p)
	}
	// More than may run at once.
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for range maxScripts {
		c.event("device", "scripts/run", map[string]any{"text": "cat " + fifo, "ref": "waits"})
	}
	c.event("device", "scripts/run", map[string]any{"text": "true", "ref": "more"})
	if _, p := c.push("device", "scripts/run"); p["ref"] != "more" || !strings.HasPrefix(p["reason"].(string), "busy") {
		t.Errorf("answered %v", p)
	}
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = w
	r.stop() // what waits is killed
	await(t, "the end", r.done)
	w.Close()
}

func TestScriptsAreOff(t *testing.T) {
	r := newRig(t, nil)
	c := r.start()
	c.join()
	c.event("device", "scripts/run", map[string]any{"text": "echo hello", "ref": "x"})
	m, _ := c.push("device", "scripts/run")
	if want := `{"ref":"x","output":"","return":"","result":"error","reason":"scripts are disabled"}`; string(m.Payload) != want {
		t.Errorf("answered %s", m.Payload)
	}
}

func FuzzScriptOrder(f *testing.F) {
	f.Add([]byte(`{"text":"true","ref":"x","timeout":5}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		o, err := parseScript(payload)
		if err != nil {
			return
		}
		if o.Ref == "" || len(o.Ref) > 255 {
			t.Errorf("ref %q", o.Ref)
		}
		if d := (&Scripts{}).timeout(o); d <= 0 || d > MaxScriptTimeout {
			t.Errorf("time-out %s", d)
		}
	})
}

func FuzzTail(f *testing.F) {
	f.Add([]byte("hällo"), []byte("wörld"), 4)
	f.Fuzz(func(t *testing.T, a, b []byte, limit int) {
		if limit < 1 || limit > 1<<10 {
			return
		}
		out := &tail{limit: limit}
		out.Write(a)
		out.Write(b)
		if _, err := json.Marshal(out.text()); err != nil || len(out.kept) > limit {
			t.Errorf("%d kept of %d: %v", len(out.kept), limit, err)
		}
	})
}
