package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/test/chromium"
)

// tab is the tab of a browser in front of a world.
type tab struct {
	*world
	ctx     context.Context
	dialogs chan string // questions that were asked, and answered with yes

	mu       sync.Mutex
	console  []string // errors and warnings
	requests []string // addresses
}

func openTab(t *testing.T, w *world) *tab {
	t.Helper()
	ctx, stop, err := chromium.Start(context.Background(), w.dir)
	if errors.Is(err, chromium.ErrMissing) && os.Getenv("CI") != "true" {
		t.Skipf("%v; install it to run the browser tests", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	b := &tab{world: w, ctx: ctx, dialogs: make(chan string, 16)}
	if err := chromedp.Listen(ctx, func(event any) {
		if r, ok := event.(*network.EventRequestWillBeSent); ok {
			b.mu.Lock()
			b.requests = append(b.requests, r.Request.URL)
			b.mu.Unlock()
		}
	}); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	messages, questions := chromedp.Console(ctx), chromedp.Events(ctx, page.JavascriptDialogOpening)
	readers.Go(func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.IsException() || m.Type == "error" || m.Type == "warning" {
				b.mu.Lock()
				b.console = append(b.console, m.String()+" "+m.URL)
				b.mu.Unlock()
			}
		}
	})
	readers.Go(func() {
		for d, err := range questions {
			if err != nil {
				return
			}
			b.dialogs <- d.Message
			if _, err := chromedp.Call(ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true}); err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		stop()
		readers.Wait()
	})
	return b
}

// within bounds one step.
func (b *tab) within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, storyTimeout)
	t.Cleanup(cancel)
	return ctx
}

func (b *tab) do(t *testing.T, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(b.within(t), steps...); err != nil {
		b.fatal(t, err)
	}
}

func (b *tab) fatal(t *testing.T, err error) {
	t.Helper()
	text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.location + '\\n' + document.body.innerText"))
	t.Fatalf("%v; the page is\n%s", err, text)
}

func (b *tab) open(t *testing.T, path string) {
	t.Helper()
	// The load that Navigate waits for may still be that of the page before.
	value[bool](t, b, `window.left = true`)
	b.do(t, chromedp.Navigate(b.server.BaseURL()+path))
	b.until(t, `!window.left && document.readyState === "complete"`)
}

func (b *tab) until(t *testing.T, condition string) {
	t.Helper()
	if err := chromium.Until(b.within(t), condition); err != nil {
		b.fatal(t, err)
	}
}

// reads waits until an element reads as text.
func (b *tab) reads(t *testing.T, selector, text string) {
	t.Helper()
	b.until(t, fmt.Sprintf(`[...document.querySelectorAll(%q)].some(e => e.innerText.includes(%q))`, selector, text))
}

func value[T any](t *testing.T, b *tab, script string) T {
	t.Helper()
	v, err := chromedp.Run(b.within(t), chromedp.Evaluate[T](script))
	if err != nil {
		b.fatal(t, err)
	}
	return v
}

const productPage = "/org/" + worldOrg + "/product/" + worldProduct

// TestBrowser is the main job as an operator does it.
func TestBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	b := openTab(t, w)
	files := []string{w.build("1.0.0", 4<<20), w.build("1.1.0", 4<<20)}

	t.Run("sign in by keyboard", b.signInByKeyboard)
	t.Run("upload", func(t *testing.T) { b.uploadFirmware(t, files) })
	t.Run("make a group", b.makeGroup)
	for _, name := range []string{"alpha", "beta", "gamma"} {
		w.power(name, files[0], nil, nil)
	}
	t.Run("release and watch", b.releaseAndWatch)
	t.Run("pause", b.pauseAndResume)
	t.Run("find a device", b.findDevice)
	t.Run("every page", b.everyPage)
	t.Run("quiet", b.quiet)
	t.Run("refused upload", func(t *testing.T) { b.refusedUpload(t, files[0]) })
	t.Run("sign out elsewhere", b.signOutElsewhere)
}

func (b *tab) signInByKeyboard(t *testing.T) {
	b.open(t, productPage+"/firmware")
	b.until(t, `location.pathname === "/signin" && document.readyState === "complete"`)
	tabTo(t, b, `document.activeElement.name === "email"`)
	b.do(t, chromedp.KeyEvent(worldEmail+kb.Tab+worldPassword+kb.Enter))
	b.until(t, `location.pathname.endsWith("/firmware") && document.readyState === "complete"`)
	// The first stop is the way past the navigation; it can be seen and leads there.
	b.do(t, chromedp.KeyEvent(kb.Tab))
	b.until(t, `document.activeElement.matches(".skip") && document.activeElement.getBoundingClientRect().left >= 0`)
	if width := value[string](t, b, `getComputedStyle(document.activeElement).outlineStyle`); width == "none" {
		t.Error("the focus can not be seen")
	}
	b.do(t, chromedp.KeyEvent(kb.Enter))
	b.until(t, `document.activeElement.id === "main"`)
	tabTo(t, b, `document.activeElement.name === "firmware"`)
}

// tabTo presses the tabulator until the focus is where it should be.
func tabTo(t *testing.T, b *tab, there string) {
	t.Helper()
	for range 20 {
		b.do(t, chromedp.KeyEvent(kb.Tab))
		if value[bool](t, b, there) {
			return
		}
	}
	t.Fatalf("not reached by keyboard: %s", there)
}

// press sends a key as a keyboard does: no character comes of it if the page
// takes the key for itself.
func (b *tab) press(t *testing.T, key, code string, number int64) {
	t.Helper()
	for _, kind := range []input.DispatchKeyEventType{input.DispatchKeyEventTypeKeyDown, input.DispatchKeyEventTypeKeyUp} {
		p := input.DispatchKeyEventParams{Type: kind, Key: key, Code: code, WindowsVirtualKeyCode: number}
		if kind == input.DispatchKeyEventTypeKeyDown {
			p.Text = key
		}
		if _, err := chromedp.Call(b.within(t), input.DispatchKeyEvent, p); err != nil {
			b.fatal(t, err)
		}
	}
}

func (b *tab) uploadFirmware(t *testing.T, files []string) {
	b.reads(t, "#firmware", "No firmware yet")
	for i, version := range []string{"1.0.0", "1.1.0"} {
		b.do(t, chromedp.SetUploadFiles(chromedp.CSS("input[name=firmware]"), files[i:i+1]))
		// Everything the form says on the way.
		value[bool](t, b, `(() => {
			const bar = document.querySelector("#upload progress"), note = document.querySelector("#upload [data-note]");
			window.said = []; window.shown = false;
			new MutationObserver(() => { said.push(note.textContent); shown ||= !bar.hidden })
				.observe(note.parentElement, { subtree: true, childList: true, characterData: true, attributes: true });
			return true;
		})()`)
		b.do(t, chromedp.Click(chromedp.CSS("#upload button")))
		b.reads(t, "#upload [data-note]", "Published "+version)
		said := value[[]string](t, b, "said")
		if !slices.ContainsFunc(said, func(s string) bool { return strings.HasPrefix(s, "Uploading") }) || !value[bool](t, b, "shown") {
			t.Errorf("the form showed no progress: %q", said)
		}
		b.reads(t, "#firmware td", version) // by itself
	}
}

func (b *tab) makeGroup(t *testing.T) {
	b.open(t, productPage+"/groups")
	b.reads(t, "#groups", "No deployment groups yet")
	b.choose(t, "#group-form select[name=firmware]", "1.0.0")
	// One at a time, so that there is something to watch.
	b.do(t, chromedp.SetValue(chromedp.CSS("#group-form input[name=concurrent_updates]"), "1"),
		chromedp.SendKeys(chromedp.CSS("#group-form input[name=name]"), worldGroup),
		chromedp.Click(chromedp.CSS("#group-form button[value=true]")))
	b.reads(t, "h1", worldGroup)
	b.reads(t, ".badge", "active")
	b.reads(t, "[role=status]", "Created.")
	hold := time.Second
	if _, err := b.control().UpdateDeploymentGroup(t.Context(), b.scope, worldProduct, worldGroup, 0, fleet.DeploymentGroupUpdate{HoldTime: &hold}); err != nil {
		t.Fatal(err)
	}
}

// choose picks the option of a menu that begins with text.
func (b *tab) choose(t *testing.T, menu, text string) {
	t.Helper()
	if !value[bool](t, b, fmt.Sprintf(`(() => {
		const menu = document.querySelector(%q), option = [...menu.options].find(o => o.text.startsWith(%q));
		if (option) menu.value = option.value;
		return option !== undefined;
	})()`, menu, text)) {
		t.Fatalf("%s does not offer %s", menu, text)
	}
}

// releaseAndWatch stays on one page from the release to the last proof.
func (b *tab) releaseAndWatch(t *testing.T) {
	b.reads(t, "#group h2", "3 of 3 devices proven on 1.0.0")
	b.choose(t, "#release-form select", "1.1.0")
	b.do(t, chromedp.SendKeys(chromedp.CSS("#release-form input[name=description]"), "Better heating"),
		chromedp.Click(chromedp.CSS("#release-form button")))
	select {
	case question := <-b.dialogs:
		if !strings.Contains(question, worldGroup) {
			t.Errorf("asked %q", question)
		}
	case <-b.within(t).Done():
		t.Fatal("nothing was asked before the release")
	}
	b.reads(t, "#head", "to 1.1.0")
	// What the page shows until the end, and that it is the same page.
	value[bool](t, b, `(() => {
		window.seen = new Set();
		const look = () => {
			seen.add("proven " + document.querySelector("#group .bar").getAttribute("aria-valuenow"));
			for (const e of document.querySelectorAll("#attempts .attempt span")) seen.add(e.textContent);
		};
		new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
		look();
		return true;
	})()`)
	b.reads(t, "#group h2", "3 of 3 devices proven on 1.1.0")
	b.reads(t, "#group .way", "3 succeeded")
	b.until(t, `document.querySelectorAll("#attempts .badge.good").length === 3 && !document.querySelector("#attempts progress")`)
	seen := value[[]string](t, b, "[...seen]")
	open := func(s string) bool { return strings.HasSuffix(s, " 1.1.0") }
	if !slices.Contains(seen, "proven 3") || !slices.ContainsFunc(seen, open) {
		t.Errorf("the page showed only %q", seen)
	}
	b.reads(t, "#releases", "Better heating")
	for _, name := range []string{"alpha", "beta", "gamma"} {
		if a := b.last(name); a.State != fleet.AttemptSucceeded {
			t.Errorf("%s: %s", name, a.State)
		}
	}
}

func (b *tab) pauseAndResume(t *testing.T) {
	for _, x := range []struct {
		button, badge string
		active        bool
	}{{"pause", "paused", false}, {"resume", "active", true}, {"pause", "paused", false}} {
		b.do(t, chromedp.Click(chromedp.CSS(`#head form[action$="/`+x.button+`"] button`)))
		b.reads(t, "#head .badge", x.badge)
		g, err := b.control().DeploymentGroup(t.Context(), b.scope, worldProduct, worldGroup)
		if err != nil || g.Active != x.active {
			t.Fatalf("active: %v, want %v (%v)", g.Active, x.active, err)
		}
	}
	// Done elsewhere, it shows by itself.
	if _, err := b.control().ResumeDeploymentGroup(t.Context(), b.scope, worldProduct, worldGroup); err != nil {
		t.Fatal(err)
	}
	b.reads(t, "#head .badge", "active")
}

func (b *tab) findDevice(t *testing.T) {
	b.open(t, productPage+"/devices")
	b.until(t, `document.querySelectorAll("#devices .dot.connected").length === 3`)
	b.press(t, "/", "Slash", 191)
	b.until(t, `document.activeElement.type === "search"`)
	b.do(t, chromedp.KeyEvent("ET"+kb.Enter))
	b.until(t, `location.search.includes("q=ET") && document.querySelectorAll("#devices tbody tr").length === 1`)
	b.reads(t, "#devices", "1.1.0")
	b.do(t, chromedp.Click(chromedp.CSS("#devices a")))
	b.reads(t, "h1", "beta")
	b.reads(t, "#device .badge", "succeeded")
	b.reads(t, "#audit", "proved firmware 1.1.0")
	// Times are words, with the exact one behind them.
	b.until(t, `[...document.querySelectorAll("time")].length > 2 && [...document.querySelectorAll("time")].every(e => / ago|now/.test(e.textContent) && /UTC$/.test(e.title))`)
	b.do(t, chromedp.Click(chromedp.CSS(`form[action$="/identify"] button`)))
	b.reads(t, "[role=status]", "told to show itself")
	b.until(t, `location.search === ""`)
}

// contrast lists text that can hardly be read, as people with weak eyes see it.
const contrast = `(() => {
	const parse = c => { const m = c.match(/[\d.]+/g).map(Number); return c.startsWith("color(srgb") ? [m[0] * 255, m[1] * 255, m[2] * 255, m[3] ?? 1] : [m[0], m[1], m[2], m[3] ?? 1] };
	const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
	const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] > 0.5) return c } return [255, 255, 255] };
	const weak = [];
	for (const e of document.querySelectorAll("body *")) {
		if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || !e.checkVisibility()) continue;
		const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (ratio < 4.5) weak.push(e.textContent.trim() + " " + ratio.toFixed(2));
	}
	return weak;
})()`

// everyPage looks at every page light and dark, wide and narrow.
func (b *tab) everyPage(t *testing.T) {
	t.Cleanup(func() { b.do(t, chromedp.ResetViewport()) })
	const org = "/org/" + worldOrg
	for _, path := range []string{
		org, org + "/settings", org + "/audit", productPage, productPage + "/devices", productPage + "/devices/beta", productPage + "/firmware",
		productPage + "/groups", productPage + "/groups/" + worldGroup, productPage + "/audit", productPage + "/settings", "/?all=1",
	} {
		b.open(t, path)
		if n := value[int](t, b, `document.querySelectorAll("h1").length`); n != 1 {
			t.Errorf("%s has %d first headings", path, n)
		}
		if nameless := value[[]string](t, b, `[...document.querySelectorAll("input:not([type=hidden]), select, button, a")]
			.filter(e => !(e.labels?.length || e.textContent.trim() || e.ariaLabel)).map(e => e.outerHTML)`); len(nameless) > 0 {
			t.Errorf("%s: no name to call %q", path, nameless)
		}
		ground := map[string]string{}
		for _, scheme := range []string{"light", "dark"} {
			if err := chromium.Prefer(b.within(t), scheme); err != nil {
				t.Fatal(err)
			}
			ground[scheme] = value[string](t, b, `getComputedStyle(document.body).backgroundColor`)
			if weak := value[[]string](t, b, contrast); len(weak) > 0 {
				t.Errorf("%s, %s: hardly to be read: %q", path, scheme, weak)
			}
		}
		if ground["light"] == ground["dark"] {
			t.Errorf("%s is %s, light and dark", path, ground["light"])
		}
		for _, width := range []int64{1280, 390, 320} {
			b.do(t, chromedp.EmulateViewport(width, 800))
			if wide := value[int64](t, b, `document.documentElement.scrollWidth`); wide > width {
				t.Errorf("%s is %d wide on a screen of %d", path, wide, width)
			}
		}
	}
}

// quiet looks at all that was said and asked for on the way.
func (b *tab) quiet(t *testing.T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.console) > 0 {
		t.Errorf("the console says %q", b.console)
	}
	if len(b.requests) < 20 {
		t.Errorf("only %d requests were seen", len(b.requests))
	}
	for _, address := range b.requests {
		if !strings.HasPrefix(address, b.server.BaseURL()+"/") && !strings.HasPrefix(address, "data:image/svg+xml,") {
			t.Errorf("the page asked for %s", address)
		}
	}
}

func (b *tab) refusedUpload(t *testing.T, file string) {
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	broken := bytes.Clone(content)
	broken[len(broken)/2] ^= 1
	path := filepath.Join(b.dir, "broken.fw")
	if err := os.WriteFile(path, broken, 0o600); err != nil {
		t.Fatal(err)
	}
	b.open(t, productPage+"/firmware")
	b.do(t, chromedp.SetUploadFiles(chromedp.CSS("input[name=firmware]"), []string{path}), chromedp.Click(chromedp.CSS("#upload button")))
	b.until(t, `document.querySelector("#upload [data-note]").matches(".bad") && !document.querySelector("#upload button").disabled`)
	if text := value[string](t, b, `document.querySelector("#upload [data-note]").textContent`); !strings.HasPrefix(text, "Firmware ") {
		t.Errorf("the form says %q", text)
	}
}

// signOutElsewhere ends the session under an open page.
func (b *tab) signOutElsewhere(t *testing.T) {
	b.open(t, productPage+"/devices")
	b.until(t, `document.querySelector("#live").matches(".on")`)
	value[bool](t, b, `fetch("/signout", { method: "POST", redirect: "manual" }).then(() => true) && true`)
	b.until(t, `location.pathname === "/signin" && new URLSearchParams(location.search).get("to").endsWith("/devices")`)
}
