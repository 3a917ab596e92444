package agent

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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
