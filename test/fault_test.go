package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/app"
	"github.com/ganglion-iot/ganglion/internal/blob/blobtest"
	"github.com/ganglion-iot/ganglion/internal/store/storetest"
	"github.com/ganglion-iot/ganglion/link"
)

// wire is a way to a service that can be cut and mended.
type wire struct {
	t       *testing.T
	network string // of the service
	target  string
	address string

	mu    sync.Mutex
	l     net.Listener
	conns map[net.Conn]bool
	work  sync.WaitGroup
}

func newWire(t *testing.T, network, target string) *wire {
	t.Helper()
	w := &wire{t: t, network: network, target: target, conns: map[net.Conn]bool{}, address: freeAddress(t)}
	w.mend()
	t.Cleanup(w.cut)
	return w
}

// mend lets connections through from now on.
func (w *wire) mend() {
	w.t.Helper()
	l, err := net.Listen("tcp", w.address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.l = l
	w.mu.Unlock()
	w.work.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			w.work.Go(func() { w.pass(l, near) })
		}
	})
}

func (w *wire) pass(l net.Listener, near net.Conn) {
	defer near.Close()
	far, err := net.Dial(w.network, w.target)
	if err != nil {
		return
	}
	defer far.Close()
	w.mu.Lock()
	if w.l != l { // cut meanwhile
		w.mu.Unlock()
		return
	}
	w.conns[near], w.conns[far] = true, true
	w.mu.Unlock()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // ends when either is closed
			way[0].Close()
			way[1].Close()
		})
	}
	both.Wait()
	w.mu.Lock()
	delete(w.conns, near)
	delete(w.conns, far)
	w.mu.Unlock()
}

// cut breaks every connection and takes no more.
func (w *wire) cut() {
	w.mu.Lock()
	if w.l != nil {
		w.l.Close()
		w.l = nil
	}
	for c := range w.conns {
		c.Close()
	}
	w.mu.Unlock()
	w.work.Wait()
}

// ready is what the server says about itself to who sends requests to it.
func (w *world) ready() (status int, text string) {
	w.t.Helper()
	resp, err := http.Get(w.server.BaseURL() + "/readyz")
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(b))
}

func (w *world) wantReady(status int, text string) {
	w.t.Helper()
	if got, says := w.ready(); got != status || says != text {
		w.t.Errorf("the server says %d %q, want %d %q", got, says, status, text)
	}
}

// leaving tells when its device loses its connection.
type leaving struct {
	rebooting
	gone chan<- struct{}
}

func (l leaving) Disconnected(error) {
	select {
	case l.gone <- struct{}{}:
	default:
	}
}

// behind puts a stalling proxy before the web listener of the world to come.
func behind(t *testing.T, front **stallingProxy) func(*app.Config) {
	return func(c *app.Config) {
		*front = newStallingProxy(t, "http://"+c.Listen)
		c.BaseURL = (*front).url
	}
}

// TestDatabaseGoesAndComesBack takes PostgreSQL away while devices download.
// They stay connected, people are told that the database is out of reach, and
// what the devices reported meanwhile is not lost: in the end every one has
// proven the firmware with one attempt.
func TestDatabaseGoesAndComesBack(t *testing.T) {
	t.Parallel()
	direct, err := url.Parse(storetest.PostgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	q := direct.Query()
	line := newWire(t, "unix", filepath.Join(q.Get("host"), ".s.PGSQL.5432"))
	database := fmt.Sprintf("postgres://%s@%s%s?sslmode=disable", q.Get("user"), line.address, direct.Path)
	var front *stallingProxy
	w := newWorld(t, database, behind(t, &front), func(c *app.Config) {
		c.OfferTimeout, c.ProgressTimeout, c.RebootTimeout = time.Minute, time.Minute, time.Minute
	})
	old, next := w.build("1.0.0", 2<<20), w.build("1.1.0", 2<<20)
	w.group(w.publish(old), nil)
	const boards = 3
	gone := make(chan struct{}, boards)
	for i := range boards {
		w.power(fmt.Sprintf("board-%d", i), old, nil, func(_ link.Running, base link.DefaultClient) link.Client {
			return leaving{rebooting{base}, gone}
		})
	}
	w.await("the boards are there", func() bool { return w.counts().Proven == boards })
	w.release(w.publish(next))
	for range boards {
		front.stalled(t)
	}
	w.await("every board downloads", func() bool { return w.counts().Updating == boards })

	line.cut()
	w.wantReady(http.StatusServiceUnavailable, "not ready: database")
	if _, _, err := w.control().ListDevices(w.ctx(), w.scope, worldProduct, fleet.DeviceFilter{}); fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("reading without a database: %v", err)
	}
	if _, err := w.control().CreateProduct(w.ctx(), w.scope, "lost"); fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("writing without a database: %v", err)
	}
	if n := w.server.Devices(); n != boards {
		t.Errorf("%d devices are connected of %d", n, boards)
	}
	select {
	case <-gone:
		t.Error("a device lost its connection with the database")
	default:
	}
	front.open() // downloads go on and are reported without a database
	select {
	case <-gone: // a board restarts into 1.1.0, and cannot be let in yet
	case <-time.After(storyTimeout):
		t.Fatal("no board got as far as its restart")
	}
	line.mend()
	w.await("every board proves 1.1.0", func() bool { return w.counts().Proven == boards && w.device("board-0").Firmware.Version == "1.1.0" })
	w.wantReady(http.StatusOK, "ready")
	for _, a := range w.attempts() {
		if a.State != fleet.AttemptSucceeded || a.Number != 1 {
			t.Errorf("an attempt was lost: %s", w.story())
			break
		}
	}
}

// TestStorageGoesAndComesBack kills the S3 service in the middle of downloads,
// and tries an upload without it. Downloads are resumed when it is back; the
// refused upload has left nothing and is taken the next time.
func TestStorageGoesAndComesBack(t *testing.T) {
	t.Parallel()
	s3 := blobtest.New(t)
	var front *stallingProxy
	w := newWorld(t, "", behind(t, &front), func(c *app.Config) {
		c.S3Endpoint, c.S3Bucket, c.S3Region, c.S3Insecure = s3.Endpoint, "firmware", blobtest.Region, true
		c.S3AccessKey, c.S3SecretKey = blobtest.AccessKey, blobtest.SecretKey
		c.ProgressTimeout = time.Minute
	})
	old, next, third := w.build("1.0.0", 1<<20), w.build("1.1.0", 8<<20), w.build("1.2.0", 1<<20)
	w.group(w.publish(old), nil)
	const boards = 2
	for i := range boards {
		w.power(fmt.Sprintf("board-%d", i), old, nil, nil)
	}
	w.await("the boards are there", func() bool { return w.counts().Proven == boards })
	w.release(w.publish(next))
	for range boards {
		front.stalled(t)
	}
	if err := s3.Kill(); err != nil {
		t.Fatal(err)
	}
	w.wantReady(http.StatusServiceUnavailable, "not ready: firmware storage")
	f, err := os.Open(third)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := w.control().PublishFirmware(w.ctx(), w.scope, worldProduct, f); fleet.KindOf(err) != fleet.Unavailable || !strings.Contains(err.Error(), "S3") {
		t.Errorf("upload without S3: %v", err)
	}
	if left := filesBelow(t, filepath.Join(w.config.Data, "stage")); len(left) != 0 {
		t.Errorf("the refused upload left %v", left)
	}
	if list, _, err := w.control().ListFirmware(w.ctx(), w.scope, worldProduct, fleet.FirmwareFilter{}); err != nil || len(list) != 2 {
		t.Errorf("%d firmwares are listed, %v", len(list), err)
	}
	if n := w.server.Devices(); n != boards {
		t.Errorf("%d devices are connected of %d", n, boards)
	}
	front.open()
	if err := s3.Start(); err != nil {
		t.Fatal(err)
	}
	w.await("every board proves 1.1.0", func() bool { return w.counts().Proven == boards && w.counts().Updating == 0 })
	w.wantReady(http.StatusOK, "ready")
	for _, a := range w.attempts() {
		if a.State != fleet.AttemptSucceeded || a.Number != 1 {
			t.Errorf("an attempt was lost: %s", w.story())
			break
		}
	}
	w.publish(third)
}

// gate is a reader that waits half-way until it is opened, or given up.
type gate struct {
	io.Reader
	left    int
	reached chan struct{}
	opened  chan struct{}
}

func newGate(left int) *gate {
	return &gate{left: left, reached: make(chan struct{}), opened: make(chan struct{})}
}

func (g *gate) Read(p []byte) (int, error) {
	if g.left == 0 {
		close(g.reached)
		<-g.opened
		g.left = 1 << 62
	}
	n, err := g.Reader.Read(p[:min(len(p), g.left)])
	g.left -= n
	return n, err
}

// stopping starts an upload, and once it is half-way tells the server to stop.
func stopping(t *testing.T) (r *remote, g *gate, uploaded chan error) {
	t.Helper()
	r = newRemote(t, newServerProcess(t))
	path := r.build("1.0.0", 4<<20)
	g = newGate(2 << 20)
	uploaded = make(chan error, 1)
	go func() {
		_, err := r.upload(path, func(b io.Reader) io.Reader { g.Reader = b; return g })
		uploaded <- err
	}()
	<-g.reached
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	r.untilDeaf()
	return r, g, uploaded
}

// untilDeaf waits until the server takes no more connections.
func (r *remote) untilDeaf() {
	r.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		conn, err := (&net.Dialer{}).DialContext(r.ctx, "tcp", r.web)
		if r.ctx.Err() != nil {
			r.t.Fatal("the server goes on")
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			return
		}
		if err == nil {
			conn.Close()
		}
	}
}

// ended waits for the end of the process.
func (r *remote) ended() *os.ProcessState {
	r.t.Helper()
	done := make(chan struct{})
	cmd := r.cmd
	go func() { defer close(done); _ = cmd.Wait() }() // the state says it
	select {
	case <-done:
	case <-r.ctx.Done():
		r.t.Fatal("the process does not end")
	}
	r.cmd = nil
	return cmd.ProcessState
}

// TestStopDuringUpload: a server that is told to stop lets an upload finish,
// ends without a failure, and has the firmware when it is started again.
func TestStopDuringUpload(t *testing.T) {
	t.Parallel()
	r, g, uploaded := stopping(t)
	close(g.opened)
	if err := <-uploaded; err != nil {
		t.Errorf("the upload was cut off: %v", err)
	}
	if state := r.ended(); state.ExitCode() != 0 {
		t.Errorf("the server ended with %s", state)
	}
	r.start()
	if list, err := r.product.Firmwares(r.ctx, 0); err != nil || len(list) != 1 || list[0].Version != "1.0.0" {
		t.Errorf("after the restart: %+v, %v", list, err)
	}
}

// TestSecondSignal ends a server at once that waits for an upload; the half of
// it is gone at the next start.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	r, g, uploaded := stopping(t)
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	state := r.ended()
	if status, ok := state.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGINT {
		t.Errorf("the server ended with %s", state)
	}
	close(g.opened)
	if err := <-uploaded; err == nil {
		t.Error("half an upload was accepted")
	}
	r.start()
	if list, err := r.product.Firmwares(r.ctx, 0); err != nil || len(list) != 0 {
		t.Errorf("after the restart: %+v, %v", list, err)
	}
	if left := filesBelow(t, filepath.Join(r.data, "blobs")); len(left) != 0 {
		t.Errorf("half an upload is left: %v", left)
	}
}

// TestStopDoesNotWaitForEver: an upload that does not go on is cut off when
// the time to drain is over.
func TestStopDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", func(c *app.Config) { c.DrainTimeout = 200 * time.Millisecond })
	conn, err := net.Dial("tcp", w.server.WebAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /signin HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n")
	if _, err := io.ReadFull(conn, make([]byte, 12)); err != nil { // "HTTP/1.1 100": the handler reads
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.stop() }()
	select {
	case <-ended: // the next part of this test is that it came at all
	case <-time.After(storyTimeout):
		t.Fatal("the server waits for ever")
	}
	w.start()
}

// TestSecondProcess starts a second server on the same data directory: it says
// who has it and what to do, with a status of its own, and the first goes on.
func TestSecondProcess(t *testing.T) {
	t.Parallel()
	p := newServerProcess(t)
	p.start()
	second := program(t, "ganglion", "serve", "--data", p.data, "--listen", freeAddress(t), "--device-listen", freeAddress(t))
	var says bytes.Buffer
	second.Stderr = &says
	ctx, cancel := context.WithTimeout(t.Context(), storyTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = second.Process.Kill() })
	if err := second.Run(); err == nil || ctx.Err() != nil {
		t.Fatal("a second server ran")
	}
	stop()
	if want := fmt.Sprintf("in use by the server with process id %d", p.cmd.Process.Pid); !strings.Contains(says.String(), want) || !strings.Contains(says.String(), "--data") {
		t.Errorf("it says %q, want %q", says.String(), want)
	}
	if _, err := p.client(t.Context()).Me(t.Context()); err != nil {
		t.Errorf("the first server: %v", err)
	}
	p.kill()
	p.start() // a kill leaves no lock behind
}
