package link

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ganglion-iot/ganglion/fwup"
)

// progressPause is the least time between two progress reports.
const progressPause = 500 * time.Millisecond

// partial ends the names of files in the cache.
const partial = ".fw.partial"

// maxConcurrentParts bounds Download.ConcurrentParts.
const maxConcurrentParts = 16

// maxRestarts is how often a download begins anew because the file changed.
const maxRestarts = 3

var (
	errSize     = errors.New("Download failed : the file has the wrong size") //nolint:staticcheck // reported as devices of the original do
	errChecksum = errors.New("the download is not the file that was offered")
)

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
	ctx, cancel := context.WithTimeout(ctx, u.opts.Download.Timeout)
	defer cancel()
	if u.opts.CacheDir == "" {
		return u.stream(ctx, offer, running, keys)
	}
	return u.cached(ctx, offer, running, keys)
}

// cached downloads the whole file, verifies everything and only then touches
// the device. What an earlier run left may be damaged, by a power cut or as
// another file of the same name: then one fresh download decides.
func (u *updater) cached(ctx context.Context, offer Update, running Firmware, keys []fwup.PublicKey) error {
	for again := false; ; again = true {
		f, resumed, err := u.fetch(ctx, offer)
		if err != nil {
			return err
		}
		err = u.applyFile(ctx, offer, running, keys, f)
		f.Close()
		if err != nil && ctx.Err() != nil {
			return err // the next run goes on with the file
		}
		// Applied, or not worth keeping: the next try starts from nothing.
		if rmErr := os.Remove(f.Name()); rmErr != nil {
			u.opts.Logger.Warn("could not clear the cache", "error", rmErr)
		}
		damaged := errors.Is(err, errChecksum) || err != nil && offer.Checksum == ""
		if !damaged || !resumed || again {
			return err
		}
		u.opts.Logger.Warn("the file in the cache is damaged; downloading it again", "firmware.uuid", offer.Firmware.UUID, "error", err)
	}
}

// applyFile verifies a complete download and writes it.
func (u *updater) applyFile(ctx context.Context, offer Update, running Firmware, keys []fwup.PublicKey, f *os.File) error {
	if err := checkSum(ctx, f, offer.Checksum); err != nil {
		return err
	}
	if err := rewind(f); err != nil {
		return err
	}
	info, err := fwup.ReadMetadata(bufio.NewReaderSize(f, 64<<10), keys)
	if err != nil {
		return err
	}
	if err := fits(info.Metadata, offer.Firmware, running); err != nil {
		return err
	}
	if err := rewind(f); err != nil {
		return err
	}
	return u.write(ctx, offer, f, keys, true)
}

func rewind(f *os.File) error {
	_, err := f.Seek(0, io.SeekStart)
	return err
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

// fetch downloads into the cache, going on where an earlier try stopped: then
// resumed is true. The caller closes the file.
func (u *updater) fetch(ctx context.Context, offer Update) (f *os.File, resumed bool, err error) {
	if err := os.MkdirAll(u.opts.CacheDir, 0o700); err != nil {
		return nil, false, fmt.Errorf("make the cache directory: %w", err)
	}
	name := filepath.Join(u.opts.CacheDir, cacheName(offer.Firmware.UUID)+partial)
	if err := u.forgetOthers(name); err != nil {
		return nil, false, err
	}
	f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("open the cache: %w", err)
	}
	resumed, err = u.fill(ctx, offer, f)
	if err != nil {
		f.Close()
		return nil, false, err
	}
	return f, resumed, nil
}

// fill completes the cache file and reports whether a part of it was there.
func (u *updater) fill(ctx context.Context, offer Update, f *os.File) (resumed bool, err error) {
	for restarts := 0; ; restarts++ {
		from, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return false, err
		}
		resumed := from > 0
		if offer.Size > 0 && from == offer.Size {
			u.progress(offer, Downloading, 100)
			return resumed, nil
		}
		err = u.rest(ctx, offer, f, from)
		var status *HTTPStatusError
		switch {
		case err == nil:
			return resumed, f.Sync()
		case errors.Is(err, errRestart) && restarts < maxRestarts:
			if err := f.Truncate(0); err != nil {
				return false, err
			}
			continue
		case errors.As(err, &status), errors.Is(err, errRestart), errors.Is(err, errSize):
			return false, errors.Join(err, os.Remove(f.Name()))
		}
		return false, err
	}
}

// rest appends what of the file is missing.
func (u *updater) rest(ctx context.Context, offer Update, f *os.File, from int64) error {
	d := newDownload(ctx, offer.URL, from, u.opts.Download, u.opts.Logger, u.downloadStarted)
	defer d.Close()
	meter := &meter{r: d, done: from, total: func() int64 { return d.size }, tell: func(p int) { u.progress(offer, Downloading, p) }}
	if _, err := io.Copy(f, meter); err != nil {
		return err
	}
	if offer.Size > 0 && d.size != offer.Size {
		return fmt.Errorf("%w: %d bytes instead of %d", errSize, d.size, offer.Size)
	}
	return nil
}

// forgetOthers removes what earlier offers left in the cache.
func (u *updater) forgetOthers(keep string) error {
	entries, err := os.ReadDir(u.opts.CacheDir)
	if err != nil {
		return fmt.Errorf("clear the cache: %w", err)
	}
	for _, e := range entries {
		name := filepath.Join(u.opts.CacheDir, e.Name())
		if name == keep || !strings.HasSuffix(name, partial) {
			continue
		}
		if err := os.Remove(name); err != nil {
			return fmt.Errorf("clear the cache: %w", err)
		}
	}
	return nil
}

// cacheName makes a file name of a uuid that came over the wire.
func cacheName(uuid string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-':
			return r
		}
		return '_'
	}, uuid[:min(len(uuid), 64)])
}

// checkSum compares the file with the checksum of the offer, if it has one.
func checkSum(ctx context.Context, f *os.File, want string) error {
	if want == "" {
		return nil
	}
	if err := rewind(f); err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.Copy(h, &contextReader{ctx, f}); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); !strings.EqualFold(got, want) {
		return fmt.Errorf("%w: SHA-256 %s instead of %s", errChecksum, got, strings.ToLower(want))
	}
	return nil
}

// stream writes the download straight to the device. The slot is switched by
// the last step of the firmware's task, after every hash was checked; the
// signature is checked before the first byte is written.
func (u *updater) stream(ctx context.Context, offer Update, running Firmware, keys []fwup.PublicKey) error {
	d := newDownload(ctx, offer.URL, 0, u.opts.Download, u.opts.Logger, u.downloadStarted)
	defer d.Close()
	err := func() error {
		head := &prefix{r: d}
		info, err := fwup.ReadMetadata(head, keys)
		if err != nil {
			return err
		}
		if err := fits(info.Metadata, offer.Firmware, running); err != nil {
			return err
		}
		return u.write(ctx, offer, head.replay(), keys, false)
	}()
	if err != nil && d.failed != nil {
		return d.failed // not how the reader of the archive words it
	}
	return err
}

// write applies the firmware to the target.
func (u *updater) write(ctx context.Context, offer Update, r io.Reader, keys []fwup.PublicKey, verifyFirst bool) error {
	dev, err := u.opts.Target.Open()
	if err != nil {
		return fmt.Errorf("open the target: %w", err)
	}
	_, err = fwup.Apply(ctx, r, dev, fwup.ApplyOptions{
		Task: u.opts.Task, PublicKeys: keys, VerifyFirst: verifyFirst, High: 100,
		Progress: func(p fwup.Progress) { u.progress(offer, Updating, min(p.Percent, 99)) },
		Warn:     func(text string) { u.opts.Client.UpdateMessage(offer, text) },
	})
	if closeErr := dev.Close(); err == nil && closeErr != nil {
		// Everything is durable and the slot is switched; there is no way back.
		u.opts.Logger.Warn("could not close the target", "error", closeErr)
	}
	return err
}

func (u *updater) downloadStarted() {
	u.report.status(map[string]any{"status": "started", "downloader_network_interface": nil}, false)
}

func (u *updater) progress(offer Update, stage Stage, percent int) {
	u.opts.Client.UpdateProgress(offer, stage, percent)
	u.report.progress(stage, percent)
}

// meter tells the whole percents of what is read through it.
type meter struct {
	r     io.Reader
	done  int64
	total func() int64
	last  int
	tell  func(percent int)
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.done += int64(n)
	if total := m.total(); total > 0 {
		if percent := int(m.done * 100 / total); percent > m.last {
			m.last = percent
			m.tell(percent)
		}
	}
	return n, err
}

// contextReader stops reading when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
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
