package link

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"time"
)

// ErrRebooting is what Run returns once the Client accepted the order to
// restart the device.
var ErrRebooting = errors.New("link: the device is rebooting")

// Update is an offer of the server.
type Update struct {
	Firmware Firmware // the target, as the server describes it; not yet verified
	URL      string
	Size     int64  // bytes to download; 0 when unknown
	Checksum string // SHA-256 of the file at URL, hex; "" when unknown
	// Parts are the SHA-256 of each part of DefaultPartSize bytes of the file at
	// URL, in order; nil when the server gave none, or none that can be read.
	Parts [][sha256.Size]byte
}

// Archive is an offer of files beside the firmware.
type Archive struct {
	UUID                                         string
	Version, Platform, Architecture, Description string
	URL                                          string
	Size                                         int64     // bytes; 0 when unknown
	UploadedAt                                   time.Time // UTC; zero when unknown
}

// Verdict is what a device does with an offer.
type Verdict int

// The verdicts.
const (
	Apply      Verdict = iota // take it now: write the update, download the archive
	Ignore                    // do not take it; the server stops offering it for a while
	Reschedule                // later, after Decision.Delay
)

// Decision is the answer of a Client to an offer. A rescheduled update is
// forgotten and offered again by the server; for a rescheduled archive the
// device keeps the time itself.
type Decision struct {
	Verdict Verdict
	Reason  string        // for Ignore and Reschedule of an update; may be empty
	Delay   time.Duration // for Reschedule; of an update at least five minutes are reported
}

// Stage says what an update is doing.
type Stage string

// The stages of an update, as the server is told them.
const (
	Downloading Stage = "downloading"
	Updating    Stage = "updating"
)

// Client is what a device decides and does itself. Calls come from up to five
// goroutines of the Link, and within each of them one after the other:
//
//   - the one of the update in progress: UpdateAvailable, UpdateProgress,
//     UpdateMessage, UpdateApplied and UpdateFailed;
//   - the one of archives: ArchiveAvailable, ArchiveReady and ArchiveFailed;
//   - the one of Identify;
//   - the one of Validate, beside the connection;
//   - that of Run: all others. The connection waits for them.
//
// No call is made before Run is called or after it returned. Methods should
// return soon, and at the latest when ctx ends. Embed DefaultClient and
// override what matters: then methods added later do no harm. Pauses between
// connections and errors of the connection are told to Options.BackoffFunc and
// Options.OnError.
type Client interface {
	// UpdateAvailable decides about an offer.
	UpdateAvailable(ctx context.Context, u Update) Decision
	// UpdateProgress tells how far an update is, in percent of the stage. It is
	// called at each whole percent; what the server is told is less.
	UpdateProgress(u Update, stage Stage, percent int)
	// UpdateMessage passes on an info or warning the firmware printed.
	UpdateMessage(u Update, text string)
	// UpdateApplied tells that an update was written and verified. Reboot
	// follows.
	UpdateApplied(u Update)
	// UpdateFailed tells that an update ended without success. The running
	// firmware is untouched.
	UpdateFailed(u Update, err error)

	// ArchiveAvailable decides about an archive: Apply downloads it. The same
	// archive may be offered many times; it is not asked about while it waits
	// for its time, nor once ArchiveReady took it.
	ArchiveAvailable(ctx context.Context, a Archive) Decision
	// ArchiveReady hands over the file of an archive. It is complete, and signed
	// by one of the keys. A file that is there from an earlier run is handed
	// over again, once for each run, without a question; one that was moved away
	// is asked about in the next run.
	// After an error the file stays and is handed over again when the server
	// offers the archive the next time.
	ArchiveReady(ctx context.Context, a Archive, path string) error
	// ArchiveFailed tells why there is no file. The next offer tries again.
	ArchiveFailed(a Archive, err error)

	// Reboot restarts the device. After a nil error Run returns ErrRebooting.
	// After an error the device runs on; when an update waits for the restart,
	// Reboot is called again later.
	Reboot(ctx context.Context) error
	// Identify makes the device noticeable to somebody standing beside it.
	Identify(ctx context.Context)
	// Validate is asked before the running firmware is marked good, after the
	// server accepted it. It may take its time: the connection goes on, though
	// Options.ValidateWithin runs on. It is asked once at a time. An error
	// leaves the firmware unproven; Validate is asked again at the next join,
	// and the device falls back when none agrees in time.
	Validate(ctx context.Context) error
	// FirmwareValidated tells that the running firmware was marked good.
	FirmwareValidated()
	// AutoRevertDetected tells once in a run that the device fell back from a
	// firmware that was never proven to the one that runs.
	AutoRevertDetected()

	// Connected and Disconnected tell about the connection.
	Connected()
	Disconnected(err error)
}

// DefaultClient applies every update that is not running already, ignores
// archives, logs, and cannot reboot.
type DefaultClient struct {
	Running func() Firmware // what runs now; nil: unknown
	Logger  *slog.Logger    // nil: the default logger
}

var _ Client = DefaultClient{}

func (c DefaultClient) log() *slog.Logger {
	if c.Logger == nil {
		return slog.Default()
	}
	return c.Logger
}

// UpdateAvailable ignores the firmware that runs already and applies any other.
func (c DefaultClient) UpdateAvailable(_ context.Context, u Update) Decision {
	if c.Running != nil && c.Running().UUID == u.Firmware.UUID {
		return Decision{Verdict: Ignore, Reason: "this firmware is running already"}
	}
	return Decision{Verdict: Apply}
}

// UpdateProgress does nothing.
func (c DefaultClient) UpdateProgress(Update, Stage, int) {}

// UpdateMessage logs the text.
func (c DefaultClient) UpdateMessage(u Update, text string) {
	c.log().Info("firmware message", "firmware.uuid", u.Firmware.UUID, "text", text)
}

// UpdateApplied logs.
func (c DefaultClient) UpdateApplied(u Update) {
	c.log().Info("update written", "firmware.uuid", u.Firmware.UUID)
}

// UpdateFailed logs the error.
func (c DefaultClient) UpdateFailed(u Update, err error) {
	c.log().Error("update failed", "firmware.uuid", u.Firmware.UUID, "error", err)
}

// ArchiveAvailable ignores the archive.
func (c DefaultClient) ArchiveAvailable(context.Context, Archive) Decision {
	return Decision{Verdict: Ignore}
}

// ArchiveReady logs where the file is.
func (c DefaultClient) ArchiveReady(_ context.Context, a Archive, path string) error {
	c.log().Info("archive ready", "archive.uuid", a.UUID, "path", path)
	return nil
}

// ArchiveFailed logs the error.
func (c DefaultClient) ArchiveFailed(a Archive, err error) {
	c.log().Error("archive failed", "archive.uuid", a.UUID, "error", err)
}

// Reboot refuses: a library cannot know how.
func (c DefaultClient) Reboot(context.Context) error {
	return errors.New("no reboot hook is configured")
}

// Identify logs.
func (c DefaultClient) Identify(context.Context) { c.log().Info("identify") }

// Validate agrees.
func (c DefaultClient) Validate(context.Context) error { return nil }

// FirmwareValidated logs.
func (c DefaultClient) FirmwareValidated() { c.log().Info("the firmware was marked good") }

// AutoRevertDetected logs.
func (c DefaultClient) AutoRevertDetected() {
	c.log().Warn("the device fell back from a firmware that was never proven")
}

// Connected logs.
func (c DefaultClient) Connected() { c.log().Info("connected") }

// Disconnected logs.
func (c DefaultClient) Disconnected(err error) { c.log().Warn("disconnected", "error", err) }
