package agent

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/ganglion-iot/ganglion/fwup"
)

// server accepts one join, then sends what the test puts into orders. It
// tells what the device sends.
func server(t *testing.T, orders <-chan string) (url string, said chan string) {
	t.Helper()
	said = make(chan string, 256)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer ws.CloseNow()
		for {
			_, data, err := ws.Read(context.Background())
			if err != nil {
				return
			}
			said <- string(data)
			if !strings.Contains(string(data), "phx_join") {
				continue
			}
			_ = ws.Write(context.Background(), websocket.MessageText, []byte(`["1","1","device","phx_reply",{"status":"ok","response":{}}]`))
			for order := range orders {
				_ = ws.Write(context.Background(), websocket.MessageText, []byte(order))
			}
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, said
}

// unproven is an image whose environment names an unproven firmware.
func unproven(t *testing.T, dir string) string {
	t.Helper()
	image := filepath.Join(dir, "disk.img")
	dev, err := fwup.OpenFile(image)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	env := fwup.NewUBootEnv()
	env.Set("nerves_fw_active", "a")
	env.Set("a.nerves_fw_uuid", "0b6cf1a4-2f0c-5d0e-9a55-7d1b6a0f3c11")
	env.Set("a.nerves_fw_validated", "0")
	if err := fwup.WriteUBootEnv(dev, fwup.UBootEnvLocation{Size: 16384}, env); err != nil {
		t.Fatal(err)
	}
	return image
}

func isProven(t *testing.T, image string) bool {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	env, err := fwup.ReadUBootEnv(f, fwup.UBootEnvLocation{Size: 16384})
	if err != nil {
		t.Fatal(err)
	}
	v, _ := env.Get("a.nerves_fw_validated")
	return v == "1"
}

func TestAgentReboots(t *testing.T) {
	for _, c := range []struct {
		validate string
		proven   bool
	}{{"true", true}, {"false", false}} {
		p := newPlace(t)
		image := unproven(t, p.dir)
		orders := make(chan string, 1)
		orders <- `[null,null,"device","reboot",{}]`
		close(orders)
		url, _ := server(t, orders)
		mark := filepath.Join(p.dir, "rebooted")
		config := p.write(t, "link.toml", fmt.Sprintf(`
host = %q
identifier = "d"
[shared_secret]
key = "nhp_1"
secret = "s"
[firmware]
device = %q
[uboot_env]
size = 16384
[hooks]
validate = [%q]
reboot = ["touch", %q]
`, url, image, c.validate, mark))
		if status := Main([]string{"--config", config}, io.Discard, io.Discard); status != 75 {
			t.Errorf("validate by %s: status %d", c.validate, status)
		}
		if _, err := os.Stat(mark); err != nil {
			t.Errorf("the reboot hook did not run: %v", err)
		}
		if isProven(t, image) != c.proven {
			t.Errorf("validate by %s: proven is %v", c.validate, !c.proven)
		}
	}
}

func TestAgentStopsBySignal(t *testing.T) {
	p := newPlace(t)
	image := unproven(t, p.dir)
	url, said := server(t, nil)
	config := p.write(t, "link.toml", strings.NewReplacer("devices.example.com", url, "/dev/mmcblk0", image).Replace(minimal))
	status := make(chan int, 1)
	go func() { status <- Main([]string{"--config", config}, io.Discard, io.Discard) }()
	select {
	case <-said: // the join: the agent runs and catches signals
	case <-time.After(20 * time.Second):
		t.Fatal("no join")
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case s := <-status:
		if s != 0 {
			t.Errorf("status %d", s)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("still running")
	}
}

// wait reads lines until each of the texts was in one of them.
func wait(t *testing.T, lines <-chan string, texts ...string) {
	t.Helper()
	end := time.After(20 * time.Second)
	for len(texts) > 0 {
		select {
		case got := <-lines:
			texts = slices.DeleteFunc(texts, func(text string) bool { return strings.Contains(got, text) })
		case <-end:
			t.Fatalf("nobody said %q", texts)
		}
	}
}

// pipe is a named pipe and the lines that are written to it.
func pipe(t *testing.T, name string) <-chan string {
	t.Helper()
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	// Opened for both, it does not wait for a writer and does not end.
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	lines := make(chan string, 256)
	go func() {
		for scan := bufio.NewScanner(f); scan.Scan(); {
			lines <- scan.Text()
		}
	}()
	return lines
}

// TestScriptsDecideInAProcess runs the program with scripts as hooks: one puts
// an offer off, one keeps a diary, and one alarm is set by a file.
func TestScriptsDecideInAProcess(t *testing.T) {
	p := newPlace(t)
	orders := make(chan string, 1)
	orders <- `[null,null,"device","update",{"update_available":true,"firmware_url":"http://127.0.0.1:1/f","firmware_meta":{"uuid":"u-9","version":"9.9.9","product":"p","platform":"x","architecture":"y"}}]`
	close(orders)
	url, said := server(t, orders)
	script := func(name, text string) string {
		file := p.write(t, name, "#!/bin/sh\n"+text+"\n")
		if err := os.Chmod(file, 0o700); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
		return file
	}
	decide := script("decide", `echo "75 $GANGLION_FIRMWARE_VERSION after $GANGLION_RUNNING_UUID"; exit 11`)
	told := pipe(t, filepath.Join(p.dir, "diary"))
	diary := script("tell", `echo "$GANGLION_EVENT $GANGLION_ALARM" >>`+p.dir+`/diary`)
	config := p.write(t, "link.toml", strings.NewReplacer("devices.example.com", url, "/dev/mmcblk0", unproven(t, p.dir)).Replace(minimal)+fmt.Sprintf(`
[connection]
connect = false
[alarms]
dir = %q
[hooks]
update_available = [%q]
connected = [%[3]q]
firmware_validated = [%[3]q]
alarm_set = [%[3]q]
alarm_cleared = [%[3]q]
`, filepath.Join(p.dir, "alarms"), decide, diary))
	conn, socket := listen(t, "")
	cmd := process(t, []string{"NOTIFY_SOCKET=" + socket}, "--config", config)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	if got := heard(t, conn); !strings.HasPrefix(got, "READY=1") {
		t.Errorf("heard %q", got)
	}
	select {
	case got := <-said:
		t.Errorf("without an order to connect the device said %s", got)
	default:
	}
	if err := cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	wait(t, said, `{"delay_for":75,"reason":"9.9.9 after 0b6cf1a4-2f0c-5d0e-9a55-7d1b6a0f3c11","status":"rescheduled"}`, "firmware_validated")
	wait(t, told, "alarm_set NervesHubLink.Disconnected", "alarm_cleared NervesHubLink.Disconnected", "connected ", "firmware_validated ")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, stderr.String())
	}
}
