package test

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/internal/app"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/pki"
	"github.com/ganglion-iot/ganglion/internal/simulate"
	"github.com/ganglion-iot/ganglion/internal/store/storetest"
	"github.com/ganglion-iot/ganglion/link"
)

const small = 300 << 10 // bytes of a root file system

// onBoth runs a story on SQLite and on PostgreSQL.
func onBoth(t *testing.T, story func(t *testing.T, database string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); story(t, "") })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); story(t, storetest.PostgresURL(t)) })
}

// TestFirstUpdate is the main job: devices with a shared secret and one with
// a certificate are told, take the firmware and prove it.
func TestFirstUpdate(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database string) {
		w := newWorld(t, database)
		old, next := w.build("1.0.0", small), w.build("1.1.0", small)
		first := w.publish(old)
		w.group(first, func(in *control.CreateDeploymentGroupInput) { in.ConcurrentUpdates = 2 })
		boards := []string{"alpha", "beta", "gamma"}
		for _, name := range boards {
			w.power(name, old, nil, nil)
		}
		w.powerWithCertificate("delta", old)
		boards = append(boards, "delta")
		w.await("every board on 1.0.0", func() bool { c := w.counts(); return c.Total == 4 && c.Proven == 4 })

		target := w.publish(next)
		w.release(target)
		most := 0
		w.await("every board proven on 1.1.0", func() bool {
			c := w.counts()
			most = max(most, c.Updating)
			return c.Proven == 4
		})
		if most > 2 {
			t.Errorf("%d devices updated at once; the group allows 2", most)
		}
		attempts := w.attempts()
		if len(attempts) != len(boards) {
			t.Fatalf("%d attempts for %d boards: %s", len(attempts), len(boards), w.story())
		}
		for _, a := range attempts {
			checkProven(t, a, first, target)
		}
		w.checkAudit("deployment_group", "create")
		w.checkAudit("release", "create")
	})
}

// checkProven demands the whole life of a successful attempt.
func checkProven(t *testing.T, a fleet.UpdateAttempt, from, to fleet.Firmware) {
	t.Helper()
	if a.State != fleet.AttemptSucceeded || a.SourceUUID != from.UUID || a.TargetUUID != to.UUID || a.Number != 1 || a.Bytes != to.Size {
		t.Errorf("attempt %+v: want one successful try from %s to %s", a, from.UUID, to.UUID)
	}
	times := []time.Time{a.OfferedAt, a.ReceivedAt, a.DownloadingAt, a.RebootingAt, a.ProvingAt, a.FinishedAt}
	if !slices.IsSortedFunc(times, time.Time.Compare) || slices.ContainsFunc(times, time.Time.IsZero) {
		t.Errorf("times of %s are not in order: %v", a.Identifier, times)
	}
	if !a.DeadlineAt.IsZero() {
		t.Errorf("%s still has a deadline", a.Identifier)
	}
}

// checkAudit demands that the log of the product tells of the actions.
func (w *world) checkAudit(noun string, actions ...string) {
	w.t.Helper()
	events, _, err := w.control().ListAuditEvents(w.ctx(), w.scope, worldProduct, fleet.AuditFilter{Page: fleet.Page{Limit: fleet.MaxPageSize}})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, action := range actions {
		if !slices.ContainsFunc(events, func(e fleet.AuditEvent) bool {
			return strings.HasSuffix(e.Action, action) && (e.Noun == noun || strings.HasPrefix(e.Action, noun))
		}) {
			w.t.Errorf("the audit log does not tell of %s %s", noun, action)
		}
	}
}

// powerWithCertificate registers a device with a certificate of its own and
// switches it on.
func (w *world) powerWithCertificate(name, firmware string) *board {
	w.t.Helper()
	ca, err := pki.CreateCA("devices")
	if err != nil {
		w.t.Fatal(err)
	}
	pair, err := pki.IssueDeviceCertificate(ca, name)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.control().CreateDevice(w.ctx(), w.scope, worldProduct, control.CreateDeviceInput{Identifier: name}); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.control().AddDeviceCertificate(w.ctx(), w.scope, worldProduct, name, pair.CertificatePEM()); err != nil {
		w.t.Fatal(err)
	}
	return w.power(name, firmware, func(_ *simulate.Board, o *link.Options) {
		cert := pair.TLS()
		o.Secret, o.Certificate = nil, &cert
	}, nil)
}

// TestConditions: only the devices with the tag and version are told, and a
// change of tags is enough to be told.
func TestConditions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	old, next := w.build("1.0.0", small), w.build("2.0.0", small)
	w.publish(old)
	w.group(w.publish(next), func(in *control.CreateDeploymentGroupInput) {
		in.Conditions = fleet.Conditions{Tags: []string{"field", "eu"}, TagOperator: fleet.TagsAnd, Version: "~> 1.0"}
	})
	for _, name := range []string{"tagged", "other"} {
		w.power(name, old, nil, nil)
		w.await(name+" is there", func() bool {
			d, err := w.control().Device(w.ctx(), w.scope, worldProduct, name)
			return err == nil && d.Connection.Status == fleet.Connected
		})
	}
	w.tag("other", "field")
	w.tag("tagged", "eu", "field")
	w.await("the tagged board proves 2.0.0", func() bool { return w.last("tagged").State == fleet.AttemptSucceeded })
	if a := w.last("other"); a.ID != 0 {
		t.Errorf("the board without both tags was told: %s", w.story())
	}
	w.tag("other", "field", "eu")
	w.await("the other board proves 2.0.0", func() bool { return w.last("other").State == fleet.AttemptSucceeded })
}

func (w *world) tag(name string, tags ...string) {
	w.t.Helper()
	if _, err := w.control().UpdateDevice(w.ctx(), w.scope, worldProduct, name, fleet.DeviceUpdate{Tags: &tags}); err != nil {
		w.t.Fatal(err)
	}
}

// TestPause: a paused group tells nobody; resuming is enough.
func TestPause(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	old, next := w.build("1.0.0", small), w.build("1.1.0", small)
	w.group(w.publish(old), nil)
	w.power("alpha", old, nil, nil)
	w.await("the board is there", func() bool { return w.counts().Proven == 1 })
	if _, err := w.control().PauseDeploymentGroup(w.ctx(), w.scope, worldProduct, worldGroup); err != nil {
		t.Fatal(err)
	}
	w.release(w.publish(next))
	// Something that comes later than any offer would: the device answers it.
	w.tag("alpha", "seen")
	if n := len(w.attempts()); n != 0 {
		t.Fatalf("a paused group made %d attempts", n)
	}
	if _, err := w.control().ResumeDeploymentGroup(w.ctx(), w.scope, worldProduct, worldGroup); err != nil {
		t.Fatal(err)
	}
	w.await("the board proves 1.1.0", func() bool { return w.counts().Proven == 1 && len(w.attempts()) == 1 })
}

// TestFallBack: a firmware that does not come up is given up by the boot
// loader; the attempt ends as reverted, and after three the device is in the
// penalty box until an operator clears it.
func TestFallBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	old, bad, good := w.build("1.0.0", small), w.build("1.1.0", small), w.build("1.2.0", small)
	w.group(w.publish(old), nil)
	w.power("alpha", old, func(b *simulate.Board, _ *link.Options) {
		b.Crashes = func(r link.Running) bool { return r.Version == "1.1.0" }
	}, nil)
	w.await("the board is there", func() bool { return w.counts().Proven == 1 })
	w.release(w.publish(bad))
	w.await("the penalty box", func() bool { return w.device("alpha").Blocked(time.Now()) })
	attempts := w.attempts()
	if len(attempts) != fleet.DefaultFailureThreshold {
		t.Errorf("%d attempts before the penalty box, want %d: %s", len(attempts), fleet.DefaultFailureThreshold, w.story())
	}
	for i, a := range attempts {
		if a.State != fleet.AttemptReverted || a.Number != i+1 {
			t.Errorf("attempt %d: %s (%s) try %d, want reverted", i, a.State, a.Reason, a.Number)
		}
	}
	if d := w.device("alpha"); d.Firmware == nil || d.Firmware.Version != "1.0.0" || !d.AutoReverted {
		t.Errorf("the device after falling back: %+v", d.Firmware)
	}
	w.release(w.publish(good))
	if _, err := w.control().ClearPenalty(w.ctx(), w.scope, worldProduct, "alpha"); err != nil {
		t.Fatal(err)
	}
	w.await("the board proves 1.2.0", func() bool { return w.last("alpha").State == fleet.AttemptSucceeded })
	if d := w.device("alpha"); d.Failures != 0 || d.Penalties != 0 {
		t.Errorf("success leaves %d failures and %d penalties", d.Failures, d.Penalties)
	}
}

// choosy answers offers by a function.
type choosy struct {
	link.DefaultClient
	decide func(link.Update) link.Decision
	reboot func(context.Context) error
}

func (c choosy) UpdateAvailable(ctx context.Context, u link.Update) link.Decision {
	if c.decide == nil {
		return c.DefaultClient.UpdateAvailable(ctx, u)
	}
	return c.decide(u)
}

func (c choosy) Reboot(ctx context.Context) error {
	if c.reboot == nil {
		return nil
	}
	return c.reboot(ctx)
}

// TestFinalStates: whatever a device does instead of updating has its own
// final state and frees the slot at once.
func TestFinalStates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		decide func(link.Update) link.Decision
		change func(*simulate.Board, *link.Options)
		state  fleet.AttemptState
		reason string
	}{
		{"refused", func(link.Update) link.Decision {
			return link.Decision{Verdict: link.Ignore, Reason: "not on a Friday"}
		}, nil, fleet.AttemptRefused, "not on a Friday"},
		{"rescheduled", func(link.Update) link.Decision {
			return link.Decision{Verdict: link.Reschedule, Reason: "busy", Delay: 10 * time.Minute}
		}, nil, fleet.AttemptRescheduled, "busy"},
		{"foreign key", nil, func(_ *simulate.Board, o *link.Options) {
			stranger, _, err := fwup.GenerateKey(rand.Reader)
			if err != nil {
				panic(err)
			}
			o.PublicKeys = []fwup.PublicKey{stranger}
		}, fleet.AttemptFailed, "FWUP error"},
		{"slot too small", nil, func(b *simulate.Board, o *link.Options) {
			o.Download.MaxSize = 1000
		}, fleet.AttemptFailed, "at most 1000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "")
			old, next := w.build("1.0.0", small), w.build("1.1.0", small)
			w.group(w.publish(old), func(in *control.CreateDeploymentGroupInput) {
				in.ConcurrentUpdates = 1
				one := 1
				in.FailureThreshold = &one
			})
			w.power("alpha", old, c.change, func(_ link.Running, base link.DefaultClient) link.Client {
				return choosy{DefaultClient: base, decide: c.decide}
			})
			w.await("the board is there", func() bool { return w.counts().Proven == 1 })
			w.release(w.publish(next))
			w.await(c.name, func() bool { return w.last("alpha").State == c.state })
			if a := w.last("alpha"); !strings.Contains(a.Reason, c.reason) {
				t.Errorf("reason %q, want %q in it", a.Reason, c.reason)
			}
			w.power("beta", old, nil, nil)
			w.await("the freed slot serves the next board", func() bool { return w.last("beta").State == fleet.AttemptSucceeded })
			if n := len(w.attempts()); n != 2 {
				t.Errorf("%d attempts, want 2: %s", n, w.story())
			}
		})
	}
}

// TestSilence: a device that never answers an offer, and one that never comes
// back, free their slots when their time is over.
func TestSilence(t *testing.T) {
	t.Parallel()
	short := func(c *app.Config) {
		c.OfferTimeout, c.ProgressTimeout, c.RebootTimeout = 2*time.Second, 5*time.Second, 2*time.Second
	}
	for _, c := range []struct {
		name   string
		client func(hang context.Context) choosy
		state  fleet.AttemptState
	}{
		{"no response", func(hang context.Context) choosy {
			return choosy{decide: func(link.Update) link.Decision { <-hang.Done(); return link.Decision{Verdict: link.Ignore} }}
		}, fleet.AttemptExpired},
		{"never returns", func(hang context.Context) choosy {
			return choosy{reboot: func(context.Context) error { <-hang.Done(); return hang.Err() }}
		}, fleet.AttemptLost},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "", short)
			hang, release := context.WithCancel(context.Background())
			old, next := w.build("1.0.0", small), w.build("1.1.0", small)
			w.group(w.publish(old), func(in *control.CreateDeploymentGroupInput) {
				in.ConcurrentUpdates = 1
				one := 1
				in.FailureThreshold = &one
			})
			w.power("alpha", old, nil, func(_ link.Running, base link.DefaultClient) link.Client {
				x := c.client(hang)
				x.DefaultClient = base
				return x
			})
			t.Cleanup(release)
			w.await("the board is there", func() bool { return w.counts().Proven == 1 })
			w.release(w.publish(next))
			w.await(c.name, func() bool { return w.last("alpha").State == c.state })
			w.power("beta", old, nil, nil)
			w.await("the freed slot serves the next board", func() bool { return w.last("beta").State == fleet.AttemptSucceeded })
		})
	}
}

// TestServerRestart: a server that stops in the middle of a rollout loses
// nothing and tells nobody twice.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database string) {
		w := newWorld(t, database)
		old, next := w.build("1.0.0", small), w.build("1.1.0", 4<<20)
		w.group(w.publish(old), func(in *control.CreateDeploymentGroupInput) { in.ConcurrentUpdates = 2 })
		const boards = 4
		for i := range boards {
			w.power(fmt.Sprintf("board-%d", i), old, nil, nil)
		}
		w.await("the boards are there", func() bool { return w.counts().Proven == boards })
		w.release(w.publish(next))
		w.await("the first offers", func() bool { return len(w.attempts()) > 0 })
		if err := w.stop(); err != nil {
			t.Fatal(err)
		}
		w.start()
		w.await("every board proves 1.1.0", func() bool { return w.counts().Proven == boards })
		for _, a := range w.attempts() {
			if a.State != fleet.AttemptSucceeded || a.Number != 1 {
				t.Errorf("the restart cost an attempt: %s", w.story())
				break
			}
		}
	})
}
