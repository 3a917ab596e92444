package test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/internal/app"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/pki"
	"github.com/ganglion-iot/ganglion/internal/rest"
	"github.com/ganglion-iot/ganglion/nh1"
)

// Attacks that single packages answer are tested beside them:
//
//	foreign ids and names, REST        internal/api TestRoutes
//	foreign ids and names, pages       internal/web TestRoutesAskWhoIsThere
//	foreign ids and names, use cases   internal/control TestAuthorization
//	foreign ids and names, queries     internal/store TestEveryMethodKeepsToItsScope
//	events of another org              internal/api TestEvents, TestRoutes; internal/web TestLivePagesNeedASession
//	forms of other sites, cookies      internal/web TestFormsOfOtherSitesAreRefused, TestCookies
//	markup in names and reports        internal/web TestTextIsNeverMarkup
//	open redirects                     internal/web TestOnlyOwnPathsAreGoneTo
//	escape sequences to a terminal     internal/cli TestPlain
//	guessing passwords and e-mails     internal/control TestTooManyTries, TestUnknownUserCostsTheSame; internal/api TestSignInThrottle
//	stolen database                    internal/web TestSessionsAreKeptHashed; internal/auth TestSeal
//	forged and expired links           internal/auth TestSignedURLs, FuzzVerifyURL; internal/blob TestHandler
//	keys that leave their directory    internal/blob TestKeys, TestLocalStaysInItsDirectory
//	unsigned, altered, doubled members internal/control TestRefusedFirmware; fwup TestEveryByte, TestOutcomes
//	deep JSON, large bodies            internal/api TestBodies; internal/web TestFormsAreBounded
//	frames that break the protocol     internal/gateway TestWhatEndsASession, TestTooManyFramesHaveToWait
//	replayed, early, late signatures   internal/gateway TestTimesOfSignatures; nh1 TestVerifyRefuses
//	costly signatures                  internal/gateway TestAnswersToUpgrades; nh1 TestParseRefuses
//	foreign and unknown certificates   internal/gateway TestMutualTLS; internal/pki TestDevicePolicy
//	expired certificates               internal/gateway TestExpiredCertificates
//	clones of one identity             internal/gateway TestClonesOfOneIdentity
//	floods of handshakes, connections  internal/app TestHandshakesQueue, TestHandshakesThatStall, TestConnectionsAreLimited
//	bodies that never end              internal/app TestBodiesMustKeepArriving

// raw sends bytes to a listener and returns all it answers until it hangs up.
func raw(t *testing.T, conn net.Conn, text string) string {
	t.Helper()
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(storyTimeout)); err != nil {
		t.Fatal(err)
	}
	// The server may answer and hang up before it has read everything.
	_, _ = io.WriteString(conn, text)
	b, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the server waits for ever after %.60q", text)
	}
	return string(b)
}

func (w *world) dialWeb() net.Conn {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.server.WebAddr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	return conn
}

func (w *world) dialDevices() net.Conn {
	w.t.Helper()
	conn, err := tls.Dial("tcp", "localhost:"+port(w.t, w.server.DeviceAddr().String()), w.options("x").TLS)
	if err != nil {
		w.t.Fatal(err)
	}
	return conn
}

// TestSlowClients opens connections and says nothing, half a handshake, or half
// a header: each listener hangs up by itself, and others are served meanwhile.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	devices := func() net.Conn {
		conn, err := net.Dial("tcp", w.server.DeviceAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	const header = "GET / HTTP/1.1\r\nHost: localhost\r\nX-A"
	var all sync.WaitGroup
	for _, slow := range []struct {
		conn net.Conn
		text string
	}{
		{w.dialWeb(), ""}, {w.dialWeb(), header}, {devices(), ""}, {devices(), "\x16\x03\x01\x02\x00\x01"},
		{w.dialDevices(), ""}, {w.dialDevices(), header},
	} {
		all.Go(func() {
			if got := raw(t, slow.conn, slow.text); strings.HasPrefix(got, "HTTP/1.1 2") {
				t.Errorf("half a request was answered: %.60q", got)
			}
		})
	}
	w.wantReady(http.StatusOK, "ready")
	all.Wait()
}

// TestStrangeRequests sends what no client sends: the answer is an error, and
// the server goes on.
func TestStrangeRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	long := strings.Repeat("a", 64<<10)
	for _, tc := range []struct{ name, text, status string }{
		{"large header", "GET / HTTP/1.1\r\nHost: localhost\r\nX-A: " + long + "\r\n\r\n", "431"},
		{"many headers", "GET / HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X-A: b\r\n", 10_000) + "\r\n", "431"},
		{"long path", "GET /" + long + " HTTP/1.1\r\nHost: localhost\r\n\r\n", "431"},
		{"two lengths", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "400"},
		{"negative length", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", "400"},
		{"no host", "GET / HTTP/1.1\r\n\r\n", "400"},
		{"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"},
		{"unknown coding", "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", "501"},
		{"broken header", "GET / HTTP/1.1\r\nHost: localhost\r\nX A: b\r\n\r\n", "400"},
		{"noise", "\x00\x01\x02\r\n\r\n", "400"},
	} {
		for listener, dial := range map[string]func() net.Conn{"web": w.dialWeb, "devices": w.dialDevices} {
			if got := raw(t, dial(), tc.text); !strings.HasPrefix(got, "HTTP/1.1 "+tc.status) {
				t.Errorf("%s, %s: %.80q, want %s", tc.name, listener, got, tc.status)
			}
		}
	}
	// Plain HTTP where TLS is spoken.
	plain, err := net.Dial("tcp", w.server.DeviceAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	if got := raw(t, plain, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.0 400") {
		t.Errorf("plain HTTP to the device listener: %q", got)
	}
	w.wantReady(http.StatusOK, "ready")
}

// TestOldTLS offers no more than TLS 1.1 to both listeners.
func TestOldTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, err := pki.CreateCA("web")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ca.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	cert, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := errors.Join(os.WriteFile(cert, ca.CertificatePEM(), 0o600), os.WriteFile(keyFile, key, 0o600)); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, "", func(c *app.Config) { c.TLSCert, c.TLSKey = cert, keyFile })
	for _, address := range []string{w.server.WebAddr().String(), w.server.DeviceAddr().String()} {
		for version, good := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
			conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
			if (err == nil) != good {
				t.Errorf("%s with %s: %v", address, tls.VersionName(version), err)
			}
			if err == nil {
				conn.Close()
			}
		}
	}
}

// neighbour is another org on the server, with a firmware and a secret.
func (w *world) neighbour(name string) *world {
	w.t.Helper()
	n := *w
	c := w.control()
	_, _, user, err := c.SignIn(w.ctx(), control.SignInInput{Email: worldEmail, Password: worldPassword, Kind: fleet.TokenSession})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err = c.CreateOrg(w.ctx(), fleet.UserScope(user), name); err != nil {
		w.t.Fatal(err)
	}
	if n.scope, _, err = c.OrgScope(w.ctx(), fleet.UserScope(user), name); err != nil {
		w.t.Fatal(err)
	}
	n.dir = w.t.TempDir()
	n.prepare()
	return &n
}

// TestFirmwareOfAnotherOrg takes the link to a firmware and tries to get
// another org's with it, or more out of it than it is for.
func TestFirmwareOfAnotherOrg(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	other := w.neighbour("rival")
	link := func(w *world) *url.URL {
		fw := w.publish(w.build("1.0.0", small))
		text, err := w.control().FirmwareURL(w.ctx(), w.scope, worldProduct, fw.UUID)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	ours, theirs := link(w), link(other)
	if ours.Path == theirs.Path {
		t.Fatal("both have the same file")
	}
	base := ours.Scheme + "://" + ours.Host
	query := func(u *url.URL, change func(url.Values)) string {
		q := u.Query()
		change(q)
		return q.Encode()
	}
	for _, tc := range []struct {
		name, target string
		status       int
	}{
		{"ours", ours.String(), 200},
		{"theirs with their link", theirs.String(), 200}, // the link is the right to it
		{"theirs with our signature", base + theirs.Path + "?" + ours.RawQuery, 403},
		{"theirs without one", base + theirs.Path, 403},
		{"theirs by a detour", base + ours.Path + "/../../.." + theirs.Path + "?" + ours.RawQuery, 403},
		{"theirs by a hidden detour", base + "/files/%2e%2e/files" + strings.TrimPrefix(theirs.Path, "/files") + "?" + ours.RawQuery, 404},
		{"out of the directory", base + "/files/..%2f..%2finstance.key?" + ours.RawQuery, 404},
		{"an upload under way", base + "/files/.stage/x?" + ours.RawQuery, 404},
		{"the directory", base + "/files/?" + ours.RawQuery, 404},
		{"longer", base + ours.Path + "?" + query(ours, func(q url.Values) { q.Set("expires", q.Get("expires")+"0") }), 403},
		{"twice", base + ours.Path + "?" + ours.RawQuery + "&expires=99999999999", 403},
		{"under another name", base + ours.Path + "?" + query(ours, func(q url.Values) { q.Set("name", "evil.exe") }), 403},
		{"with a semicolon", base + ours.Path + "?" + ours.RawQuery + ";expires=99999999999", 403},
		{"no signature", base + ours.Path + "?" + query(ours, func(q url.Values) { q.Set("signature", "") }), 403},
	} {
		resp, err := http.Get(tc.target)
		if err != nil {
			t.Fatal(err)
		}
		n, _ := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tc.status {
			t.Errorf("%s: %s, want %d (%s)", tc.name, resp.Status, tc.status, resp.Request.URL)
		}
		if tc.status != 200 && n > 1000 {
			t.Errorf("%s: %d bytes came", tc.name, n)
		}
	}
	// The other org's names lead nowhere.
	if _, err := w.control().FirmwareURL(w.ctx(), w.scope, worldProduct, strings.Split(filepath.Base(theirs.Path), ".")[0]); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("a link to theirs: %v", err)
	}
}

// TestIdentityOfAnotherOrg signs, with one org's secret, for a device that
// another org has: that one's device is neither seen nor pushed away.
func TestIdentityOfAnotherOrg(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	other := w.neighbour("rival")
	victim, attacker := w.dialDevices(), w.dialDevices()
	defer victim.Close()
	defer attacker.Close()
	victimLines := w.upgrade(victim, other.secret, "sn-1")
	before := other.device("sn-1")
	w.upgrade(attacker, w.secret, "sn-1")
	if mine := w.device("sn-1"); mine.ID == before.ID || mine.OrgID == before.OrgID {
		t.Errorf("the attacker became %+v", mine)
	}
	// A heartbeat of the victim is answered: its connection stands.
	if _, err := victim.Write(masked(`[null,"1","phoenix","heartbeat",{}]`)); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 2)
	if _, err := io.ReadFull(victimLines, head); err != nil || head[0] != 0x81 {
		t.Errorf("the victim hears %x, %v", head, err)
	}
	if n := w.server.Devices(); n != 2 {
		t.Errorf("%d devices are connected, want 2", n)
	}
}

// upgrade makes a connection a device's socket.
func (w *world) upgrade(conn net.Conn, secret fleet.SharedSecret, identifier string) *bufio.Reader {
	w.t.Helper()
	var b bytes.Buffer
	b.WriteString("GET /device-socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")
	if err := nh1.SignNH1(secret.Key, secret.Secret, identifier, time.Now()).Write(&b); err != nil {
		w.t.Fatal(err)
	}
	b.WriteString("\r\n")
	_ = conn.SetDeadline(time.Now().Add(storyTimeout))
	if _, err := conn.Write(b.Bytes()); err != nil {
		w.t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		w.t.Fatalf("the device is not let in: %s", resp.Status)
	}
	return in
}

// masked is a short text frame of a client.
func masked(text string) []byte {
	return append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...)
}

// TestSocketsOfOtherSites upgrades as a page of another site would make a
// browser do, on the web listener.
func TestSocketsOfOtherSites(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	for origin, status := range map[string]string{"https://evil.example": "403", "null": "403", "": "401"} {
		text := "GET /device-socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
		if origin != "" {
			text += "Origin: " + origin + "\r\n"
		}
		if got := raw(t, w.dialWeb(), text+"\r\n"); !strings.HasPrefix(got, "HTTP/1.1 "+status) {
			t.Errorf("origin %q: %.80q, want %s", origin, got, status)
		}
	}
}

// TestSessionFixation signs in with a session the attacker chose: the browser
// gets another one, and the chosen one is worth nothing.
func TestSessionFixation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	const chosen = "chosen-by-the-attacker"
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	send := func(method, path, cookie, body string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), method, w.server.BaseURL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.AddCookie(&http.Cookie{Name: "ganglion", Value: cookie})
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	in := url.Values{"email": {worldEmail}, "password": {worldPassword}}
	resp := send("POST", "/signin", chosen, in.Encode())
	cookies := resp.Cookies()
	if resp.StatusCode != http.StatusSeeOther || len(cookies) != 1 || cookies[0].Value == chosen || len(cookies[0].Value) < 32 {
		t.Fatalf("signed in with %s, cookies %v", resp.Status, cookies)
	}
	if resp := send("GET", "/org/"+worldOrg, cookies[0].Value, ""); resp.StatusCode != http.StatusOK {
		t.Errorf("the new session: %s", resp.Status)
	}
	if resp := send("GET", "/org/"+worldOrg, chosen, ""); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("the chosen session: %s", resp.Status)
	}
}

// TestNamesInHeaders gives things names that would end a header.
func TestNamesInHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	for _, name := range []string{"a\r\nSet-Cookie: x=1", "a\nb", "a\x00b"} {
		if _, err := w.control().CreateProduct(w.ctx(), w.scope, name); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("the product %q: %v", name, err)
		}
		if _, err := w.control().CreateDevice(w.ctx(), w.scope, worldProduct, control.CreateDeviceInput{Identifier: name}); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("the device %q: %v", name, err)
		}
	}
	resp, err := http.Get(w.server.BaseURL() + "/signin?to=" + url.QueryEscape("/x\r\nSet-Cookie: x=1"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if len(resp.Cookies()) != 0 || resp.StatusCode != http.StatusOK {
		t.Errorf("%s, cookies %v", resp.Status, resp.Cookies())
	}
}

// TestBombs uploads a firmware that is two thousand times larger unpacked: it
// is checked to its end in little memory. It runs alone, to measure itself.
func TestBombs(t *testing.T) {
	w := newWorld(t, "")
	const unpacked = 256 << 20
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "zeroes"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(unpacked), f.Close()); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "fwup.conf")
	text := fmt.Sprintf("meta-product=%q\nmeta-version=\"6.6.6\"\nmeta-platform=\"board\"\nmeta-architecture=\"arm\"\n"+
		"file-resource zeroes { host-path = \"zeroes\" }\ntask complete { on-resource zeroes { raw_write(0) } }\n", worldProduct)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var bomb bytes.Buffer
	if err := fwup.Create(t.Context(), &bomb, fwup.CreateOptions{ConfigPath: conf, PrivateKey: w.private, Level: 1, Time: time.Unix(1_700_000_000, 0)}); err != nil {
		t.Fatal(err)
	}
	if bomb.Len() > unpacked/50 {
		t.Fatalf("%d bytes are no bomb", bomb.Len())
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = w.control().PublishFirmware(w.ctx(), w.scope, worldProduct, &bomb)
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Logf("it is refused: %v", err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
		t.Errorf("%d MiB were taken for %d MiB unpacked", used>>20, unpacked>>20)
	}
}

// TestSecretsStayOutOfTheLog does what secrets are needed for and searches the
// log at its most talkative.
func TestSecretsStayOutOfTheLog(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	c := app.DefaultConfig()
	c.Data, c.Listen, c.DeviceListen = filepath.Join(t.TempDir(), "data"), freeAddress(t), freeAddress(t)
	c.AdminEmail, c.AdminPassword, c.AdminOrg = worldEmail, worldPassword, worldOrg
	w := &world{t: t, dir: t.TempDir(), config: c, log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	w.start()
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Error(err)
		}
	})
	w.signIn()
	w.prepare()
	key, err := os.ReadFile(filepath.Join(c.Data, "instance.key"))
	if err != nil {
		t.Fatal(err)
	}

	client, err := rest.NewClient(rest.ClientOptions{URL: w.server.BaseURL()})
	if err != nil {
		t.Fatal(err)
	}
	u, err := client.SignIn(t.Context(), rest.SignIn{Email: worldEmail, Password: worldPassword})
	if err != nil {
		t.Fatal(err)
	}
	const wrong = "wrong horse battery"
	if _, err := client.SignIn(t.Context(), rest.SignIn{Email: worldEmail, Password: wrong}); err == nil {
		t.Error("a wrong password was taken")
	}
	if client, err = rest.NewClient(rest.ClientOptions{URL: w.server.BaseURL(), Token: u.Token}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Me(t.Context()); err != nil {
		t.Fatal(err)
	}
	fw := w.publish(w.build("1.0.0", small))
	w.group(fw, nil)
	link, err := w.control().FirmwareURL(w.ctx(), w.scope, worldProduct, fw.UUID)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{link, link + "x"} {
		resp, err := http.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	good, bad := w.dialDevices(), w.dialDevices()
	defer good.Close()
	w.upgrade(good, w.secret, "sn-1")
	refused := nh1.SignNH1(w.secret.Key, "another secret", "sn-1", time.Now())
	var head bytes.Buffer
	if err := refused.Write(&head); err != nil {
		t.Fatal(err)
	}
	raw(t, bad, "GET /device-socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: localhost\r\n"+head.String()+"\r\n")

	text := log.String()
	if !strings.Contains(text, "/api/users/me") && !strings.Contains(text, "/api/") {
		t.Errorf("requests are not in the log:\n%s", text)
	}
	for what, secret := range map[string]string{
		"password": worldPassword, "wrong password": wrong, "token": u.Token, "shared secret": w.secret.Secret,
		"signature of a link": parsed.Query().Get("signature"), "signature of a device": refused.Get(nh1.HeaderSignature),
		"instance key": strings.TrimSpace(string(key)),
	} {
		if secret == "" {
			t.Errorf("there is no %s", what)
		} else if strings.Contains(text, secret) {
			t.Errorf("the %s is in the log", what)
		}
	}
}

// lockedBuffer keeps what is logged.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// TestManyGuessesAtOnce sends wrong passwords from many goroutines: the limit
// holds, health is answered meanwhile, and the right owner is let in from
// elsewhere.
func TestManyGuessesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	var mu sync.Mutex
	kinds := map[fleet.Kind]int{}
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() {
			_, _, _, err := w.control().SignIn(context.Background(), control.SignInInput{
				Email: worldEmail, Password: rand.Text(), Kind: fleet.TokenAPI, Address: "192.0.2.1",
			})
			mu.Lock()
			kinds[fleet.KindOf(err)]++
			mu.Unlock()
		})
	}
	w.wantReady(http.StatusOK, "ready")
	all.Wait()
	if kinds[fleet.Unauthorized] > 10 || kinds[fleet.RateLimited] < 30 {
		t.Errorf("forty guesses ended as %v", kinds)
	}
	if _, _, _, err := w.control().SignIn(w.ctx(), control.SignInInput{Email: worldEmail, Password: worldPassword, Kind: fleet.TokenAPI, Address: "192.0.2.2"}); err != nil {
		t.Errorf("the owner is locked out: %v", err)
	}
}
