package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ganglion-iot/ganglion/fwup"
)

// progressPause is the least time between two progress reports.
const progressPause = 500 * time.Millisecond

// maxConcurrentParts bounds Download.ConcurrentParts.
const maxConcurrentParts = 16

// errNoKeys is the refusal of an update that could not be verified.
var errNoKeys = errors.New("Refusing unverified firmware : no public keys available") //nolint:staticcheck // as devices of the original say it

// reporter is how an updater tells the server: implemented by the Link.
type reporter interface {
	status(payload map[string]any, keep bool)
	progress(stage Stage, percent int)
}

// updater takes one update at a time from the offer to the written slot.
type updater struct {
	opts   Options
	report reporter
	mu     sync.Mutex
	keys   []fwup.PublicKey
	target string // uuid of the update in progress; "" when idle

	slot    sync.Mutex  // held while an update is written, and while the running firmware is marked good
	written atomic.Bool // the slot is switched; set while slot is held
}

// downloading is the uuid of the update in progress, for the join.
func (u *updater) downloading() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.target
}

func (u *updater) setKeys(keys []fwup.PublicKey) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.keys = keys
}

func (u *updater) publicKeys() []fwup.PublicKey {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.keys
}

// begin claims the updater for an offer; false while another update runs.
func (u *updater) begin(uuid string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.target != "" {
		return false
	}
	u.target = uuid
	return true
}

func (u *updater) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.target = ""
}

// run handles one offer and reports whether the device shall reboot. The
// caller must have won begin. Unless the device shall reboot, the updater is
// free again before the server is told the outcome: it may answer with the
// next offer. Otherwise it stays claimed, as nothing may start between the
// written slot and the restart.
func (u *updater) run(ctx context.Context, offer Update, running Firmware) (reboot bool) {
	decision := u.opts.Client.UpdateAvailable(ctx, offer)
	switch decision.Verdict {
	case Ignore:
		u.end()
		u.report.status(map[string]any{"status": "ignored", "reason": decision.Reason}, true)
		return false
	case Reschedule:
		u.end()
		minutes := max(5, int(decision.Delay.Round(time.Minute)/time.Minute))
		u.report.status(map[string]any{"status": "rescheduled", "delay_for": minutes, "reason": decision.Reason}, true)
		return false
	}
	err := u.apply(ctx, offer, running)
	if err == nil {
		u.progress(offer, Updating, 100)
		u.opts.Client.UpdateApplied(offer)
		u.report.status(map[string]any{"status": "completed"}, true)
		return true
	}
	if ctx.Err() != nil {
		u.end()
		return false // stopping; nothing is decided, the download is kept
	}
	u.opts.Client.UpdateFailed(offer, err)
	u.end()
	u.report.status(map[string]any{"status": "failed", "reason": reason(err)}, true)
	return false
}

// reason words an error as devices of the original do.
func reason(err error) string {
	var fe *fwup.Error
	text := err.Error()
	switch {
	case errors.Is(err, errNoKeys), strings.HasPrefix(text, "Download failed"):
	case errors.As(err, &fe):
		text = fmt.Sprintf("FWUP error : %q", fe.Error())
	default:
		text = "Update failed : " + text
	}
	if len(text) > 500 {
		text = strings.ToValidUTF8(text[:500], "")
	}
	return text
}

func (u *updater) apply(ctx context.Context, offer Update, running Firmware) error {
	keys := u.publicKeys()
	if len(keys) == 0 {
		return errNoKeys
	}
	if offer.Size > u.opts.Download.MaxSize {
		return refusedDownload(fmt.Sprintf("the file has %d bytes; at most %d are taken", offer.Size, u.opts.Download.MaxSize))
	}
	u.report.status(map[string]any{"status": "received"}, false)
	job := &job{updater: u, offer: offer, running: running, keys: keys}
	if u.opts.CacheDir == "" || u.opts.Strategy == Streaming {
		return job.stream(ctx)
	}
	err := job.viaCache(ctx)
	var broken *cacheError
	if u.opts.Strategy != Automatic || ctx.Err() != nil || !errors.As(err, &broken) {
		return err
	}
	u.opts.Logger.Warn("the cache cannot be used; streaming the update", "error", err)
	return job.stream(ctx)
}

// job is one update that was taken.
type job struct {
	*updater
	offer   Update
	running Firmware // the update must be for the same hardware
	keys    []fwup.PublicKey
}

// limited bounds a download by Download.Timeout.
func (d Download) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d.Timeout, refusedDownload(fmt.Sprintf("not finished within %s", d.Timeout)))
}

// fits refuses a firmware that is not the one offered, or not for this
// hardware. The metadata is signed; the offer is not.
func fits(got fwup.Metadata, offered, running Firmware) error {
	switch {
	case offered.UUID != "" && got.UUID != offered.UUID:
		return fmt.Errorf("the file is firmware %s, not the %s that was offered", got.UUID, offered.UUID)
	case running.Platform != "" && got.Platform != running.Platform:
		return fmt.Errorf("the firmware is for platform %q, this device is %q", got.Platform, running.Platform)
	case running.Architecture != "" && got.Architecture != running.Architecture:
		return fmt.Errorf("the firmware is for architecture %q, this device is %q", got.Architecture, running.Architecture)
	case running.Product != "" && got.Product != running.Product:
		return fmt.Errorf("the firmware is for product %q, this device is %q", got.Product, running.Product)
	}
	return nil
}

// stream writes the download straight to the device. The slot is switched by
// the last step of the firmware's task, after every hash was checked; the
// signature is checked before the first byte is written.
func (j *job) stream(ctx context.Context) error {
	ctx, cancel := j.opts.Download.limited(ctx)
	defer cancel()
	d := newDownload(ctx, j.offer.URL, 0, j.opts.Download, j.opts.Logger, j.downloadStarted)
	defer d.Close()
	err := func() error {
		head := &prefix{r: d}
		info, err := fwup.ReadMetadata(head, j.keys)
		if err != nil {
			return err
		}
		if err := fits(info.Metadata, j.offer.Firmware, j.running); err != nil {
			return err
		}
		_, err = j.write(ctx, head.replay(), false)
		return err
	}()
	if err != nil && d.failed != nil {
		return d.failed // not how the reader of the archive words it
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// write applies the firmware to the target. An error is of the target, and not
// of the file, when broken is true.
func (j *job) write(ctx context.Context, r io.Reader, verifyFirst bool) (broken bool, err error) {
	j.slot.Lock()
	defer j.slot.Unlock()
	opened, err := j.opts.Target.Open()
	if err != nil {
		return true, fmt.Errorf("open the target: %w", err)
	}
	dev := &target{TargetDevice: opened}
	_, err = fwup.Apply(ctx, r, dev, fwup.ApplyOptions{
		Task: j.opts.Task, PublicKeys: j.keys, VerifyFirst: verifyFirst, High: 100,
		Progress: func(p fwup.Progress) { j.progress(j.offer, Updating, min(p.Percent, 99)) },
		Warn:     func(text string) { j.opts.Client.UpdateMessage(j.offer, text) },
	})
	if err == nil {
		j.written.Store(true)
	}
	if closeErr := dev.Close(); err == nil && closeErr != nil {
		// Everything is durable and the slot is switched; there is no way back.
		j.opts.Logger.Warn("could not close the target", "error", closeErr)
	}
	return dev.broken.Load(), err
}

// target notes whether the device it stands for fails.
type target struct {
	TargetDevice
	broken atomic.Bool
}

func (t *target) note(err error) error {
	if err != nil && !errors.Is(err, io.EOF) {
		t.broken.Store(true)
	}
	return err
}

// ReadAt implements fwup.BlockDevice.
func (t *target) ReadAt(p []byte, off int64) (int, error) {
	n, err := t.TargetDevice.ReadAt(p, off)
	return n, t.note(err)
}

// WriteAt implements fwup.BlockDevice.
func (t *target) WriteAt(p []byte, off int64) (int, error) {
	n, err := t.TargetDevice.WriteAt(p, off)
	return n, t.note(err)
}

// Sync implements fwup.BlockDevice.
func (t *target) Sync() error { return t.note(t.TargetDevice.Sync()) }

// Growable implements fwup.Grower.
func (t *target) Growable() bool {
	g, ok := t.TargetDevice.(fwup.Grower)
	return !ok || g.Growable()
}

func (u *updater) downloadStarted(iface string) {
	payload := map[string]any{"status": "started", "downloader_network_interface": nil}
	if iface != "" {
		payload["downloader_network_interface"] = iface
	}
	u.report.status(payload, false)
}

func (u *updater) progress(offer Update, stage Stage, percent int) {
	u.opts.Client.UpdateProgress(offer, stage, percent)
	u.report.progress(stage, percent)
}

// prefix remembers what is read through it, so that the same bytes can be
// read once more.
type prefix struct {
	r    io.Reader
	seen []byte
}

func (p *prefix) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.seen = append(p.seen, b[:n]...)
	return n, err
}

func (p *prefix) replay() io.Reader {
	return io.MultiReader(bytes.NewReader(p.seen), p.r)
}
