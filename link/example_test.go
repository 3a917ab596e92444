package link_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/link"
)

// A device with its slots on an SD card. Run returns when the program is
// asked to stop, or after the device was told to restart.
func ExampleNew() {
	key, err := os.ReadFile("/etc/ganglion/release.pub")
	if err != nil {
		log.Fatal(err)
	}
	public, err := fwup.ParsePublicKey(key)
	if err != nil {
		log.Fatal(err)
	}
	l, err := link.New(link.Options{
		Host:       "wss://devices.example.com:4001",
		Identifier: "sensor-1",
		Secret:     &link.SharedSecret{Key: "nhp_…", Secret: os.Getenv("DEVICE_SECRET")},
		Slots: link.UBootSlots{
			Path:     "/dev/mmcblk0",
			Location: fwup.UBootEnvLocation{Offset: 0x20000, Size: 0x4000, Redundant: 0x40000},
		},
		Target:         link.FileTarget("/dev/mmcblk0"),
		PublicKeys:     []fwup.PublicKey{public},
		CacheDir:       "/data/link",
		WaitForNetwork: true,
		Client:         careful{now: time.Now, reboot: func() error { return exec.Command("reboot").Run() }},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := l.Run(ctx); !errors.Is(err, link.ErrRebooting) {
		log.Println("stopped:", err)
	}
}

// careful takes updates at night only, and says how to restart.
type careful struct {
	link.DefaultClient
	now    func() time.Time
	reboot func() error
}

func (c careful) UpdateAvailable(_ context.Context, u link.Update) link.Decision {
	switch hour := c.now().Hour(); {
	case strings.Contains(u.Firmware.Version, "-rc."):
		return link.Decision{Verdict: link.Ignore, Reason: "no release candidates here"}
	case hour >= 6:
		tonight := time.Duration(24-hour) * time.Hour
		return link.Decision{Verdict: link.Reschedule, Delay: tonight, Reason: "in use until midnight"}
	}
	return link.Decision{Verdict: link.Apply}
}

func (c careful) Reboot(context.Context) error { return c.reboot() }

// A Client embeds DefaultClient and overrides what matters.
func ExampleClient() {
	clock := time.Date(2026, 1, 2, 15, 0, 0, 0, time.UTC)
	var c link.Client = careful{now: func() time.Time { return clock }}
	offer := link.Update{Firmware: link.Firmware{UUID: "0b6cf1a4-2f0c-5d0e-9a55-7d1b6a0f3c11", Version: "1.1.0"}}

	d := c.UpdateAvailable(context.Background(), offer)
	fmt.Println(d.Verdict == link.Reschedule, d.Delay, d.Reason)

	clock = clock.Add(11 * time.Hour)
	d = c.UpdateAvailable(context.Background(), offer)
	fmt.Println(d.Verdict == link.Apply)

	offer.Firmware.Version = "1.2.0-rc.1"
	d = c.UpdateAvailable(context.Background(), offer)
	fmt.Println(d.Verdict == link.Ignore, d.Reason)
	// Output:
	// true 9h0m0s in use until midnight
	// true
	// true no release candidates here
}

// Without a decision of its own a device takes all but what it runs.
func ExampleDefaultClient() {
	running := link.Firmware{UUID: "0b6cf1a4-2f0c-5d0e-9a55-7d1b6a0f3c11"}
	c := link.DefaultClient{Running: func() link.Firmware { return running }}
	d := c.UpdateAvailable(context.Background(), link.Update{Firmware: running})
	fmt.Println(d.Verdict == link.Ignore, d.Reason)
	fmt.Println(c.Reboot(context.Background()))
	// Output:
	// true this firmware is running already
	// no reboot hook is configured
}

// The U-Boot environment tells which slot runs and whether it is proven.
func ExampleUBootSlots() {
	dir, err := os.MkdirTemp("", "link")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	slots := link.UBootSlots{Path: filepath.Join(dir, "disk.img"), Location: fwup.UBootEnvLocation{Size: 4096}}
	env := fwup.NewUBootEnv()
	for name, value := range map[string]string{
		"nerves_fw_active": "b", "b.nerves_fw_version": "1.1.0", "b.nerves_fw_validated": "0", "a.nerves_fw_version": "1.0.0",
	} {
		env.Set(name, value)
	}
	dev, err := fwup.OpenFile(slots.Path)
	if err != nil {
		log.Fatal(err)
	}
	if err := errors.Join(fwup.WriteUBootEnv(dev, slots.Location, env), dev.Close()); err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	running, err := slots.Running(ctx)
	fmt.Println(running.Version, running.Validated, err)
	err = slots.Validate(ctx)
	fmt.Println(err)
	running, err = slots.Running(ctx)
	fmt.Println(running.Version, running.Validated, err)
	// Output:
	// 1.1.0 false <nil>
	// <nil>
	// 1.1.0 true <nil>
}

// fixed are the slots of a device that knows them by other means.
type fixed struct{ running link.Running }

func (f fixed) Running(context.Context) (link.Running, error) { return f.running, nil }
func (f fixed) Validate(context.Context) error                { return nil }

// A server tells the device to restart; Run comes back to the program.
func ExampleLink_Run() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer ws.CloseNow()
		for _, frame := range []string{
			`["1","1","device","phx_reply",{"status":"ok","response":{}}]`,
			`[null,null,"device","reboot",{}]`,
		} {
			if _, _, err := ws.Read(r.Context()); err != nil {
				return
			}
			_ = ws.Write(r.Context(), websocket.MessageText, []byte(frame))
		}
		_, _, _ = ws.Read(r.Context()) // until the device hangs up
	}))
	defer server.Close()

	l, err := link.New(link.Options{
		Host:       server.URL,
		Identifier: "sensor-1",
		Secret:     &link.SharedSecret{Key: "nhp_key", Secret: "secret"},
		Slots:      fixed{link.Running{Firmware: link.Firmware{Version: "1.0.0"}}},
		Target:     link.FileTarget("/dev/mmcblk0"),
		Client:     careful{reboot: func() error { fmt.Println("restarting"); return nil }},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(l.Run(context.Background()))
	// Output:
	// restarting
	// link: the device is rebooting
}
