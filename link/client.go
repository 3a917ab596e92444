package link

import (
	"context"
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
}

// Verdict is what a device does with an offer.
type Verdict int

// The verdicts.
const (
	Apply      Verdict = iota // take it now
	Ignore                    // do not take it; the server stops offering it for a while
	Reschedule                // later: the server offers it again after Decision.Delay
)

// Decision is the answer of a Client to an offer.
type Decision struct {
	Verdict Verdict
	Reason  string        // for Ignore and Reschedule; may be empty
	Delay   time.Duration // for Reschedule; at least five minutes are reported
}

// Stage says what an update is doing.
type Stage string

// The stages of an update, as the server is told them.
const (
	Downloading Stage = "downloading"
	Updating    Stage = "updating"
)

// Client is what a device decides and does itself. Those about updates are
// called from one goroutine, one after the other; so is Identify; all others
// are called from the goroutine of Run, and the connection waits for them. So
// up to three calls can run at once. Methods should return soon, and at the
// latest when ctx ends. Embed DefaultClient and override what matters.
type Client interface {
	// UpdateAvailable decides about an offer.
	UpdateAvailable(ctx context.Context, u Update) Decision
	// UpdateProgress tells how far an update is, in percent of the stage.
	UpdateProgress(u Update, stage Stage, percent int)
	// UpdateMessage passes on an info or warning the firmware printed.
	UpdateMessage(u Update, text string)
	// UpdateFailed tells that an update ended without success. The running
	// firmware is untouched.
	UpdateFailed(u Update, err error)
	// Reboot restarts the device. After a nil error Run returns ErrRebooting.
	// After an error the device runs on; when an update waits for the restart,
	// Reboot is called again later.
	Reboot(ctx context.Context) error
	// Identify makes the device noticeable to somebody standing beside it.
	Identify(ctx context.Context)
	// Validate is asked before the running firmware is marked good, after the
	// server accepted it. An error leaves it unproven; Validate is asked again
	// at the next join, and the device falls back when none agrees in time.
	Validate(ctx context.Context) error
	// Connected and Disconnected tell about the connection.
	Connected()
	Disconnected(err error)
}

// DefaultClient applies every update that is not running already, logs, and
// cannot reboot.
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

// UpdateFailed logs the error.
func (c DefaultClient) UpdateFailed(u Update, err error) {
	c.log().Error("update failed", "firmware.uuid", u.Firmware.UUID, "error", err)
}

// Reboot refuses: a library cannot know how.
func (c DefaultClient) Reboot(context.Context) error {
	return errors.New("no reboot hook is configured")
}

// Identify logs.
func (c DefaultClient) Identify(context.Context) { c.log().Info("identify") }

// Validate agrees.
func (c DefaultClient) Validate(context.Context) error { return nil }

// Connected logs.
func (c DefaultClient) Connected() { c.log().Info("connected") }

// Disconnected logs.
func (c DefaultClient) Disconnected(err error) { c.log().Warn("disconnected", "error", err) }
