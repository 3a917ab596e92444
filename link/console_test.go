package link

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ganglion-iot/ganglion/phx"
)

// prints awaits output of a terminal that contains text, and returns all up to
// it.
func (c *peerConn) prints(topic, event, text string) string {
	c.t.Helper()
	var out strings.Builder
	for {
		m, p := c.next()
		if m.Topic != topic || m.Event != event {
			c.t.Fatalf("%s %s %s while waiting for %q after %q", m.Topic, m.Event, m.Payload, text, out.String())
		}
		data, _ := p["data"].(string)
		if !utf8.ValidString(data) || strings.ContainsRune(data, utf8.RuneError) {
			c.t.Errorf("not text: %q", data)
		}
		out.WriteString(data)
		if strings.Contains(out.String(), text) {
			return out.String()
		}
	}
}

func (c *peerConn) types(text string) { c.event("console", "dn", map[string]string{"data": text}) }

// withConsole gives a rig a console with a quiet shell.
func withConsole(change func(*Console)) func(*rig) {
	return func(r *rig) {
		console := &Console{Program: Program{Command: []string{"sh"}, Env: []string{"PS1=$ ", "ENV="}}, DataDir: r.t.TempDir()}
		if change != nil {
			change(console)
		}
		r.options.Console = console
	}
}

func (r *rig) console() *peerConn {
	c := r.start()
	c.join()
	c.accept("console", "{}")
	return c
}

func TestConsole(t *testing.T) {
	r := newRig(t, withConsole(nil))
	c := r.console()
	c.silent() // nothing runs before somebody comes
	c.event("console", "window_size", map[string]int{"height": 33, "width": 111})
	c.prints("console", "up", "$ ")
	c.types("stty size; echo t=$TERM; echo grü\u00df\r")
	out := c.prints("console", "up", "\ngrü\u00df")
	if !strings.Contains(out, "33 111") || !strings.Contains(out, "t=") {
		t.Errorf("printed %q", out)
	}
	c.event("console", "window_size", map[string]int{"height": 44, "width": 99})
	c.event("console", "window_size", map[string]any{"height": "x", "width": -1})
	c.event("console", "window_size", map[string]any{"height": 1e9, "width": 0})
	c.event("console", "metadata", map[string]any{})
	c.types("stty size\r")
	c.prints("console", "up", "44 99")
	c.types("X=kept\r")
	c.event("console", "restart", struct{}{})
	c.prints("console", "up", "*** Restarting the console. ***")
	c.types("echo \"<$X>\"; stty size\r")
	if out := c.prints("console", "up", "44 99"); !strings.Contains(out, "<>") {
		t.Errorf("not a new program: %q", out)
	}
	c.types("exit 7\r")
	c.prints("console", "up", "The program ended: exit status 7. Press a key to start it again.")
	c.types("echo a${X}live\r")
	c.prints("console", "up", "alive\r\n")
}

// Whatever a program prints is text on the wire, in either encoding.
func TestConsoleIsText(t *testing.T) {
	for _, serializer := range []phx.Serializer{phx.JSON, phx.MessagePack} {
		t.Run(serializer.Version(), func(t *testing.T) {
			r := newRig(t, func(r *rig) {
				withConsole(func(c *Console) {
					c.Command = []string{"sh", "-c", `stty -echo; printf 'a\000\033[1m<&>\303'; read x; printf '\274€.'; read x; printf '\377end'; read x`}
				})(r)
				r.options.Serializer = serializer
			})
			c := r.console()
			c.types("")
			c.prints("console", "up", "a\x00\x1b[1m<&>")
			c.types("\r")
			c.prints("console", "up", "ü€.")
			c.types("\r")
			for out := ""; !strings.HasSuffix(out, "\uFFFDend"); {
				_, p := c.push("console", "up")
				out += p["data"].(string)
			}
		})
	}
}

// A file nobody can take does not hold the connection up.
func TestConsoleRefusesAFlood(t *testing.T) {
	r := newRig(t, withConsole(func(c *Console) { c.DataDir = "" }))
	c := r.console()
	c.event("console", "file-data/start", map[string]any{"filename": "a"})
	piece := map[string]any{"filename": "a", "data": strings.Repeat("A", 1368)}
	for range 2000 {
		c.event("console", "file-data", piece)
	}
	c.prints("console", "up", "*** The file was not received: the device takes no files ***")
	c.silent()
}

func TestConsoleSurvivesTheConnection(t *testing.T) {
	r := newRig(t, withConsole(nil))
	c := r.console()
	c.types("X=kept\r")
	c.prints("console", "up", "X=kept")
	c.ws.CloseNow()
	c = r.connection()
	c.join()
	m, _ := c.joinOf("console")
	c.answer(m, "ok", "{}")
	c.types("echo \"<$X>\"\r")
	c.prints("console", "up", "<kept>")
}

func TestConsoleIdles(t *testing.T) {
	r := newRig(t, withConsole(func(c *Console) { c.Idle = 300 * time.Millisecond }))
	c := r.console()
	c.types("X=kept\r")
	out := c.prints("console", "up", "Press a key to start it again.")
	if !strings.Contains(out, "| Session timeout: nothing happened for 300ms. ") {
		t.Errorf("printed %q", out)
	}
	c.types("echo \"<$X>\"\r")
	c.prints("console", "up", "<>")
}

func TestConsoleDoesNotStart(t *testing.T) {
	r := newRig(t, withConsole(func(c *Console) { c.Command = []string{"/no/such/shell"} }))
	c := r.console()
	c.types("x")
	c.prints("console", "up", "*** The program did not start: ")
	c.silent()
}

// A program that prints without end neither keeps heartbeats from being
// answered nor fills the memory, and can be interrupted.
func TestConsoleFlood(t *testing.T) {
	r := newRig(t, func(r *rig) {
		withConsole(nil)(r)
		r.options.Heartbeat = 200 * time.Millisecond
	})
	c := r.console()
	c.types("yes\r")
	printed, beats := 0, 0
	for beats < 12 || printed < 3*bulkWindow {
		select {
		case m := <-c.in:
			printed += len(m.Payload)
		case <-c.beats:
			beats++
		case <-c.gone:
			t.Fatal("the device hung up")
		case <-time.After(20 * time.Second):
			t.Fatalf("%d bytes and %d heartbeats", printed, beats)
		}
	}
	c.types("\x03")
	c.types("echo st$?opped\r")
	c.prints("console", "up", "st130opped")
}

// Without a sign of life of the server only so much is sent.
func TestConsoleWaitsForTheServer(t *testing.T) {
	r := newRig(t, withConsole(nil))
	r.options.Heartbeat = time.Minute
	r.peer.deaf.Store(true)
	c := r.console()
	c.types("yes\r")
	await(t, "a question whether the server is there", c.beats)
	printed := 0
	for done := false; !done; {
		select {
		case m := <-c.in:
			printed += len(m.Payload)
		case <-time.After(500 * time.Millisecond):
			done = true
		}
	}
	if printed < bulkWindow || printed > bulkWindow+4*terminalChunk {
		t.Errorf("%d bytes went out unanswered", printed)
	}
}

func TestConsoleTakesFiles(t *testing.T) {
	r := newRig(t, withConsole(nil))
	dir := r.options.Console.DataDir
	c := r.console()
	send := func(event, name string, data []byte) {
		c.event("console", event, map[string]any{
			"filename": name, "chunk": 1, "data": base64.StdEncoding.EncodeToString(data), "uploaded_by": 5,
		})
	}
	content := bytes.Repeat([]byte("0123456789abcdef"), 1000)
	send("file-data/start", "a.txt", nil)
	for piece := range len(content) / 1000 {
		send("file-data", "a.txt", content[piece*1000:(piece+1)*1000])
	}
	send("file-data/stop", "a.txt", nil)
	send("file-data/stop", "a.txt", nil)
	// A device tells only what went wrong, so that the wait ends with that.
	send("file-data/start", "../b.txt", nil)
	c.prints("console", "up", "*** The file was not received: ")
	if got, err := os.ReadFile(filepath.Join(dir, "a.txt")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes arrived: %v", len(got), err)
	}
	send("file-data", "../b.txt", content)
	// A piece that is none.
	send("file-data/start", "c.txt", nil)
	c.event("console", "file-data", map[string]any{"filename": "c.txt", "data": "*"})
	c.prints("console", "up", "*** The file was not received: ")
	// Too large.
	send("file-data/start", "d.txt", nil)
	for range 21 {
		send("file-data", "d.txt", make([]byte, 512<<10))
	}
	c.prints("console", "up", "*** The file was not received: files may have")
	// The connection ends within a file.
	send("file-data/start", "e.txt", nil)
	send("file-data", "e.txt", content)
	send("file-data/start", "", nil)
	c.prints("console", "up", "*** The file was not received: ")
	c.ws.CloseNow()
	c = r.connection()
	c.join()
	c.accept("console", "{}")
	send("file-data/stop", "e.txt", nil)
	send("file-data/start", ".", nil)
	c.prints("console", "up", "*** The file was not received: ")
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}
}

func TestFileNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"a.txt": true, "grüße (1).log": true, "": false, ".": false, "..": false, ".profile": false, "a/b": false,
		`a\b`: false, "/etc/passwd": false, "a\x00b": false, "a\nb": false, "a\xff": false,
		strings.Repeat("n", 200): true, strings.Repeat("n", 201): false,
	} {
		if err := fileName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A link in the directory leads nowhere else.
func TestUploadsStayInside(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	target := filepath.Join(outside, "target")
	if err := os.WriteFile(target, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x", partialPrefix + "x"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	u := uploads{dir: dir}
	if err := u.start("x"); err != nil {
		t.Fatal(err)
	}
	if err := u.write(filePiece{Filename: "x", Data: "aGVsbG8="}); err != nil {
		t.Fatal(err)
	}
	if done, err := u.stop("x"); !done || err != nil {
		t.Fatal(done, err)
	}
	kept, _ := os.ReadFile(target)
	got, _ := os.ReadFile(filepath.Join(dir, "x"))
	if string(kept) != "mine" || string(got) != "hello" {
		t.Errorf("outside %q, inside %q", kept, got)
	}
}

func TestUploadsAreBounded(t *testing.T) {
	u := uploads{dir: t.TempDir()}
	for i := range maxUploads {
		if err := u.start(fmt.Sprintf("f%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if u.start("more") == nil {
		t.Error("one more was taken")
	}
	if at := u.lateAt(); time.Until(at) > uploadPause || time.Until(at) < uploadPause/2 {
		t.Errorf("late in %s", time.Until(at))
	}
	u.abort()
	if left, _ := os.ReadDir(u.dir); len(left) > 0 || u.busy() {
		t.Errorf("left: %v", left)
	}
	none := uploads{}
	if none.start("a") == nil {
		t.Error("a file was taken without a directory")
	}
}

// received collects a file the device sends.
func (c *peerConn) received() (name string, data []byte) {
	c.t.Helper()
	_, p := c.push("console", "file-data/start")
	name = p["filename"].(string)
	for n := 0; ; n++ {
		m, p := c.next()
		if p["filename"] != name {
			c.t.Errorf("a piece of %v", p["filename"])
		}
		if m.Event == "file-data/stop" {
			return name, data
		}
		piece, err := base64.StdEncoding.DecodeString(p["data"].(string))
		if err != nil || m.Event != "file-data" || p["chunk"] != float64(n) || len(piece) > 1024 {
			c.t.Errorf("piece %d: %s %v %d %v", n, m.Event, p["chunk"], len(piece), err)
		}
		data = append(data, piece...)
	}
}

func TestSendFile(t *testing.T) {
	r := newRig(t, withConsole(nil))
	l, err := New(r.options)
	if err != nil {
		t.Fatal(err)
	}
	content := bytes.Repeat([]byte{0, 1, 2, 0xff}, 30_000)
	path := filepath.Join(t.TempDir(), "log.bin")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.SendFile(t.Context(), path); !errors.Is(err, phx.ErrNotJoined) {
		t.Errorf("sent without a connection: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.Run(ctx)
	}()
	defer func() {
		cancel()
		await(t, "the end", ended)
	}()
	c := r.connection()
	c.join()
	c.accept("console", "{}")
	c.silent()
	sent := make(chan error, 1)
	go func() { sent <- l.SendFile(ctx, path) }()
	name, data := c.received()
	if err := await(t, "the sender", sent); err != nil || name != "log.bin" || !bytes.Equal(data, content) {
		t.Errorf("%s: %d bytes, %v", name, len(data), err)
	}
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, MaxConsoleFile); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{large, t.TempDir(), "/no/such/file", "/dev/null"} {
		if l.SendFile(ctx, bad) == nil {
			t.Errorf("%s was sent", bad)
		}
	}
	c.silent()
}

// TestMain lets the test's own program be what sends a file from the console.
func TestMain(m *testing.M) {
	if path := os.Getenv("LINK_TEST_SEND"); path != "" {
		if err := SendFromConsole(context.Background(), path); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("done")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestSendFromConsole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	if err := os.WriteFile(path, []byte("what happened"), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, withConsole(nil))
	c := r.console()
	c.types("stty -echo\r")
	c.types("LINK_TEST_SEND=" + path + " " + self + "\r")
	var m phx.Message
	for m.Event != "file-data/start" {
		m, _ = c.next()
	}
	c.push("console", "file-data")
	if m, _ := c.push("console", "file-data/stop"); string(m.Payload) != `{"filename":"a.log"}` {
		t.Errorf("ended with %s", m.Payload)
	}
	c.prints("console", "up", "done")
	c.types("LINK_TEST_SEND=/dev/null " + self + "\r")
	c.prints("console", "up", "not a regular file")
	c.types("echo $GANGLION_LINK_SOCKET.\r")
	socket := strings.TrimSpace(c.prints("console", "up", "send."))
	socket = socket[strings.Index(socket, "/"):]
	socket = socket[:strings.Index(socket, "send.")]
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%q: %v, %v", socket, info, err)
	}
	r.stop()
	await(t, "the end", r.done)
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket is left behind")
	}
}

func TestSendFromElsewhere(t *testing.T) {
	t.Setenv(socketVariable, "")
	if err := SendFromConsole(t.Context(), "/etc/hostname"); err == nil {
		t.Error("sent without a socket")
	}
}

func TestFilesOfTheSocket(t *testing.T) {
	l := &Link{}
	for _, text := range []string{
		"", "\n", "{}\n", "5\n", `{"name":"a","size":-1}` + "\n", `{"name":"a","size":10485760}` + "\n",
		`{"name":"../a","size":1}` + "\nx", strings.Repeat("x", 5000) + "\n",
	} {
		if err := l.passFile(strings.NewReader(text)); err == nil {
			t.Errorf("%.20q was taken", text)
		}
	}
}

func FuzzFilePiece(f *testing.F) {
	f.Add([]byte(`{"filename":"a.txt","chunk":1,"data":"aGVsbG8="}`))
	f.Add([]byte(`{"filename":"../a"}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, payload []byte) {
		var p filePiece
		if json.Unmarshal(payload, &p) != nil {
			return
		}
		u := uploads{dir: filepath.Join(dir)}
		if u.start(p.Filename) == nil && u.write(p) == nil {
			if _, err := u.stop(p.Filename); err == nil {
				if _, err := os.Stat(filepath.Join(dir, filepath.Base(p.Filename))); err != nil {
					t.Error(err)
				}
				os.Remove(filepath.Join(dir, p.Filename))
			}
		}
		u.abort()
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%q left %v", p.Filename, left)
		}
	})
}
