package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/link"
)

// clientWith makes a client whose hooks are the scripts given, and the
// directory they run in.
func clientWith(t *testing.T, set func(h *Hooks, sh func(script string) hook)) (*client, string) {
	t.Helper()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("needs a shell")
	}
	dir := t.TempDir()
	var c Config
	set(&c.Hooks, func(script string) hook {
		return hook{Command: []string{"sh", "-c", "cd " + dir + "\n" + script}}
	})
	o := link.Options{Host: "h", Identifier: "d", Slots: link.UBootSlots{Path: filepath.Join(dir, "none")}}
	cl := newClient(c, o, slog.New(slog.NewTextHandler(io.Discard, nil)), func(string) {})
	t.Cleanup(cl.close)
	return cl, dir
}

func content(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var offered = link.Update{
	Firmware: link.Firmware{UUID: "u-1", Product: "p", Version: "1.2.3", Platform: "pi", Architecture: "arm", Description: "two\nlines\x00"},
	URL:      "https://h/f", Size: 7, Checksum: "abc",
}

func TestHooksDecide(t *testing.T) {
	for _, c := range []struct {
		script string
		want   link.Decision
	}{
		{"exit 0", link.Decision{Verdict: link.Apply}},
		{"echo whatever", link.Decision{Verdict: link.Apply}},
		{"exit 10", link.Decision{Verdict: link.Ignore}},
		{"echo '  the pump runs  '; echo more; exit 10", link.Decision{Verdict: link.Ignore, Reason: "the pump runs"}},
		{"echo noise >&2; exit 10", link.Decision{Verdict: link.Ignore}},
		{"echo '90 at night'; exit 11", link.Decision{Verdict: link.Reschedule, Reason: "at night", Delay: 90 * time.Minute}},
		{"echo 5; exit 11", link.Decision{Verdict: link.Reschedule, Delay: 5 * time.Minute}},
		{"echo later; exit 11", link.Decision{Verdict: link.Reschedule, Delay: afterFailure, Reason: `hook X: "later" does not begin with the minutes to wait`}},
		{"echo 0; exit 11", link.Decision{Verdict: link.Reschedule, Delay: afterFailure, Reason: `hook X: "0" does not begin with the minutes to wait`}},
		{"echo 99999999; exit 11", link.Decision{Verdict: link.Reschedule, Delay: afterFailure, Reason: `hook X: "99999999" does not begin with the minutes to wait`}},
		{"echo broken >&2; exit 3", link.Decision{Verdict: link.Reschedule, Delay: afterFailure, Reason: "hook X: exit status 3: broken"}},
		{"kill -9 $$", link.Decision{Verdict: link.Reschedule, Delay: afterFailure, Reason: "hook X: signal: killed"}},
	} {
		cl, _ := clientWith(t, func(h *Hooks, sh func(string) hook) {
			h.UpdateAvailable, h.ArchiveAvailable = sh(c.script), sh(c.script)
		})
		want := c.want
		want.Reason = strings.Replace(c.want.Reason, "hook X", "hook update_available", 1)
		if got := cl.UpdateAvailable(t.Context(), offered); got != want {
			t.Errorf("%q: %+v, want %+v", c.script, got, want)
		}
		want.Reason = strings.Replace(c.want.Reason, "hook X", "hook archive_available", 1)
		if got := cl.ArchiveAvailable(t.Context(), link.Archive{UUID: "a"}); got != want {
			t.Errorf("%q: an archive: %+v, want %+v", c.script, got, want)
		}
	}
	cl, _ := clientWith(t, func(*Hooks, func(string) hook) {})
	if got := cl.UpdateAvailable(t.Context(), offered); got.Verdict != link.Apply {
		t.Errorf("without a hook: %+v", got)
	}
	if got := cl.ArchiveAvailable(t.Context(), link.Archive{}); got.Verdict != link.Apply {
		t.Errorf("an archive without a hook: %+v", got)
	}
}

// TestHooksAreTold runs each hook and reads the variables it was given.
func TestHooksAreTold(t *testing.T) {
	t.Setenv("GANGLION_LINK_SHARED_SECRET", "s3cret")
	t.Setenv("NOTIFY_SOCKET", "/run/x")
	cl, dir := clientWith(t, func(h *Hooks, sh func(string) hook) {
		s := sh(`env | sed -n 's/^GANGLION_//p;/NOTIFY_SOCKET/p' | sort >"$GANGLION_EVENT"`)
		for _, h := range []*hook{
			&h.Reboot, &h.Identify, &h.Validate, &h.UpdateAvailable, &h.UpdateProgress, &h.UpdateMessage, &h.UpdateApplied, &h.UpdateFailed,
			&h.ArchiveAvailable, &h.ArchiveReady, &h.ArchiveFailed, &h.FirmwareValidated, &h.AutoRevertDetected,
			&h.Connected, &h.Disconnected, &h.Reconnect, &h.Error, &h.AlarmSet, &h.AlarmCleared,
		} {
			*h = s
		}
	})
	archive := link.Archive{UUID: "a-1", Version: "2.0.0", Size: 9, URL: "https://h/a"}
	ctx := t.Context()
	cl.UpdateAvailable(ctx, offered)
	cl.UpdateProgress(offered, link.Downloading, 5)
	cl.UpdateMessage(offered, "hello")
	cl.UpdateApplied(offered)
	cl.UpdateFailed(offered, errors.New("torn"))
	cl.ArchiveAvailable(ctx, archive)
	if err := cl.ArchiveReady(ctx, archive, "/data/a"); err != nil {
		t.Error(err)
	}
	cl.ArchiveFailed(archive, errors.New("gone"))
	cl.Identify(ctx)
	if err := cl.Validate(ctx); err != nil {
		t.Error(err)
	}
	cl.FirmwareValidated()
	cl.AutoRevertDetected()
	cl.Connected()
	cl.Disconnected(errors.New("closed"))
	if got := cl.ReconnectAfter(1500 * time.Millisecond); got != 1500*time.Millisecond {
		t.Errorf("a pause of %s", got)
	}
	cl.HandleError(errors.New("odd"))
	cl.alarm(link.AlarmChange{Name: "Hot", Description: "90 degrees", Set: true})
	cl.alarm(link.AlarmChange{Name: "Hot"})
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := cl.Reboot(ended); err != nil {
		t.Errorf("reboot while the agent stops: %v", err)
	}
	cl.close()
	const update = "CHECKSUM=abc\nEVENT=%s\nFIRMWARE_ARCHITECTURE=arm\nFIRMWARE_DESCRIPTION=two\nFIRMWARE_PLATFORM=pi\n" +
		"FIRMWARE_PRODUCT=p\nFIRMWARE_UUID=u-1\nFIRMWARE_VERSION=1.2.3\nHOST=h\nIDENTIFIER=d\n%sSIZE=7\n%sURL=https://h/f\n"
	const plain = "EVENT=%s\nHOST=h\nIDENTIFIER=d\n"
	for event, want := range map[string]string{
		"update_available": fmt.Sprintf(update, "update_available", "", ""),
		"update_progress":  fmt.Sprintf(update, "update_progress", "PERCENT=5\n", "STAGE=downloading\n"),
		"update_message":   fmt.Sprintf(update, "update_message", "", "TEXT=hello\n"),
		"update_applied":   fmt.Sprintf(update, "update_applied", "", ""),
		"update_failed":    strings.Replace(fmt.Sprintf(update, "update_failed", "", ""), "EVENT", "ERROR=torn\nEVENT", 1),
		"archive_ready":    "ARCHIVE_UUID=a-1\nARCHIVE_VERSION=2.0.0\nEVENT=archive_ready\nHOST=h\nIDENTIFIER=d\nPATH=/data/a\nSIZE=9\nURL=https://h/a\n",
		"archive_failed":   "ARCHIVE_UUID=a-1\nARCHIVE_VERSION=2.0.0\nERROR=gone\nEVENT=archive_failed\nHOST=h\nIDENTIFIER=d\nSIZE=9\nURL=https://h/a\n",
		"identify":         fmt.Sprintf(plain, "identify"),
		"validate":         fmt.Sprintf(plain, "validate"),
		"reboot":           fmt.Sprintf(plain, "reboot"),
		"connected":        fmt.Sprintf(plain, "connected"),
		"disconnected":     "ERROR=closed\n" + fmt.Sprintf(plain, "disconnected"),
		"reconnect":        strings.TrimSuffix(fmt.Sprintf(plain, "reconnect"), "") + "PAUSE=1.500\n",
		"error":            "ERROR=odd\n" + fmt.Sprintf(plain, "error"),
		"alarm_set":        "ALARM=Hot\nDESCRIPTION=90 degrees\n" + fmt.Sprintf(plain, "alarm_set"),
		"alarm_cleared":    "ALARM=Hot\n" + fmt.Sprintf(plain, "alarm_cleared"),

		"firmware_validated":   fmt.Sprintf(plain, "firmware_validated"),
		"auto_revert_detected": fmt.Sprintf(plain, "auto_revert_detected"),
	} {
		if got := content(t, dir, event); got != want {
			t.Errorf("%s was told\n%swant\n%s", event, got, want)
		}
	}
}

func TestHooksFail(t *testing.T) {
	cl, _ := clientWith(t, func(h *Hooks, sh func(string) hook) {
		h.Validate = sh("yes noise | head -c 3000000; echo the sensor is silent >&2; exit 3")
		h.Reboot = hook{Command: []string{"/nowhere/nothing"}}
		h.ArchiveReady = sh("exit 1")
	})
	err := cl.Validate(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "hook validate: exit status 3:") || !strings.HasSuffix(err.Error(), "the sensor is silent") {
		t.Errorf("error %v", err)
	}
	if len(err.Error()) > maxOutput+100 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
	if err := cl.Reboot(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "hook reboot: ") {
		t.Errorf("error %v", err)
	}
	if err := cl.ArchiveReady(t.Context(), link.Archive{}, "/x"); err == nil || err.Error() != "hook archive_ready: exit status 1" {
		t.Errorf("error %v", err)
	}
}

// TestHooksAreStoppedWithTheirChildren lets a hook start a program that would
// hold its output open.
func TestHooksAreStoppedWithTheirChildren(t *testing.T) {
	cl, _ := clientWith(t, func(h *Hooks, sh func(string) hook) {
		h.Validate = sh("sleep 60 & sleep 60")
		h.Validate.Timeout = 50 * time.Millisecond
	})
	begin := time.Now()
	if err := cl.Validate(t.Context()); err == nil || err.Error() != "hook validate: stopped after 50ms" {
		t.Errorf("error %v", err)
	}
	if took := time.Since(begin); took >= hookGrace {
		t.Errorf("took %s: the child lived on", took)
	}
}

// TestProgressHookIsThrottled counts the calls for two whole stages.
func TestProgressHookIsThrottled(t *testing.T) {
	cl, dir := clientWith(t, func(h *Hooks, sh func(string) hook) {
		h.UpdateProgress = sh(`echo "$GANGLION_STAGE $GANGLION_PERCENT" >>told`)
	})
	for _, stage := range []link.Stage{link.Downloading, link.Updating} {
		for percent := range 101 {
			cl.UpdateProgress(offered, stage, percent)
		}
	}
	cl.close()
	lines := strings.Split(strings.TrimSpace(content(t, dir, "told")), "\n")
	if len(lines) > 4 || lines[len(lines)-1] != "updating 100" {
		t.Errorf("told %q", lines)
	}
}

func TestReconnectHook(t *testing.T) {
	for _, c := range []struct {
		script string
		want   time.Duration
	}{
		{"echo 7", 7 * time.Second},
		{"echo 1.5", 1500 * time.Millisecond},
		{"echo 2m", 2 * time.Minute},
		{"true", time.Second},
		{"echo soon", time.Second},
		{"echo -3", time.Second},
		{"echo 7; exit 1", time.Second},
	} {
		cl, _ := clientWith(t, func(h *Hooks, sh func(string) hook) { h.Reconnect = sh(c.script) })
		if got := cl.ReconnectAfter(time.Second); got != c.want {
			t.Errorf("%q: %s, want %s", c.script, got, c.want)
		}
	}
}

// TestSlowHooksHoldNothingUp fills the queue behind a hook that hangs.
func TestSlowHooksHoldNothingUp(t *testing.T) {
	cl, dir := clientWith(t, func(h *Hooks, sh func(string) hook) {
		h.Connected = sh(`echo >>ran; until [ -e go ]; do sleep 0.01; done`)
	})
	for range maxNotices + 10 {
		cl.Connected() // returns at once, or this test does not end
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cl.close()
	if n := strings.Count(content(t, dir, "ran"), "\n"); n < maxNotices || n > maxNotices+1 {
		t.Errorf("%d hooks ran, want the %d that wait, and the one that runs", n, maxNotices)
	}
	cl.Connected() // after the end
}

// TestSecretsLeaveTheEnvironment: what the agent starts later does not get them.
func TestSecretsLeaveTheEnvironment(t *testing.T) {
	for _, name := range []string{secretVariable, "TOKEN_PIN", "OTHER"} {
		t.Setenv(name, "1234")
	}
	Config{PKCS11: PKCS11{PINEnv: "TOKEN_PIN"}}.forgetSecrets()
	for name, want := range map[string]bool{secretVariable: false, "TOKEN_PIN": false, "OTHER": true} {
		if _, there := os.LookupEnv(name); there != want {
			t.Errorf("%s is there: %v", name, there)
		}
	}
}
