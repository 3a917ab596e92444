// Package chromium runs a Chromium that is quiet: it reaches for no other host
// by itself, keeps nothing, and shows no window.
package chromium

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// ErrMissing says that no Chromium is installed.
var ErrMissing = errors.New("no Chromium is installed: none of chromium, chromium-browser, google-chrome and google-chrome-stable is in the path")

const startTimeout = time.Minute

// Start runs a browser with one empty tab; its profile is below dir. The
// context is that of the tab. The browser ends with stop, which waits for it.
func Start(parent context.Context, dir string) (tab context.Context, stop func(), err error) {
	path, err := find()
	if err != nil {
		return nil, nil, err
	}
	profile, err := os.MkdirTemp(dir, "chromium-")
	if err != nil {
		return nil, nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.DisableGPU, chromedp.WSURLReadTimeout(startTimeout),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("lang", "en-US"),
	)
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox) // the sandbox does not run as root
	}
	allocator, release := chromedp.NewExecAllocator(parent, options...)
	tab, cancel := chromedp.NewContext(allocator)
	stop = sync.OnceFunc(func() {
		_ = chromedp.Cancel(tab) // an end that is not graceful is an end
		cancel()
		release()
		_ = os.RemoveAll(profile) // below dir, which its owner removes
	})
	if err := chromedp.Do(tab); err != nil {
		stop()
		return nil, nil, fmt.Errorf("start %s: %w", path, err)
	}
	return tab, stop, nil
}

func find() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrMissing
}

// Prefer makes the pages of a tab believe that people prefer "light" or
// "dark", and that nothing moves.
func Prefer(tab context.Context, scheme string) error {
	_, err := chromedp.Call(tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	})
	return err
}

// Until waits until a condition in JavaScript holds in the page of a tab, also
// over navigations. It looks after every change of the page.
func Until(tab context.Context, condition string) error {
	script := `new Promise(done => {
		const look = () => { if (` + condition + `) { watcher.disconnect(); done(true) } };
		const watcher = new MutationObserver(look);
		watcher.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
		addEventListener("load", look);
		look();
	})`
	for {
		_, err := chromedp.Run(tab, chromedp.Evaluate[bool](script, chromedp.EvalAwaitPromise))
		var wrong *chromedp.ExceptionError
		switch {
		case err == nil:
			return nil
		case tab.Err() != nil:
			return fmt.Errorf("%s does not hold: %w", condition, tab.Err())
		case errors.As(err, &wrong):
			return fmt.Errorf("%s: %w", condition, err)
		}
		// The page was left; the next one is looked at.
	}
}
