package control

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ganglion-iot/ganglion/fleet"
)

// Limits of scripts.
const (
	DefaultScriptTimeout = 30 * time.Second
	MaxScriptTimeout     = 5 * time.Minute
	MaxScript            = 64 << 10 // bytes

	scriptTravel = 2 * time.Second // of the answer, after the device's own time-out
)

// EventScriptRun asks a gateway to have a device run a script. Its payload is
// a ScriptRequest.
const EventScriptRun = "scripts/run"

// ScriptRequest is what a device is asked to run.
type ScriptRequest struct {
	Text    string `json:"text"`
	Ref     string `json:"ref"`
	Timeout int64  `json:"timeout"` // milliseconds
}

// RunScript has a connected device run a text in the language of its console,
// and waits for the result: timeout long, DefaultScriptTimeout if it is 0, at
// most MaxScriptTimeout. It needs the role manage. It fails with Conflict when
// the device is not connected or has nothing to run it with, and with
// Unavailable when no answer comes in time.
func (c *Control) RunScript(ctx context.Context, s fleet.Scope, product, identifier, text string, timeout time.Duration) (r fleet.ScriptResult, err error) {
	return c.runNamedScript(ctx, s, product, identifier, fleet.Script{Text: text}, timeout)
}

func (c *Control) runNamedScript(ctx context.Context, s fleet.Scope, product, identifier string, x fleet.Script, timeout time.Duration) (r fleet.ScriptResult, err error) {
	text := x.Text
	if err := s.Require(fleet.RoleManage); err != nil {
		return r, err
	}
	switch {
	case strings.TrimSpace(text) == "":
		return r, fleet.InvalidField("text", "there is no script")
	case len(text) > MaxScript:
		return r, fleet.Errorf(fleet.TooLarge, "a script may have %d bytes", MaxScript)
	case timeout < 0 || timeout > MaxScriptTimeout:
		return r, fleet.InvalidField("timeout", "must be at most %s", MaxScriptTimeout)
	case timeout == 0:
		timeout = DefaultScriptTimeout
	}
	text = strings.ToValidUTF8(text, "\uFFFD")
	d, err := c.noteScript(ctx, s, product, identifier, x.Name, text)
	if err != nil {
		return r, err
	}
	return c.runScript(ctx, d, text, timeout)
}

// noteScript finds the device and writes down that it is to run a script. The
// text may hold secrets; the log has its digest.
func (c *Control) noteScript(ctx context.Context, s fleet.Scope, product, identifier, name, text string) (d fleet.Device, err error) {
	sum := sha256.Sum256([]byte(text))
	detail, which := map[string]any{"bytes": len(text), "sha256": hex.EncodeToString(sum[:])}, "a script"
	if name != "" {
		detail["script"], which = name, "the script "+name
	}
	err = c.change(ctx, s, fleet.RoleManage, func(w *changing) (err error) {
		if d, err = deviceOf(w.Tx, s, product, identifier); err != nil {
			return err
		}
		if d.Connection.Status != fleet.Connected {
			return fleet.Errorf(fleet.Conflict, "the device %s is not connected", d.Identifier)
		}
		return w.audit(deviceSubject(d), "run_script", detail, "ran %s on the device %s", which, d.Identifier)
	})
	return d, err
}

func (c *Control) runScript(ctx context.Context, d fleet.Device, text string, timeout time.Duration) (r fleet.ScriptResult, err error) {
	request := ScriptRequest{Text: text, Ref: rand.Text(), Timeout: timeout.Milliseconds()}
	answers := make(chan fleet.ScriptAnswer, 1)
	stop, err := c.bus.OnScriptAnswer(d.ID, request.Ref, func(a fleet.ScriptAnswer) {
		select {
		case answers <- a:
		default: // the first one counts
		}
	})
	if err != nil {
		return r, err
	}
	defer stop()
	payload, err := json.Marshal(request)
	if err != nil {
		return r, fleet.Errorf(fleet.Internal, "a script can not be sent: %w", err)
	}
	m := fleet.DeviceMessage{Devices: []int64{d.ID}, Event: EventScriptRun, Payload: payload}
	if err := c.bus.SendToDevices(d.Connection.Node, m); err != nil {
		return r, fleet.Errorf(fleet.Unavailable, "the device can not be reached right now: %w", err)
	}
	late := time.NewTimer(timeout + scriptTravel)
	defer late.Stop()
	select {
	case a := <-answers:
		if a.Problem != "" {
			return r, fleet.Errorf(fleet.Conflict, "the device %s can not run a script: %s", d.Identifier, a.Problem)
		}
		return a.Result, nil
	case <-late.C:
		return r, fleet.Errorf(fleet.Unavailable, "the device %s did not answer within %s", d.Identifier, timeout)
	case <-ctx.Done():
		return r, ctx.Err()
	}
}

// MaxConnectingCode is the longest code that runs when a device connects, in
// bytes; its group's and its own are sent together.
const MaxConnectingCode = 16 << 10

func checkConnectingCode(code string) error {
	if len(code) > MaxConnectingCode || !utf8.ValidString(code) || strings.ContainsRune(code, 0) {
		return fleet.InvalidField("connecting_code", "must be text of at most %d bytes", MaxConnectingCode)
	}
	return nil
}
