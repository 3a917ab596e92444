package agent

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ganglion-iot/ganglion/link"
)

const (
	// afterFailure is how long an offer is put off that a hook could not decide.
	afterFailure = 30 * time.Minute
	// maxMinutes bounds how long a hook may put an offer off.
	maxMinutes = 366 * 24 * 60
	// reconnectLimit bounds the hook the next connection waits for.
	reconnectLimit = 10 * time.Second
	// progressEvery is the least time between two progress hooks of one stage.
	progressEvery = 5 * time.Second
)

// client lets the configured commands decide and tells them what happens.
type client struct {
	link.DefaultClient
	hooks   Hooks
	runner  runner
	notices *notices
	log     *slog.Logger
	say     func(string)  // one line for the service manager
	busy    *atomic.Int32 // hooks the connection waits for

	mu       sync.Mutex
	progress progressState
}

// progressState is how far the hooks know of an update.
type progressState struct {
	update  link.Update
	stage   link.Stage
	percent int
	told    time.Time
	waiting bool // a command will tell it
}

var _ link.Client = (*client)(nil)

func newClient(c Config, o link.Options, log *slog.Logger, say func(string)) *client {
	running := func() link.Firmware {
		r, err := o.Slots.Running(context.Background())
		if err != nil {
			return link.Firmware{}
		}
		return r.Firmware
	}
	return &client{
		DefaultClient: link.DefaultClient{Running: running, Logger: log},
		hooks:         c.Hooks,
		runner:        runner{log: log, timeout: c.hookTimeout(), env: variables([]string{"HOST", o.Host, "IDENTIFIER", o.Identifier})},
		notices:       startNotices(log),
		log:           log, say: say, busy: new(atomic.Int32),
	}
}

// close waits for the hooks.
func (c *client) close() { c.notices.close() }

// tell runs a hook later, beside the connection.
func (c *client) tell(event string, h hook, vars ...string) {
	if len(h.Command) == 0 {
		return
	}
	c.notices.add(event, func(ctx context.Context) { c.do(ctx, event, h, vars...) })
}

// do runs a hook and logs its failure.
func (c *client) do(ctx context.Context, event string, h hook, vars ...string) {
	if _, err := c.runner.run(ctx, event, h, append(vars, c.runningVars()...)...); err != nil {
		c.log.Error("hook failed", "hook", event, "error", err)
	}
}

// wait runs a hook the connection waits for.
func (c *client) wait(ctx context.Context, event string, h hook, vars ...string) (result, error) {
	c.busy.Add(1)
	defer c.busy.Add(-1)
	return c.runner.run(ctx, event, h, append(vars, c.runningVars()...)...)
}

func (c *client) runningVars() []string {
	r := c.Running()
	return []string{"RUNNING_UUID", r.UUID, "RUNNING_VERSION", r.Version}
}

func firmwareVars(f link.Firmware) []string {
	return []string{
		"FIRMWARE_UUID", f.UUID, "FIRMWARE_PRODUCT", f.Product, "FIRMWARE_VERSION", f.Version,
		"FIRMWARE_PLATFORM", f.Platform, "FIRMWARE_ARCHITECTURE", f.Architecture, "FIRMWARE_AUTHOR", f.Author,
		"FIRMWARE_DESCRIPTION", f.Description, "FIRMWARE_VCS_IDENTIFIER", f.VCSIdentifier, "FIRMWARE_MISC", f.Misc,
	}
}

func updateVars(u link.Update, more ...string) []string {
	return append(append(firmwareVars(u.Firmware), "URL", u.URL, "SIZE", number(u.Size), "CHECKSUM", u.Checksum), more...)
}

func archiveVars(a link.Archive, more ...string) []string {
	return append([]string{
		"ARCHIVE_UUID", a.UUID, "ARCHIVE_VERSION", a.Version, "ARCHIVE_PLATFORM", a.Platform,
		"ARCHIVE_ARCHITECTURE", a.Architecture, "ARCHIVE_DESCRIPTION", a.Description, "URL", a.URL, "SIZE", number(a.Size),
	}, more...)
}

// number is empty for a size that is not known.
func number(n int64) string {
	if n <= 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// UpdateAvailable asks the hook, unless the firmware runs already.
func (c *client) UpdateAvailable(ctx context.Context, u link.Update) link.Decision {
	d := c.DefaultClient.UpdateAvailable(ctx, u)
	if d.Verdict != link.Apply || len(c.hooks.UpdateAvailable.Command) == 0 {
		return d
	}
	return c.decide(ctx, "update_available", c.hooks.UpdateAvailable, updateVars(u))
}

// ArchiveAvailable asks the hook; without one every archive is taken.
func (c *client) ArchiveAvailable(ctx context.Context, a link.Archive) link.Decision {
	return c.decide(ctx, "archive_available", c.hooks.ArchiveAvailable, archiveVars(a))
}

// decide runs a hook that answers an offer. An offer the hook cannot decide is
// put off: taking it might harm, and refusing it for good would leave the
// device without the update that mends the hook.
func (c *client) decide(ctx context.Context, event string, h hook, vars []string) link.Decision {
	res, err := c.runner.run(ctx, event, h, append(vars, c.runningVars()...)...)
	if err == nil {
		return link.Decision{Verdict: link.Apply}
	}
	switch res.status {
	case exitIgnore:
		return link.Decision{Verdict: link.Ignore, Reason: res.first}
	case exitReschedule:
		first, reason, _ := strings.Cut(res.first, " ")
		minutes, perr := strconv.Atoi(first)
		if perr == nil && minutes > 0 && minutes <= maxMinutes {
			return link.Decision{Verdict: link.Reschedule, Reason: strings.TrimSpace(reason), Delay: time.Duration(minutes) * time.Minute}
		}
		err = fmt.Errorf("hook %s: %q does not begin with the minutes to wait", event, res.first)
	}
	c.log.Error("hook failed", "hook", event, "error", err)
	return link.Decision{Verdict: link.Reschedule, Reason: err.Error(), Delay: afterFailure}
}

// UpdateProgress tells the first and the last of each stage, and between them
// what there is every few seconds.
func (c *client) UpdateProgress(u link.Update, stage link.Stage, percent int) {
	c.say(fmt.Sprintf("%s %s: %d %%", stage, u.Firmware.Version, percent))
	if len(c.hooks.UpdateProgress.Command) == 0 {
		return
	}
	every := c.hooks.ProgressEvery.Duration
	if every == 0 {
		every = progressEvery
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &c.progress
	first := p.stage != stage || p.update.Firmware.UUID != u.Firmware.UUID
	p.update, p.stage, p.percent = u, stage, percent
	if p.waiting || !first && percent < 100 && time.Since(p.told) < every {
		return
	}
	p.told = time.Now()
	p.waiting = c.notices.add("update_progress", c.tellProgress)
}

// tellProgress tells what is known when the turn has come.
func (c *client) tellProgress(ctx context.Context) {
	c.mu.Lock()
	p := c.progress
	c.progress.waiting = false
	c.mu.Unlock()
	c.do(ctx, "update_progress", c.hooks.UpdateProgress,
		updateVars(p.update, "STAGE", string(p.stage), "PERCENT", strconv.Itoa(p.percent))...)
}

// UpdateMessage tells the hook.
func (c *client) UpdateMessage(u link.Update, text string) {
	c.DefaultClient.UpdateMessage(u, text)
	c.tell("update_message", c.hooks.UpdateMessage, updateVars(u, "TEXT", text)...)
}

// UpdateApplied runs its hook to the end: the reboot follows.
func (c *client) UpdateApplied(u link.Update) {
	c.DefaultClient.UpdateApplied(u)
	c.say("update to " + u.Firmware.Version + " is written")
	c.do(context.Background(), "update_applied", c.hooks.UpdateApplied, updateVars(u)...)
}

// UpdateFailed tells the hook.
func (c *client) UpdateFailed(u link.Update, err error) {
	c.DefaultClient.UpdateFailed(u, err)
	c.say("update failed: " + err.Error())
	c.tell("update_failed", c.hooks.UpdateFailed, updateVars(u, "ERROR", err.Error())...)
}

// ArchiveReady runs its hook, which takes the file.
func (c *client) ArchiveReady(ctx context.Context, a link.Archive, path string) error {
	if err := c.DefaultClient.ArchiveReady(ctx, a, path); err != nil {
		return err
	}
	_, err := c.runner.run(ctx, "archive_ready", c.hooks.ArchiveReady, append(archiveVars(a, "PATH", path), c.runningVars()...)...)
	return err
}

// ArchiveFailed tells the hook.
func (c *client) ArchiveFailed(a link.Archive, err error) {
	c.DefaultClient.ArchiveFailed(a, err)
	c.tell("archive_failed", c.hooks.ArchiveFailed, archiveVars(a, "ERROR", err.Error())...)
}

// Reboot runs the reboot hook, "reboot" by default. The end of the agent does
// not end it: a device that restarts stops its agent first.
func (c *client) Reboot(ctx context.Context) error {
	h := c.hooks.Reboot
	if len(h.Command) == 0 {
		h.Command = []string{"reboot"}
	}
	c.say("restarting the device")
	_, err := c.wait(context.WithoutCancel(ctx), "reboot", h)
	return err
}

// Identify runs the identify hook.
func (c *client) Identify(ctx context.Context) {
	if len(c.hooks.Identify.Command) == 0 {
		c.DefaultClient.Identify(ctx)
		return
	}
	c.do(ctx, "identify", c.hooks.Identify)
}

// Validate runs the validate hook, if there is one. The connection does not
// wait for it.
func (c *client) Validate(ctx context.Context) error {
	_, err := c.runner.run(ctx, "validate", c.hooks.Validate, c.runningVars()...)
	return err
}

// FirmwareValidated tells the hook.
func (c *client) FirmwareValidated() {
	c.DefaultClient.FirmwareValidated()
	c.tell("firmware_validated", c.hooks.FirmwareValidated)
}

// AutoRevertDetected tells the hook.
func (c *client) AutoRevertDetected() {
	c.DefaultClient.AutoRevertDetected()
	c.tell("auto_revert_detected", c.hooks.AutoRevertDetected)
}

// Connected tells the hook.
func (c *client) Connected() {
	c.DefaultClient.Connected()
	c.say("connected")
	c.tell("connected", c.hooks.Connected)
}

// Disconnected tells the hook.
func (c *client) Disconnected(err error) {
	c.DefaultClient.Disconnected(err)
	text := ""
	if err != nil {
		text = err.Error()
	}
	c.say("not connected: " + text)
	c.tell("disconnected", c.hooks.Disconnected, "ERROR", text)
}

// ReconnectAfter asks the hook: the first line of its output is another pause,
// in seconds or such as "90s". Nothing, or a hook that fails, leaves it.
func (c *client) ReconnectAfter(pause time.Duration) time.Duration {
	h := c.hooks.Reconnect
	if len(h.Command) == 0 {
		return pause
	}
	if h.Timeout == 0 || h.Timeout > reconnectLimit {
		h.Timeout = reconnectLimit
	}
	res, err := c.wait(context.Background(), "reconnect", h, "PAUSE", strconv.FormatFloat(pause.Seconds(), 'f', 3, 64))
	if err != nil {
		c.log.Error("hook failed", "hook", "reconnect", "error", err)
		return pause
	}
	if res.first == "" {
		return pause
	}
	d, err := time.ParseDuration(res.first)
	if err != nil {
		d, err = time.ParseDuration(res.first + "s")
	}
	if err != nil || d <= 0 {
		c.log.Error("hook failed", "hook", "reconnect", "error", fmt.Errorf("%q is not a pause", res.first))
		return pause
	}
	return d
}

// HandleError tells the hook.
func (c *client) HandleError(err error) {
	c.tell("error", c.hooks.Error, "ERROR", err.Error())
}

// alarm tells the hooks about an alarm.
func (c *client) alarm(change link.AlarmChange) {
	if change.Set {
		c.tell("alarm_set", c.hooks.AlarmSet, "ALARM", change.Name, "DESCRIPTION", change.Description)
		return
	}
	c.tell("alarm_cleared", c.hooks.AlarmCleared, "ALARM", change.Name)
}
