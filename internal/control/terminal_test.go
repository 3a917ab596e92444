package control_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// houseNode holds the device of alpha.
const houseNode = "n1"

// answered runs one for a device that answers at once.
func answered(h *house, run func() (fleet.ScriptResult, error)) (any, error) {
	stop, err := h.bus.OnDeviceMessage(houseNode, func(m fleet.DeviceMessage) {
		var r control.ScriptRequest
		if json.Unmarshal(m.Payload, &r) == nil {
			_ = h.bus.AnswerScript(fleet.ScriptAnswer{DeviceID: m.Devices[0], Ref: r.Ref, Result: fleet.ScriptResult{Output: r.Text}})
		}
	})
	if err != nil {
		return nil, err
	}
	defer stop()
	return pick(run())
}

// viewed is what a node hears of viewers.
func (h *house) viewed(t *testing.T, node string) <-chan fleet.TerminalInput {
	t.Helper()
	inputs := make(chan fleet.TerminalInput, 1000)
	stop, err := h.bus.OnTerminal(node, func(in fleet.TerminalInput) { inputs <- in })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return inputs
}

func take[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v, ok := <-c:
		if !ok {
			t.Fatalf("%s: nothing more comes", what)
		}
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("no %s", what)
	}
	return v
}

func gone[T any](t *testing.T, c <-chan T) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case _, ok := <-c:
			if !ok {
				return
			}
		case <-late:
			t.Fatal("the output does not end")
		}
	}
}

func (h *house) say(t *testing.T, o fleet.TerminalOutput) {
	t.Helper()
	o.DeviceID = h.device.ID
	if o.Kind == "" {
		o.Kind = fleet.TerminalConsole
	}
	if err := h.bus.PublishTerminal(o); err != nil {
		t.Fatal(err)
	}
}

func (h *house) terminal(t *testing.T) *control.Terminal {
	t.Helper()
	terminal, err := h.OpenTerminal(t.Context(), h.a.as(fleet.RoleManage), "alpha-sensor", "alpha-unit", fleet.TerminalConsole)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := terminal.Close(); err != nil {
			t.Error(err)
		}
	})
	return terminal
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	inputs := h.viewed(t, houseNode)
	terminal := h.terminal(t)
	open := take(t, "opening", inputs)
	if open.Op != fleet.TerminalOpen || open.DeviceID != h.device.ID || open.Viewer == "" {
		t.Fatalf("opened with %+v", open)
	}
	h.say(t, fleet.TerminalOutput{Op: fleet.TerminalData, Data: "of another viewer", Viewer: "x"})
	h.say(t, fleet.TerminalOutput{Op: fleet.TerminalData, Data: "of the shell", Kind: fleet.TerminalShell})
	h.say(t, fleet.TerminalOutput{Op: fleet.TerminalData, Data: "iex> "})
	if o := take(t, "output", terminal.Output()); o.Data != "iex> " {
		t.Errorf("got %+v", o)
	}
	for _, err := range []error{terminal.Write("1+1\r"), terminal.Resize(24, 80), terminal.Restart()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []fleet.TerminalInput{{Op: fleet.TerminalData, Data: "1+1\r"}, {Op: fleet.TerminalResize, Rows: 24, Cols: 80}, {Op: fleet.TerminalRestart}} {
		want.DeviceID, want.Kind, want.Viewer = h.device.ID, fleet.TerminalConsole, open.Viewer
		if got := take(t, want.Op, inputs); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	wantKind(t, "too much at once", terminal.Write(strings.Repeat("x", fleet.MaxTerminalInput+1)), fleet.TooLarge)
	wantKind(t, "no rows", terminal.Resize(0, 80), fleet.Invalid)

	last := h.lastEvent(t)
	for range 2 {
		if err := terminal.Close(); err != nil {
			t.Fatal(err)
		}
	}
	gone(t, terminal.Output())
	if in := take(t, "leaving", inputs); in.Op != fleet.TerminalClose {
		t.Errorf("left with %+v", in)
	}
	wantKind(t, "writing after the end", terminal.Write("x"), fleet.Conflict)
	events := h.eventsAfter(t, last)
	if len(events) != 1 || events[0].Action != "device.terminal_close" {
		t.Fatalf("%d rows: %+v", len(events), events)
	}
	var detail struct {
		In  int `json:"bytes_in"`
		Out int `json:"bytes_out"`
	}
	if err := json.Unmarshal(events[0].Detail, &detail); err != nil || detail.In != 4 || detail.Out != 5 {
		t.Errorf("%+v of %s, %v", detail, events[0].Detail, err)
	}
}

func TestTerminalFollowsItsDevice(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	here, there := h.viewed(t, houseNode), h.viewed(t, "node-b")
	terminal := h.terminal(t)
	if in := take(t, "opening", here); in.Op != fleet.TerminalOpen {
		t.Fatalf("got %+v", in)
	}
	h.connect(t, "node-b", fleet.Connected)
	if in := take(t, "leaving the node before", here); in.Op != fleet.TerminalClose {
		t.Errorf("got %+v", in)
	}
	if in := take(t, "opening on the other node", there); in.Op != fleet.TerminalOpen {
		t.Errorf("got %+v", in)
	}
	if err := terminal.Write("x"); err != nil {
		t.Fatal(err)
	}
	if in := take(t, "typing", there); in.Data != "x" {
		t.Errorf("got %+v", in)
	}
}

// connect writes where the device is, and tells so.
func (h *house) connect(t *testing.T, node string, status fleet.ConnectionStatus) {
	t.Helper()
	err := h.db.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.SaveConnections(platform, []store.ConnectionChange{{Opened: true, Connection: fleet.Connection{
			DeviceID: h.device.ID, OrgID: h.a.org.ID, ProductID: h.product.ID, UUID: "0198a4e0-0000-7000-8000-00000000000b", Node: node, Status: status,
			EstablishedAt: h.time().Add(time.Minute), LastSeenAt: h.time().Add(time.Minute),
		}}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	p := fleet.Presence{OrgID: h.a.org.ID, ProductID: h.product.ID, DeviceID: h.device.ID, Status: status}
	if err := h.bus.PublishPresence([]fleet.Presence{p}); err != nil {
		t.Fatal(err)
	}
}

// TestTerminalEndsWithTheRight takes the role from a member who has a terminal
// open.
func TestTerminalEndsWithTheRight(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	terminal := h.terminal(t)
	email := h.a.users[fleet.RoleManage].Email
	if _, err := h.SetMemberRole(t.Context(), h.a.as(fleet.RoleAdmin), email, fleet.RoleView); err != nil {
		t.Fatal(err)
	}
	h.connect(t, houseNode, fleet.Connected) // makes it look at once
	gone(t, terminal.Output())
	if !strings.Contains(terminal.Reason(), "manage") {
		t.Errorf("it ended because %q", terminal.Reason())
	}
}

func TestTerminalCutsSlowViewers(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	slow, quick := h.terminal(t), h.terminal(t)
	read := make(chan int, 1)
	const n = 2000
	go func() {
		got := 0
		for range quick.Output() {
			if got++; got == n {
				break
			}
		}
		read <- got
	}()
	for i := range n {
		h.say(t, fleet.TerminalOutput{Op: fleet.TerminalData, Data: "x"})
		if i%100 == 99 {
			if err := h.bus.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	gone(t, slow.Output())
	if slow.Reason() != "the viewer was too slow" {
		t.Errorf("it ended because %q", slow.Reason())
	}
	if reason := quick.Reason(); reason == "" {
		if got := take(t, "all of it for the quick one", read); got != n {
			t.Errorf("the quick one got %d of %d", got, n)
		}
	}
}

func TestTerminalSendsFiles(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	inputs := h.viewed(t, houseNode)
	terminal := h.terminal(t)
	take(t, "opening", inputs)
	content := bytes.Repeat([]byte("0123456789abcdef"), 2500) // not a whole number of pieces
	size := int64(len(content))
	wantKind(t, "before the console is ready", terminal.SendFile(t.Context(), "a.txt", size, bytes.NewReader(content), nil), fleet.Conflict)
	h.say(t, fleet.TerminalOutput{Op: fleet.TerminalStatus, Data: fleet.TerminalReady, Files: true})
	take(t, "the status", terminal.Output())
	for _, name := range []string{"", ".", "..", "a/b", `a\b`, strings.Repeat("x", 256)} {
		wantKind(t, "the name "+name, terminal.SendFile(t.Context(), name, size, bytes.NewReader(content), nil), fleet.Invalid)
	}
	wantKind(t, "too large", terminal.SendFile(t.Context(), "a", fleet.MaxTerminalFile+1, nil, nil), fleet.TooLarge)

	var got bytes.Buffer
	done := make(chan error, 1)
	var progress []int64
	go func() {
		done <- terminal.SendFile(t.Context(), "a.txt", size, bytes.NewReader(content), func(n int64) { progress = append(progress, n) })
	}()
	for stop := false; !stop; {
		in := take(t, "a piece", inputs)
		if in.Name != "a.txt" {
			t.Fatalf("got %+v", in)
		}
		stop = in.Op == fleet.TerminalFileStop
		raw, err := base64.StdEncoding.DecodeString(in.Data)
		if err != nil || len(raw) > fleet.MaxTerminalPiece {
			t.Fatalf("a piece of %d bytes, %v", len(raw), err)
		}
		got.Write(raw)
		select {
		case more := <-inputs:
			t.Fatalf("sent %+v before %+v was taken", more, in)
		default:
		}
		h.say(t, fleet.TerminalOutput{Op: fleet.TerminalFileAck, Viewer: in.Viewer, Chunk: in.Chunk})
	}
	if err := take(t, "the end", done); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), content) || len(progress) != 3 || progress[2] != size {
		t.Errorf("%d bytes arrived of %d, progress %v", got.Len(), size, progress)
	}

	go func() { done <- terminal.SendFile(t.Context(), "b.txt", size, strings.NewReader("short"), nil) }()
	in := take(t, "the start", inputs)
	h.say(t, fleet.TerminalOutput{Op: fleet.TerminalFileAck, Viewer: in.Viewer, Chunk: in.Chunk})
	wantKind(t, "fewer bytes than said", take(t, "the end", done), fleet.Invalid)

	go func() { done <- terminal.SendFile(t.Context(), "c.txt", size, bytes.NewReader(content), nil) }()
	in = take(t, "the start", inputs)
	h.say(t, fleet.TerminalOutput{Op: fleet.TerminalFileAck, Viewer: in.Viewer, Chunk: fleet.TerminalChunkRefused})
	wantKind(t, "refused by the node", take(t, "the end", done), fleet.Conflict)
}

func TestShellNeedsItsExtension(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.a.as(fleet.RoleManage)
	open := func() error {
		terminal, err := h.OpenTerminal(t.Context(), s, "alpha-sensor", "alpha-unit", fleet.TerminalShell)
		if err == nil {
			err = terminal.Close()
		}
		return err
	}
	wantKind(t, "switched off for the product", open(), fleet.Conflict)
	on := fleet.DefaultExtensions.With(fleet.ExtensionLocalShell)
	if _, err := h.UpdateProduct(t.Context(), s, "alpha-sensor", fleet.ProductUpdate{Extensions: &on}); err != nil {
		t.Fatal(err)
	}
	if err := open(); err != nil {
		t.Error(err)
	}
	off := fleet.ExtensionSet(0).With(fleet.ExtensionLocalShell)
	if _, err := h.UpdateDevice(t.Context(), s, "alpha-sensor", "alpha-unit", fleet.DeviceUpdate{ExtensionsOff: &off}); err != nil {
		t.Fatal(err)
	}
	wantKind(t, "switched off for the device", open(), fleet.Conflict)
	wantKind(t, "another kind", func() error {
		_, err := h.OpenTerminal(t.Context(), s, "alpha-sensor", "alpha-unit", "window")
		return err
	}(), fleet.Invalid)
}

func TestRunScript(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.a.as(fleet.RoleManage)
	requests := make(chan control.ScriptRequest, 10)
	stop, err := h.bus.OnDeviceMessage(houseNode, func(m fleet.DeviceMessage) {
		var r control.ScriptRequest
		if m.Event == control.EventScriptRun && json.Unmarshal(m.Payload, &r) == nil {
			requests <- r
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	type outcome struct {
		r   fleet.ScriptResult
		err error
	}
	run := func(timeout time.Duration) (control.ScriptRequest, <-chan outcome) {
		done := make(chan outcome, 1)
		go func() {
			r, err := h.RunScript(t.Context(), s, "alpha-sensor", "alpha-unit", "secret()", timeout)
			done <- outcome{r, err}
		}()
		return take(t, "the request", requests), done
	}
	answer := func(a fleet.ScriptAnswer) {
		if err := h.bus.AnswerScript(a); err != nil {
			t.Fatal(err)
		}
	}
	last := h.lastEvent(t)
	one, first := run(0)
	two, second := run(time.Minute)
	if one.Ref == two.Ref || one.Timeout != 30_000 || two.Timeout != 60_000 || one.Text != "secret()" {
		t.Fatalf("asked for %+v and %+v", one, two)
	}
	// Answers of another device and of another run, and a second one of the
	// same, are nobody's.
	answer(fleet.ScriptAnswer{DeviceID: h.device.ID + 1, Ref: one.Ref, Result: fleet.ScriptResult{Output: "wrong"}})
	answer(fleet.ScriptAnswer{DeviceID: h.device.ID, Ref: two.Ref, Result: fleet.ScriptResult{Output: "2", Result: "completed"}})
	answer(fleet.ScriptAnswer{DeviceID: h.device.ID, Ref: two.Ref, Result: fleet.ScriptResult{Output: "late"}})
	answer(fleet.ScriptAnswer{DeviceID: h.device.ID, Ref: one.Ref, Result: fleet.ScriptResult{Output: "1", Result: "completed"}})
	if o := take(t, "the first result", first); o.err != nil || o.r.Output != "1" {
		t.Errorf("got %+v", o)
	}
	if o := take(t, "the second result", second); o.err != nil || o.r.Output != "2" {
		t.Errorf("got %+v", o)
	}
	if events := h.eventsAfter(t, last); len(events) != 2 || events[0].Action != "device.run_script" || bytes.Contains(events[0].Detail, []byte("secret()")) {
		t.Errorf("wrote %+v", events)
	}
	r, done := run(0)
	answer(fleet.ScriptAnswer{DeviceID: h.device.ID, Ref: r.Ref, Problem: "it has no console"})
	wantKind(t, "a device that can not", take(t, "the end", done).err, fleet.Conflict)
	_, done = run(time.Millisecond)
	wantKind(t, "a device that is silent", take(t, "the end", done).err, fleet.Unavailable)

	for what, text := range map[string]string{"nothing": " \n", "too long": strings.Repeat("x", control.MaxScript+1)} {
		if _, err := h.RunScript(t.Context(), s, "alpha-sensor", "alpha-unit", text, 0); err == nil {
			t.Errorf("%s was run", what)
		}
	}
	_, err = h.RunScript(t.Context(), s, "alpha-sensor", "alpha-unit", "x", control.MaxScriptTimeout+1)
	wantKind(t, "too long a time-out", err, fleet.Invalid)
	h.connect(t, houseNode, fleet.Disconnected)
	_, err = h.RunScript(t.Context(), s, "alpha-sensor", "alpha-unit", "x", 0)
	wantKind(t, "a device that is not there", err, fleet.Conflict)
}

// TestGatewaysHearOfExtensions changes settings and listens.
func TestGatewaysHearOfExtensions(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.a.as(fleet.RoleManage)
	messages := make(chan fleet.DeviceMessage, 10)
	stop, err := h.bus.OnDeviceMessage(houseNode, func(m fleet.DeviceMessage) { messages <- m })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	on := fleet.DefaultExtensions.With(fleet.ExtensionGeo)
	if _, err := h.UpdateProduct(t.Context(), s, "alpha-sensor", fleet.ProductUpdate{Extensions: &on}); err != nil {
		t.Fatal(err)
	}
	m := take(t, "a message", messages)
	var x control.ExtensionSettings
	if err := json.Unmarshal(m.Payload, &x); err != nil || m.Event != control.EventExtensions || len(m.Devices) != 0 || x.ProductID != h.product.ID || x.On != on {
		t.Errorf("told %+v, %+v, %v", m, x, err)
	}
	if got, err := h.ProductExtensions(t.Context(), h.a.org.ID, h.product.ID); err != nil || got != on {
		t.Errorf("remembers %v, %v", got, err)
	}
	off := fleet.ExtensionSet(0).With(fleet.ExtensionHealth)
	if _, err := h.UpdateDevice(t.Context(), s, "alpha-sensor", "alpha-unit", fleet.DeviceUpdate{ExtensionsOff: &off}); err != nil {
		t.Fatal(err)
	}
	m = take(t, "a message", messages)
	if err := json.Unmarshal(m.Payload, &x); err != nil || len(m.Devices) != 1 || m.Devices[0] != h.device.ID || x.On != on || x.Off != off {
		t.Errorf("told %+v, %+v, %v", m, x, err)
	}
	wantKind(t, "health that is off", h.RequestHealth(t.Context(), s, "alpha-sensor", "alpha-unit"), fleet.Conflict)
	if _, err := h.UpdateProduct(t.Context(), s, "alpha-sensor", fleet.ProductUpdate{Extensions: &on}); err != nil {
		t.Fatal(err)
	}
	none := fleet.ExtensionSet(0)
	if _, err := h.UpdateDevice(t.Context(), s, "alpha-sensor", "alpha-unit", fleet.DeviceUpdate{ExtensionsOff: &none}); err != nil {
		t.Fatal(err)
	}
	if err := h.RequestHealth(t.Context(), s, "alpha-sensor", "alpha-unit"); err != nil {
		t.Fatal(err)
	}
	take(t, "the change back", messages)
	if m = take(t, "the request", messages); m.Event != control.EventRequestCheck {
		t.Errorf("told %+v", m)
	}
}

func TestGroupConnectingCode(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.a.as(fleet.RoleManage)
	want := func(code string) {
		t.Helper()
		if got, err := h.GroupConnectingCode(t.Context(), h.a.org.ID, h.group.ID); err != nil || got != code {
			t.Errorf("got %q, %v, want %q", got, err, code)
		}
	}
	want("")
	code := "IO.puts(1)"
	if _, err := h.UpdateDeploymentGroup(t.Context(), s, "alpha-sensor", h.group.Name, 0, fleet.DeploymentGroupUpdate{ConnectingCode: &code}); err != nil {
		t.Fatal(err)
	}
	want(code)
	if got, err := h.GroupConnectingCode(t.Context(), h.b.org.ID, h.group.ID+1000); err != nil || got != "" {
		t.Errorf("a group that is not there: %q, %v", got, err)
	}
	long := strings.Repeat("x", control.MaxConnectingCode+1)
	_, err := h.UpdateDeploymentGroup(t.Context(), s, "alpha-sensor", h.group.Name, 0, fleet.DeploymentGroupUpdate{ConnectingCode: &long})
	wantKind(t, "too long a code", err, fleet.Invalid)
	_, err = h.UpdateDevice(t.Context(), s, "alpha-sensor", "alpha-unit", fleet.DeviceUpdate{ConnectingCode: &long})
	wantKind(t, "too long a code", err, fleet.Invalid)
}
