package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
)

// look opens a terminal, and reads what it is told first.
func (p *platform) look(identifier string, kind fleet.TerminalKind, state string) *control.Terminal {
	p.t.Helper()
	terminal, err := p.control.OpenTerminal(p.t.Context(), p.scope, "thermostat", identifier, kind)
	must(p.t, err)
	p.t.Cleanup(func() { must(p.t, terminal.Close()) })
	shown(p.t, terminal, fleet.TerminalStatus, state)
	return terminal
}

// shown reads what a viewer is told next, which must be this.
func shown(t testing.TB, terminal *control.Terminal, op, data string) fleet.TerminalOutput {
	t.Helper()
	select {
	case o, ok := <-terminal.Output():
		if !ok {
			t.Fatalf("the output ended: %s", terminal.Reason())
		}
		if o.Op != op || o.Data != data {
			t.Fatalf("told %s %q, want %s %q", o.Op, o.Data, op, data)
		}
		return o
	case <-time.After(patience):
		t.Fatalf("not told %s %q", op, data)
	}
	return fleet.TerminalOutput{}
}

// console makes the device join its console.
func (c *client) console(version string) {
	c.t.Helper()
	c.text(`["6","6","console","phx_join",{"console_version":%q}]`, version)
	c.expect(`["6","6","console","phx_reply",{"status":"ok","response":{}}]`)
}

func (c *client) prints(data string) {
	c.t.Helper()
	c.text(`["6","30","console","up",%s]`, marshal(map[string]string{"data": data}))
}

func TestConsole(t *testing.T) {
	p := start(t, nil)
	c := p.connected("sn-1", "")
	absent := p.look("sn-1", fleet.TerminalConsole, fleet.TerminalAbsent)
	c.console("2.0.0")
	shown(t, absent, fleet.TerminalStatus, fleet.TerminalReady)
	must(t, absent.Write("1+1\r"))
	c.pushed("console", "dn", `{"data":"1+1\r"}`)
	c.prints("iex(1)> 1+1\r\n2\r\n")
	shown(t, absent, fleet.TerminalData, "iex(1)> 1+1\r\n2\r\n")
	for _, nothing := range []string{`{"data":7}`, `{}`, `[]`, `{"data":""}`} {
		c.text(`["6","31","console","up",%s]`, nothing)
	}

	// A second viewer sees what was, and both see what comes.
	second := p.look("sn-1", fleet.TerminalConsole, fleet.TerminalReady)
	shown(t, second, fleet.TerminalReplay, "iex(1)> 1+1\r\n2\r\n")
	c.prints("more ☃")
	shown(t, absent, fleet.TerminalData, "more ☃")
	shown(t, second, fleet.TerminalData, "more ☃")

	// The window is the smallest of all.
	must(t, absent.Resize(40, 100))
	c.pushed("console", "window_size", `{"height":40,"width":100}`)
	must(t, second.Resize(50, 80))
	c.pushed("console", "window_size", `{"height":40,"width":80}`)
	must(t, second.Resize(50, 90))
	c.pushed("console", "window_size", `{"height":40,"width":90}`)
	must(t, second.Close())
	c.pushed("console", "window_size", `{"height":40,"width":100}`)
	must(t, absent.Restart())
	c.pushed("console", "restart", "{}")

	// The device comes back: its viewer is told, its window and its history
	// are new.
	again := p.dial("sn-1")
	shown(t, absent, fleet.TerminalStatus, fleet.TerminalOffline)
	again.join("")
	again.console("1.0.0")
	if o := shown(t, absent, fleet.TerminalStatus, fleet.TerminalReady); o.Files {
		t.Error("an old console takes files")
	}
	again.pushed("console", "window_size", `{"height":40,"width":100}`)
	third := p.look("sn-1", fleet.TerminalConsole, fleet.TerminalReady)
	must(t, third.Write("x"))
	again.pushed("console", "dn", `{"data":"x"}`)

	again.text(`["6","40","console","phx_leave",{}]`)
	again.expect(`["6","40","console","phx_reply",{"status":"ok","response":{}}]`)
	again.expect(`["6","6","console","phx_close",{}]`)
	shown(t, absent, fleet.TerminalStatus, fleet.TerminalAbsent)
	shown(t, third, fleet.TerminalStatus, fleet.TerminalAbsent)
}

func TestConsoleOfMessagePack(t *testing.T) {
	p := start(t, nil)
	c := p.dialPacked("sn-1")
	c.pack(`["1","1","device","phx_join",{%s}]`, strings.Replace(facts, "2.3.0", "2.0.0", 1))
	c.expectPacked(`["1","1","device","phx_reply",{"status":"ok","response":{}}]`)
	p.report(fleet.ReportJoined, p.device("sn-1").ID)
	c.pack(`["6","6","console","phx_join",{"console_version":"2.0.0"}]`)
	c.expectPacked(`["6","6","console","phx_reply",{"status":"ok","response":{}}]`)
	terminal := p.look("sn-1", fleet.TerminalConsole, fleet.TerminalReady)
	must(t, terminal.Write("ö"))
	c.expectPacked(`["6",null,"console","dn",{"data":"ö"}]`)
	c.pack(`["6","7","console","up",{"data":"ä"}]`)
	shown(t, terminal, fleet.TerminalData, "ä")
}

func TestFilesToAndFromADevice(t *testing.T) {
	p := start(t, nil)
	c := p.connected("sn-1", "")
	c.console("2.0.0")
	terminal := p.look("sn-1", fleet.TerminalConsole, fleet.TerminalReady)
	content := bytes.Repeat([]byte("0123456789"), 20_050) // more than the queue of a connection takes
	done := make(chan error, 1)
	go func() {
		done <- terminal.SendFile(t.Context(), "a.bin", int64(len(content)), bytes.NewReader(content), nil)
	}()
	c.pushed("console", "file-data/start", `{"filename":"a.bin","uploaded_by":0}`)
	var got bytes.Buffer
	chunks := 0
	for got.Len() < len(content) {
		f, err := c.next()
		must(t, err)
		var m [5]json.RawMessage
		var part struct {
			Filename string `json:"filename"`
			Chunk    int    `json:"chunk"`
			Data     []byte `json:"data"`
		}
		must(t, json.Unmarshal(f.Payload, &m))
		must(t, json.Unmarshal(m[4], &part))
		if string(m[3]) != `"file-data"` || part.Filename != "a.bin" || part.Chunk != chunks || len(part.Data) > 1024 {
			t.Fatalf("piece %d: %s", chunks, f.Payload)
		}
		chunks++
		got.Write(part.Data)
	}
	c.pushed("console", "file-data/stop", `{"filename":"a.bin","uploaded_by":0}`)
	if err := <-done; err != nil || !bytes.Equal(got.Bytes(), content) {
		t.Fatalf("%d of %d bytes arrived: %v", got.Len(), len(content), err)
	}

	// What the device sends is offered, whatever its name says.
	data := base64.StdEncoding.EncodeToString([]byte("core"))
	c.text(`["6","31","console","file-data/start",{"filename":"../../etc/core"}]`)
	c.text(`["6","32","console","file-data",{"filename":"core","chunk":1,"data":%q}]`, data)
	c.text(`["6","33","console","file-data",{"filename":"core","chunk":2,"data":"not base64"}]`)
	c.text(`["6","34","console","file-data",{"filename":"..","chunk":2,"data":%q}]`, data)
	c.text(`["6","35","console","file-data/stop",{"filename":"core"}]`)
	for _, want := range []fleet.TerminalOutput{{Op: fleet.TerminalFileStart}, {Op: fleet.TerminalFileData, Chunk: 1, Data: data}, {Op: fleet.TerminalFileStop}} {
		if o := shown(t, terminal, want.Op, want.Data); o.Name != "core" || o.Chunk != want.Chunk {
			t.Errorf("told %+v", o)
		}
	}

	// One file at a time; a sender that went away does not block it for ever.
	other := p.look("sn-1", fleet.TerminalConsole, fleet.TerminalReady)
	d := p.device("sn-1")
	p.gateway.terminals.input(fleet.TerminalInput{DeviceID: d.ID, Kind: fleet.TerminalConsole, Viewer: "somebody", Op: fleet.TerminalFileStart, Name: "b"})
	c.pushed("console", "file-data/start", `{"filename":"b","uploaded_by":0}`)
	if err := other.SendFile(t.Context(), "c", 1, strings.NewReader("x"), nil); fleet.KindOf(err) != fleet.Conflict {
		t.Errorf("two files at once: %v", err)
	}
	// The device goes away in the middle of one.
	p.ahead.Add(int64(senderExpiry + time.Second))
	go func() { done <- other.SendFile(t.Context(), "c", int64(len(content)), bytes.NewReader(content), nil) }()
	c.pushed("console", "file-data/start", `{"filename":"c","uploaded_by":0}`)
	must(t, c.conn.Close())
	if err := <-done; fleet.KindOf(err) != fleet.Conflict {
		t.Errorf("a file to a device that went away: %v", err)
	}
}

func TestShell(t *testing.T) {
	p := start(t, nil)
	p.extend(fleet.ExtensionLocalShell)
	c := p.connected("sn-1", "")
	terminal := p.look("sn-1", fleet.TerminalShell, fleet.TerminalAbsent)
	c.extensions(`{"local_shell":"0.0.1"}`, `["local_shell"]`)
	must(t, terminal.Resize(24, 80))
	c.beat()
	c.text(`["5","10","extensions","local_shell:attached",{}]`)
	c.pushed("extensions", "local_shell:request_shell", "{}")
	c.pushed("extensions", "local_shell:window_size", `{"cols":80,"rows":24}`)
	shown(t, terminal, fleet.TerminalStatus, fleet.TerminalReady)
	c.text(`["5","11","extensions","local_shell:request_status",{"status":"started"}]`)
	shown(t, terminal, fleet.TerminalStatus, fleet.TerminalReady)
	c.pushed("extensions", "local_shell:window_size", `{"cols":80,"rows":24}`) // now there is one to hear it
	must(t, terminal.Write("ls\r"))
	c.pushed("extensions", "local_shell:shell_input", `{"data":"ls\r"}`)
	c.text(`["5","12","extensions","local_shell:shell_output",{"data":"# "}]`)
	shown(t, terminal, fleet.TerminalData, "# ")
	second := p.look("sn-1", fleet.TerminalShell, fleet.TerminalReady) // asks for no other shell
	shown(t, second, fleet.TerminalReplay, "# ")

	must(t, terminal.Restart())
	c.pushed("extensions", "local_shell:kill_shell", `{"signal":9}`)
	c.text(`["5","13","extensions","local_shell:shell_exited",{"exit_code":137}]`)
	if o := shown(t, terminal, fleet.TerminalStatus, fleet.TerminalExited); o.Name != "137" {
		t.Errorf("told %+v", o)
	}
	c.pushed("extensions", "local_shell:request_shell", "{}")
	c.text(`["5","14","extensions","local_shell:request_status",{"status":"failed","reason":"no sh"}]`)
	if o := shown(t, terminal, fleet.TerminalStatus, fleet.TerminalFailed); o.Name != "no sh" {
		t.Errorf("told %+v", o)
	}
	must(t, terminal.Write("\r")) // any key starts it
	c.pushed("extensions", "local_shell:request_shell", "{}")
	c.text(`["5","15","extensions","local_shell:request_status",{"status":"started"}]`)
	shown(t, terminal, fleet.TerminalStatus, fleet.TerminalReady)
	c.pushed("extensions", "local_shell:window_size", `{"cols":80,"rows":24}`)

	// Nobody looks any more: the shell ends after a while.
	must(t, terminal.Close())
	must(t, second.Close())
	must(t, p.bus.Ping(t.Context()))
	await(t, "the viewers to leave", func() bool {
		tt := p.gateway.terminals.lock(terminalKey{p.device("sn-1").ID, fleet.TerminalShell}, 0)
		defer tt.mu.Unlock()
		return len(tt.viewers) == 0
	})
	p.gateway.sweep(p.now().Add(shellExpiry - time.Second - phxSilence(c)))
	c.beat()
	p.gateway.terminals.sweep(p.now().Add(shellExpiry + time.Second))
	c.pushed("extensions", "local_shell:kill_shell", `{"signal":1}`)

	p.except("sn-1", fleet.ExtensionLocalShell)
	c.pushed("extensions", "detach", `{"extensions":["local_shell"]}`)
	if _, err := p.control.OpenTerminal(t.Context(), p.scope, "thermostat", "sn-1", fleet.TerminalShell); fleet.KindOf(err) != fleet.Conflict {
		t.Errorf("opened a shell that is off: %v", err)
	}
}

// phxSilence keeps a sweep in the future from closing the connection.
func phxSilence(c *client) time.Duration {
	c.beat()
	return 4 * time.Minute
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	late := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestViewersExpire(t *testing.T) {
	p := start(t, nil)
	c := p.connected("sn-1", "")
	c.console("2.0.0")
	d := p.device("sn-1")
	ts := p.gateway.terminals
	in := func(viewer, op string, rows int) {
		ts.input(fleet.TerminalInput{DeviceID: d.ID, Kind: fleet.TerminalConsole, Viewer: viewer, Op: op, Rows: rows, Cols: 80})
	}
	in("a", fleet.TerminalResize, 20)
	c.pushed("console", "window_size", `{"height":20,"width":80}`)
	p.ahead.Add(int64(viewerExpiry) / 2)
	in("b", fleet.TerminalResize, 30)
	p.ahead.Add(int64(viewerExpiry)/2 + int64(time.Second))
	ts.sweep(p.now())
	c.pushed("console", "window_size", `{"height":30,"width":80}`) // a is gone
	p.ahead.Add(int64(viewerExpiry))
	in("b", fleet.TerminalClose, 0)
	ts.sweep(p.now().Add(viewerExpiry + time.Second))
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if len(ts.all) != 0 || ts.held.Load() != 0 {
		t.Errorf("%d terminals with %d bytes are left", len(ts.all), ts.held.Load())
	}
}

// TestTerminalsAreBounded prints and types more than there is room for.
func TestTerminalsAreBounded(t *testing.T) {
	p := start(t, nil)
	c := p.connected("sn-1", "")
	c.console("2.0.0")
	d := p.device("sn-1")
	line := strings.Repeat("x", 1000) + "\r\n"
	for range 100 {
		c.prints(line)
	}
	c.beat()
	held := func() (text, lines int) {
		tt := p.gateway.terminals.lock(terminalKey{d.ID, fleet.TerminalConsole}, 0)
		defer tt.mu.Unlock()
		return len(tt.scrollback.text), tt.scrollback.lines
	}
	if text, lines := held(); text > maxScrollback || text < maxScrollback-len(line) || lines != text/len(line) {
		t.Errorf("keeps %d bytes, %d lines", text, lines)
	}
	for i := range maxViewers + 1 {
		p.gateway.terminals.input(fleet.TerminalInput{DeviceID: d.ID, Kind: fleet.TerminalConsole, Viewer: fmt.Sprint("v", i), Op: fleet.TerminalOpen})
	}
	tt := p.gateway.terminals.lock(terminalKey{d.ID, fleet.TerminalConsole}, 0)
	if len(tt.viewers) != maxViewers {
		t.Errorf("%d viewers", len(tt.viewers))
	}
	tt.mu.Unlock()

	// Somebody pastes more than a device that does not read takes. It loses
	// some of it, and the device keeps its connection.
	paste := strings.Repeat("\x01", fleet.MaxTerminalInput) // six times as long on the wire
	for range 40 {
		p.gateway.terminals.input(fleet.TerminalInput{DeviceID: d.ID, Kind: fleet.TerminalConsole, Viewer: "v1", Op: fleet.TerminalData, Data: paste})
	}
	tt = p.gateway.terminals.lock(terminalKey{d.ID, fleet.TerminalConsole}, 0)
	if tt.waiting > maxTerminalWaits+6*fleet.MaxTerminalInput+100 {
		t.Errorf("%d bytes wait", tt.waiting)
	}
	tt.mu.Unlock()
	c.text(`[null,"99","phoenix","heartbeat",{}]`)
	for pieces := 0; ; pieces++ {
		f, err := c.next()
		must(t, err)
		if f.Header.OpCode == ws.OpText && strings.HasPrefix(string(f.Payload), `[null,"99"`) {
			break
		}
		if pieces > 40 {
			t.Fatal("no answer to the heartbeat")
		}
	}
	if p.gateway.Count() != 1 {
		t.Error("the device lost its connection")
	}
}

func TestScrollback(t *testing.T) {
	for _, tc := range []struct {
		name  string
		add   []string
		room  int
		want  string
		lines int
	}{
		{"all of it", []string{"a\n", "b\nc"}, 100, "a\nb\nc", 2},
		{"the oldest lines go", []string{"one\n", "two\n", "three\n"}, 11, "two\nthree\n", 2},
		{"a long line loses its beginning", []string{"0123456789", "ab"}, 10, "23456789ab", 0},
		{"no half runes", []string{"☃☃☃", "x"}, 9, "☃☃x", 0},
		{"more at once than there is room", []string{"before\n", "0123456789\nlast"}, 8, "789\nlast", 1},
		{"no room", []string{"x"}, 0, "", 0},
		{"many lines", []string{strings.Repeat("\n", maxScrollbackLines+10) + "end"}, maxScrollback, strings.Repeat("\n", maxScrollbackLines) + "end", maxScrollbackLines},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var b scrollback
			for _, data := range tc.add {
				b.add(data, tc.room)
			}
			if string(b.text) != tc.want || b.lines != tc.lines {
				t.Errorf("keeps %q with %d lines", b.text, b.lines)
			}
		})
	}
}

// TestNobodySeesAnotherOrgsTerminal opens terminals of devices through the
// scope of another org.
func TestNobodySeesAnotherOrgsTerminal(t *testing.T) {
	p := start(t, nil)
	c := p.connected("sn-1", "")
	c.console("2.0.0")
	stranger := fleet.SystemScope("another org").In(p.scope.Org + 1)
	for _, kind := range []fleet.TerminalKind{fleet.TerminalConsole, fleet.TerminalShell} {
		if _, err := p.control.OpenTerminal(t.Context(), stranger, "thermostat", "sn-1", kind); fleet.KindOf(err) != fleet.NotFound {
			t.Errorf("the %s: %v", kind, err)
		}
	}
	if _, err := p.control.RunScript(t.Context(), stranger, "thermostat", "sn-1", "1", 0); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("a script: %v", err)
	}
	viewer := fleet.MemberScope(fleet.User{ID: 1}, fleet.Membership{OrgID: p.scope.Org, Role: fleet.RoleView})
	if _, err := p.control.OpenTerminal(t.Context(), viewer, "thermostat", "sn-1", fleet.TerminalConsole); fleet.KindOf(err) != fleet.Forbidden {
		t.Errorf("somebody who may only look: %v", err)
	}
	c.beat()
}

func TestScriptsOnDevices(t *testing.T) {
	p := start(t, nil)
	c := p.connected("sn-1", "")
	old := p.connected("sn-2", `,"device_api_version":"2.0.0"`)
	type outcome struct {
		r   fleet.ScriptResult
		err error
	}
	run := func(identifier, script string) <-chan outcome {
		done := make(chan outcome, 1)
		go func() {
			r, err := p.control.RunScript(t.Context(), p.scope, "thermostat", identifier, script, 0)
			done <- outcome{r, err}
		}()
		return done
	}
	done := run("sn-1", "1+1")
	f, err := c.next()
	must(t, err)
	var m [5]json.RawMessage
	var request control.ScriptRequest
	must(t, json.Unmarshal(f.Payload, &m))
	must(t, json.Unmarshal(m[4], &request))
	if request.Text != "1+1" || request.Timeout != 30_000 {
		t.Errorf("asked for %+v", request)
	}
	for _, bad := range []string{`{"ref":"a b.*"}`, `{"ref":7}`, `{}`, `[]`, `{"ref":"nobodys","output":"x"}`} {
		c.text(`["1","10","device","scripts/run",%s]`, bad)
	}
	c.text(`["1","11","device","scripts/run",{"ref":%q,"output":"hello\n","return":"2","result":"completed"}]`, request.Ref)
	c.text(`["1","12","device","scripts/run",{"ref":%q,"output":"late","return":"3"}]`, request.Ref)
	if o := <-done; o.err != nil || o.r.Output != "hello\n\n2" || o.r.Return != "2" || o.r.Result != "completed" {
		t.Errorf("got %+v", o)
	}

	// An old device without a console can not be asked.
	if o := <-run("sn-2", "1+1"); fleet.KindOf(o.err) != fleet.Conflict {
		t.Errorf("got %+v", o)
	}
	old.console("1.0.0")
	first := run("sn-2", "1+1")
	old.pushed("console", "dn", `{"data":"1+1\n# [NERVESHUB:END]\r"}`)
	second := run("sn-2", "2+2")
	old.pushed("console", "dn", `{"data":"2+2\n# [NERVESHUB:END]\r"}`)
	old.prints("iex(1)> 1+1\r\n2\r\niex(2)> # [NERVES")
	old.prints("HUB:END]\r\niex(3)> 2+2\r\n4\r\niex(4)> # [NERVESHUB:END]\r\n")
	if o := <-first; o.err != nil || o.r.Output != "iex(1)> 1+1\r\n2\r\niex(2)>" {
		t.Errorf("got %+v", o)
	}
	if o := <-second; o.err != nil || o.r.Output != "iex(3)> 2+2\r\n4\r\niex(4)>" {
		t.Errorf("got %+v", o)
	}
	third := run("sn-2", "loop()")
	old.pushed("console", "dn", `{"data":"loop()\n# [NERVESHUB:END]\r"}`)
	must(t, old.conn.Close())
	if o := <-third; fleet.KindOf(o.err) != fleet.Conflict {
		t.Errorf("the device went away: %+v", o)
	}
}
