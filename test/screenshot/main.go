// Screenshot takes the pictures of the README from a demo that is in the
// middle of its rollout:
//
//	screenshot PROGRAM DIRECTORY
//
// PROGRAM is the built ganglion.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/ganglion-iot/ganglion/test/chromium"
)

const (
	devices    = "10" // as many as get a firmware that takes a while to load
	timeout    = 5 * time.Minute
	tries      = 5
	maxPicture = 300 << 10 // bytes; the pictures live in the repository
	product    = "/org/demo/product/thermostat"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: screenshot PROGRAM DIRECTORY")
		os.Exit(2)
	}
	if err := run(ctx, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "screenshot:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, program, dir string) (err error) {
	scratch, err := os.MkdirTemp("", "ganglion-screenshot-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	tab, stop, err := chromium.Start(ctx, scratch)
	if err != nil {
		return err
	}
	defer stop()
	for range tries {
		if err = try(ctx, tab, program, dir); !errors.Is(err, errMissed) {
			return err
		}
	}
	return err
}

// errMissed says that a rollout was over before its picture was taken.
var errMissed = errors.New("the rollout was over too soon; the machine is too busy")

func try(ctx, tab context.Context, program, dir string) (err error) {
	d, err := startDemo(ctx, program)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	return pictures(tab, d, dir)
}

// demo is a running demo and how to sign in to it.
type demo struct {
	url, email, password string
	stop                 func() error
}

var signIn = regexp.MustCompile(`^Sign in as (\S+) with the password (\S+)`)

func startDemo(ctx context.Context, program string) (*demo, error) {
	web, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	gateway, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, "demo", "--devices", devices, "--listen", web, "--device-listen", gateway)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d := &demo{url: "http://" + web, stop: func() error {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		return cmd.Wait()
	}}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := signIn.FindStringSubmatch(lines.Text()); m != nil {
			d.email, d.password = m[1], m[2]
			go func() { _, _ = io.Copy(io.Discard, out) }() // until the demo ends
			return d, nil
		}
	}
	return nil, errors.Join(errors.New("the demo did not start"), d.stop())
}

func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func pictures(tab context.Context, d *demo, dir string) error {
	if err := chromium.Prefer(tab, "light"); err != nil {
		return err
	}
	err := chromedp.Do(tab, chromedp.EmulateViewport(1200, 860, chromedp.EmulateScale(1.5)), chromedp.Navigate(d.url+"/signin"),
		chromedp.SendKeys(chromedp.CSS("input[name=email]"), d.email), chromedp.SendKeys(chromedp.CSS("input[name=password]"), d.password+"\r"))
	if err != nil {
		return err
	}
	// The group appears once the firmware is there.
	if err := chromium.Until(tab, `document.querySelector("form[action='/signout']")`); err != nil {
		return err
	}
	if err := chromedp.Do(tab, chromedp.Navigate(d.url+product+"/groups")); err != nil {
		return err
	}
	if err := chromium.Until(tab, `document.querySelector("#groups td a")`); err != nil {
		return err
	}
	// The page is opened anew once the release is out, as somebody who comes to
	// look at it does.
	group := chromedp.Navigate(d.url + product + "/groups/everyone")
	if err := chromedp.Do(tab, group); err != nil {
		return err
	}
	if err := chromium.Until(tab, `document.querySelector("#head")?.innerText.includes("to 1.1.0")`); err != nil {
		return err
	}
	if err := chromedp.Do(tab, group); err != nil {
		return err
	}
	// Some devices are done, one loads or writes visibly, some wait.
	const over = `document.querySelectorAll("#attempts .badge.good").length == ` + devices
	const middle = `document.querySelectorAll("#attempts .badge.good").length >= 3 && document.querySelector("#live").matches(".on") &&
		[...document.querySelectorAll("#attempts progress")].filter(e => e.value > 10 && e.value < 90).length >= 2`
	if err := chromium.Until(tab, "("+middle+") || ("+over+")"); err != nil {
		return err
	}
	if missed, err := chromedp.Run(tab, chromedp.Evaluate[bool](over)); err != nil || missed {
		return errors.Join(err, errMissed)
	}
	if err := picture(tab, filepath.Join(dir, "rollout.png")); err != nil {
		return err
	}
	moving, err := chromedp.Run(tab, chromedp.Evaluate[string](`document.querySelector("#attempts tr:has(progress) a").href`))
	if err != nil {
		return err
	}
	if err := chromedp.Do(tab, chromedp.Navigate(moving)); err != nil {
		return err
	}
	if err := chromium.Until(tab, `document.querySelector("#live").matches(".on") && document.querySelector("#audit tbody tr") && document.readyState === "complete"`); err != nil {
		return err
	}
	return picture(tab, filepath.Join(dir, "device.png"))
}

// picture takes what the tab shows.
func picture(tab context.Context, path string) error {
	png, err := chromedp.Run(tab, chromedp.CaptureScreenshot())
	if err != nil {
		return err
	}
	if len(png) > maxPicture {
		return fmt.Errorf("%s would have %d bytes, more than %d", path, len(png), maxPicture)
	}
	return os.WriteFile(path, png, 0o644)
}
