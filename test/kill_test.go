package test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/internal/rest"
	"github.com/ganglion-iot/ganglion/internal/simulate"
	"github.com/ganglion-iot/ganglion/link"
)

// remote is a server process with a product and a key, worked over REST.
type remote struct {
	*serverProcess
	ctx     context.Context
	dir     string
	product *rest.ProductClient
	secret  rest.SharedSecret
	public  fwup.PublicKey
	private fwup.PrivateKey
}

func newRemote(t *testing.T, p *serverProcess) *remote {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*storyTimeout) // of several waits
	t.Cleanup(cancel)
	r := &remote{serverProcess: p, ctx: ctx, dir: t.TempDir()}
	p.start()
	c := p.client(ctx)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.CreateProduct(ctx, worldOrg, worldProduct)
	must(err)
	r.product = c.In(worldOrg, worldProduct)
	r.secret, err = r.product.CreateSharedSecret(ctx, rest.NewSharedSecret{Note: "boards"})
	must(err)
	r.public, r.private, err = fwup.GenerateKey(rand.Reader)
	must(err)
	_, err = c.CreateSigningKey(ctx, worldOrg, rest.NewSigningKey{Name: "release", Key: fwup.FormatPublicKey(r.public)})
	must(err)
	return r
}

func (r *remote) build(version string, size int) string {
	r.t.Helper()
	path, err := simulate.BuildFirmware(r.ctx, r.dir, simulate.FirmwareSpec{
		Product: worldProduct, Version: version, Platform: "board", Architecture: "arm", Size: size, Key: r.private,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return path
}

func (r *remote) upload(path string, wrap func(io.Reader) io.Reader) (rest.Firmware, error) {
	r.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	var body io.Reader = bytes.NewReader(b)
	if wrap != nil {
		body = wrap(body)
	}
	return r.product.PublishFirmware(r.ctx, rest.Upload{Name: filepath.Base(path), Size: int64(len(b)), File: body})
}

func (r *remote) publish(path string) rest.Firmware {
	r.t.Helper()
	f, err := r.upload(path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return f
}

// group makes a group with a short hold time.
func (r *remote) group(firmware rest.Firmware) {
	r.t.Helper()
	hold := 1
	if _, err := r.product.CreateDeploymentGroup(r.ctx, rest.NewDeploymentGroup{
		Name: worldGroup, Firmware: firmware.UUID, IsActive: true, ConcurrentUpdates: 10, HoldTime: &hold,
	}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *remote) release(firmware rest.Firmware) {
	r.t.Helper()
	if _, err := r.product.ChangeDeploymentGroup(r.ctx, worldGroup, rest.DeploymentGroupChange{Firmware: firmware.UUID}); err != nil {
		r.t.Fatal(err)
	}
}

// await looks after every event of the product until done says so.
func (r *remote) await(what string, done func() bool) {
	r.t.Helper()
	for _, err := range r.product.Events(r.ctx) {
		if err != nil {
			r.t.Fatalf("%s did not happen: %v", what, err)
		}
		if done() {
			return
		}
	}
}

func (r *remote) proven(n int) func() bool {
	return func() bool {
		g, err := r.product.DeploymentGroup(r.ctx, worldGroup)
		if err != nil {
			r.t.Logf("looking at the group: %v", err)
			return false
		}
		return g.Counts != nil && g.Counts.Total == n && g.Counts.Proven == n
	}
}

// board is a board of this process that belongs to the server process.
func (r *remote) board(name, firmware string) {
	r.t.Helper()
	w := &world{t: r.t, dir: r.dir}
	b := &board{name: name, Board: simulate.Board{Image: filepath.Join(r.dir, name+".img")}}
	install(r.t, b.Board, firmware)
	w.switchOn(b, r.options(name), nil)
}

func install(t *testing.T, b simulate.Board, firmware string) {
	t.Helper()
	f, err := os.Open(firmware)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := b.Install(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func (r *remote) options(name string) link.Options {
	return boardOptions(r.t, r.dir, r.devices, filepath.Join(r.data, "tls", "ca.pem"), name,
		link.SharedSecret{Key: r.secret.Key, Secret: r.secret.Secret}, r.public)
}

// halfway is a reader that stops after n bytes, tells, and waits for the end.
type halfway struct {
	io.Reader
	left    int
	reached chan struct{}
	gone    <-chan struct{}
}

func (h *halfway) Read(p []byte) (int, error) {
	if h.left == 0 {
		close(h.reached)
		<-h.gone
		return 0, errors.New("the upload was abandoned")
	}
	n, err := h.Reader.Read(p[:min(len(p), h.left)])
	h.left -= n
	return n, err
}

// TestKillServerDuringUpload: nothing of a half upload is left, and the same
// file is taken the next time.
func TestKillServerDuringUpload(t *testing.T) {
	t.Parallel()
	r := newRemote(t, newServerProcess(t))
	path := r.build("1.0.0", 4<<20)
	gone := make(chan struct{})
	h := &halfway{left: 2 << 20, reached: make(chan struct{}), gone: gone}
	ended := make(chan error, 1)
	go func() {
		_, err := r.upload(path, func(b io.Reader) io.Reader { h.Reader = b; return h })
		ended <- err
	}()
	<-h.reached
	r.kill()
	close(gone)
	if err := <-ended; err == nil {
		t.Fatal("half an upload was accepted")
	}
	r.start()
	list, err := r.product.Firmwares(r.ctx, 0)
	if err != nil || len(list) != 0 {
		t.Fatalf("after the kill: %d firmwares, %v", len(list), err)
	}
	if left := filesBelow(t, filepath.Join(r.data, "blobs")); len(left) != 0 {
		t.Errorf("half an upload is left: %v", left)
	}
	r.publish(path)
}

func filesBelow(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestKillServerDuringRollout kills the server once devices were offered
// firmware, and once more while they download: nothing is lost, and every
// device needs one attempt.
func TestKillServerDuringRollout(t *testing.T) {
	t.Parallel()
	p := newServerProcess(t)
	front := newStallingProxy(t, "http://"+p.web)
	p.base = front.url
	r := newRemote(t, p)
	old, next := r.build("1.0.0", 1<<20), r.build("1.1.0", 4<<20)
	r.group(r.publish(old))
	const boards = 3
	for i := range boards {
		r.board(fmt.Sprintf("board-%d", i), old)
	}
	r.await("the boards are there", r.proven(boards))
	target := r.publish(next)
	r.release(target)
	front.stalled(t) // a download is on its way
	r.kill()
	r.start()
	front.open()
	r.await("every board proves 1.1.0", r.proven(boards))
	for i := range boards {
		attempts, err := r.product.DeviceAttempts(r.ctx, fmt.Sprintf("board-%d", i), 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(attempts) != 1 || attempts[0].State != "succeeded" {
			t.Errorf("board-%d needed %+v", i, attempts)
		}
	}
}

// within waits for what nothing tells of: the work of other processes.
func within(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.After(storyTimeout); !done(); {
		select {
		case <-deadline:
			t.Fatalf("not so within %s: %s", storyTimeout, what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// written is how many bytes the files below a directory have.
func written(dir string) (size int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil //nolint:nilerr // files come and go
		}
		if info, err := e.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	return size
}

// stallingProxy stands before the web listener: downloads stop half-way until
// it is opened. It remembers where resumed downloads began.
type stallingProxy struct {
	url     string
	reached chan struct{}
	opened  chan struct{}
	ranges  atomic.Int32 // requests that asked for the rest of a file
}

const stallAfter = 1 << 20

func newStallingProxy(t *testing.T, target string) *stallingProxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	s := &stallingProxy{reached: make(chan struct{}, 100), opened: make(chan struct{})}
	proxy := httputil.NewSingleHostReverseProxy(u)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	proxy.ModifyResponse = func(resp *http.Response) error {
		resp.Body = &stallingBody{ReadCloser: resp.Body, s: s, ctx: resp.Request.Context(), left: stallAfter}
		return nil
	}
	l := listen(t)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			s.ranges.Add(1)
		}
		proxy.ServeHTTP(w, r)
	})}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-ended })
	s.url = "http://" + l.Addr().String()
	return s
}

// stalled waits until a download has stopped half-way.
func (s *stallingProxy) stalled(t *testing.T) {
	t.Helper()
	select {
	case <-s.reached:
	case <-time.After(storyTimeout):
		t.Fatal("no download came")
	}
}

// open lets everything through from now on.
func (s *stallingProxy) open() { close(s.opened) }

type stallingBody struct {
	io.ReadCloser
	s    *stallingProxy
	ctx  context.Context
	left int
}

func (b *stallingBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		select {
		case b.s.reached <- struct{}{}:
		default:
		}
		select {
		case <-b.s.opened:
			b.left = 1 << 62
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		}
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// TestKillLink kills the agent in the middle of a download, which is resumed,
// and again and again while it applies: the board always boots, and in the end
// it proves the new firmware.
func TestKillLink(t *testing.T) {
	t.Parallel()
	p := newServerProcess(t)
	front := newStallingProxy(t, "http://"+p.web)
	p.base = front.url
	r := newRemote(t, p)
	old, next := r.build("1.0.0", 1<<20), r.build("1.1.0", 6<<20)
	r.group(r.publish(old))
	// A device that restarts in the middle of an update failed; here it may do
	// so as often as it likes.
	patient := 1000
	if _, err := r.product.ChangeDeploymentGroup(r.ctx, worldGroup, rest.DeploymentGroupChange{FailureThreshold: &patient}); err != nil {
		t.Fatal(err)
	}
	release := r.publish(next)
	// From then on the checksums of the parts are offered too. What was
	// downloaded without them is not used with them.
	within(t, "the firmware is ready", func() bool {
		f, err := r.product.Firmware(r.ctx, release.UUID)
		return err == nil && f.Status == "ready"
	})
	r.release(release)
	b := simulate.Board{Image: filepath.Join(r.dir, "alpha.img")}
	install(t, b, old)
	config := filepath.Join(r.dir, "link.toml")
	env := simulate.EnvLocation
	linkConfig(t, config, r.devices, filepath.Join(r.data, "tls", "ca.pem"), "alpha", b.Image, filepath.Join(r.dir, "cache"),
		r.secret.Key, r.secret.Secret, fwup.FormatPublicKey(r.public), [3]int64{env.Offset, env.Redundant, env.Size})

	run := boot(t, b, config)
	front.stalled(t)
	within(t, "anything of the download is on the disk", func() bool { return written(filepath.Join(r.dir, "cache")) > 0 })
	kill(t, run.Cmd)
	front.open()

	// Each round kills a little later, from before the download goes on to
	// after the restart into the new firmware.
	versions := map[string]bool{}
	kills := 0
	for after := time.Duration(0); ; after += after/4 + 10*time.Millisecond {
		if after > storyTimeout/3 {
			attempts, err := r.product.DeviceAttempts(r.ctx, "alpha", 0)
			t.Fatalf("the board does not get to 1.1.0; attempts %+v, %v", attempts, err)
		}
		run = boot(t, b, config)
		versions[run.version] = true
		select {
		case status := <-run.ended:
			if status != 75 {
				t.Fatalf("the agent ended with status %d: %s", status, run.log)
			}
		case <-time.After(after):
			kill(t, run.Cmd)
			<-run.ended
			kills++
		}
		if run.version == "1.1.0" {
			break
		}
	}
	if kills == 0 || !versions["1.0.0"] || !versions["1.1.0"] {
		t.Fatalf("%d kills, booted %v", kills, versions)
	}
	if front.ranges.Load() == 0 {
		t.Error("the download was never resumed")
	}
	t.Logf("killed %d times before 1.1.0 came up", kills)
	run = boot(t, b, config)
	r.await("the board proves 1.1.0", r.proven(1))
	if err := run.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if status := <-run.ended; status != 0 {
		t.Errorf("the agent ended with status %d after a signal: %s", status, run.log)
	}
}

// booted is an agent on a board that was just switched on.
type booted struct {
	*exec.Cmd
	version string
	ended   chan int
	log     *strings.Builder
}

// boot does what the boot loader does, which must find something to boot, and
// runs the agent.
func boot(t *testing.T, b simulate.Board, config string) booted {
	t.Helper()
	running, err := b.Boot()
	if err != nil {
		t.Fatalf("the board does not boot: %v", err)
	}
	run := booted{Cmd: program(t, "ganglion-link", "--config", config), version: running.Version, ended: make(chan int, 1), log: &strings.Builder{}}
	run.Stderr = run.log
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = run.Wait() // the exit code says it
		run.ended <- run.ProcessState.ExitCode()
	}()
	return run
}
