package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/phx"
)

// TestOldReleases plays a device of each release of the field, frame by frame:
// it connects, fails an update, is spared for a while, is cut off half-way
// through the next try, goes on, and proves the new firmware.
func TestOldReleases(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	running, target := w.publish(w.build("1.0.0", small)), w.publish(w.build("1.1.0", small))
	one := 1 // failure, and the device is spared for a while
	w.group(target, func(in *control.CreateDeploymentGroupInput) { in.FailureThreshold = &one })
	for i, r := range oldReleases() {
		t.Run(r.name, func(t *testing.T) {
			s := releaseStory{w: w, t: t, r: r, id: fmt.Sprintf("old-%d", i), running: running, target: target}
			d := s.firstJoin()
			s.failure(d)
			d = s.cutOff(d)
			s.success(d)
			s.told()
		})
	}
}

type releaseStory struct {
	w               *world
	t               *testing.T
	r               oldRelease
	id              string
	running, target fleet.Firmware
}

// state waits until the ledger has a state for the newest of so many tries.
func (s *releaseStory) state(tries int, state fleet.AttemptState) fleet.UpdateAttempt {
	s.t.Helper()
	var last fleet.UpdateAttempt
	s.w.await(fmt.Sprintf("%s, release %s: try %d %s", s.id, s.r.name, tries, state), func() bool {
		last = s.w.last(s.id)
		return last.State == state && s.tries() == tries
	})
	return last
}

func (s *releaseStory) tries() (n int) {
	for _, a := range s.w.attempts() {
		if a.Identifier == s.id {
			n++
		}
	}
	return n
}

// firstJoin joins all topics of the release and waits for the offer.
func (s *releaseStory) firstJoin() *oldDevice {
	s.t.Helper()
	d := s.w.oldConnect(s.t, s.r, s.id, 9*time.Second)
	d.join(phx.TopicDevice, d.params(s.running, ""))
	if s.r.started {
		d.push(phx.TopicDevice, phx.EventReportNetworkInterface, `{"interface":"eth0"}`)
	}
	d.joinMore(s.running)
	return d
}

// joinMore joins what the release has besides the device topic.
func (d *oldDevice) joinMore(f fleet.Firmware) {
	d.t.Helper()
	if d.r.slim {
		d.join(phx.TopicConsole, fmt.Sprintf(`{"console_version":%q,"device_api_version":%q}`, d.r.console, d.r.api))
	} else {
		d.join(phx.TopicConsole, d.params(f, ""))
	}
	d.push(phx.TopicConsole, "up", `{"data":"iex(1)> "}`)
	d.beat()
	if want := d.r.knows[phx.EventExtensionsGet]; want != (d.gets == 1) {
		d.t.Errorf("asked for extensions %d times", d.gets)
	}
	if d.gets > 0 {
		d.join(phx.TopicExtensions, `{"geo":"0.0.1","health":"0.0.1"}`)
		d.push(phx.TopicExtensions, "health:attached", "{}")
		d.await(phx.TopicExtensions, "health:check") // which is on by default
	}
}

// failure: an update is offered, and fails; the device is spared for a while.
func (s *releaseStory) failure(d *oldDevice) {
	s.t.Helper()
	if o := d.offer(); o.Meta.UUID != s.target.UUID {
		s.t.Fatalf("offered %+v", o)
	}
	d.begin()
	s.progressing()
	// A second channel crash: the device joins again with its first params.
	d.join(phx.TopicDevice, d.params(s.running, s.target.UUID))
	d.fail()
	s.state(1, fleet.AttemptFailed)
	if !s.w.device(s.id).Blocked(time.Now()) {
		s.t.Errorf("it is not in the penalty box: %+v", s.w.device(s.id))
	}
	d.beat()
	if len(d.offered) > 0 {
		s.t.Errorf("offered in the penalty box: %+v", d.offered)
	}
	s.script(d)
}

// progressing waits until the ledger knows that the device works on it.
func (s *releaseStory) progressing() {
	s.t.Helper()
	s.w.await(s.id+" works on it", func() bool {
		state := s.w.last(s.id).State
		return state == fleet.AttemptApplying || state == fleet.AttemptDownloading
	})
}

// script runs one on a release that knows how, and has it typed on others.
func (s *releaseStory) script(d *oldDevice) {
	s.t.Helper()
	type outcome struct {
		result fleet.ScriptResult
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		r, err := s.w.control().RunScript(s.w.ctx(), s.w.scope, worldProduct, s.id, "1 + 1", storyTimeout/3)
		done <- outcome{r, err}
	}()
	if s.r.knows[phx.EventScriptsRun] {
		_, ref, _ := strings.Cut(string(d.await(phx.TopicDevice, phx.EventScriptsRun).Payload), `"ref":"`)
		ref, _, _ = strings.Cut(ref, `"`)
		result := ""
		if s.r.results {
			result = `,"result":"completed"`
		}
		d.push(phx.TopicDevice, phx.EventScriptsRun, fmt.Sprintf(`{"ref":%q,"output":"","return":"2"%s}`, ref, result))
	} else {
		d.await(phx.TopicConsole, "dn")
		d.push(phx.TopicConsole, "up", `{"data":"1 + 1\r\n2\r\n# [NERVESHUB:END]\r\n"}`)
	}
	o := <-done
	if o.err != nil || !strings.Contains(o.result.Output+o.result.Return, "2") {
		s.t.Errorf("the script gave %+v, %v", o.result, o.err)
	}
}

// cutOff: the next try is cut off half-way. Who says that it still works on it
// is left alone.
func (s *releaseStory) cutOff(d *oldDevice) *oldDevice {
	s.t.Helper()
	if _, err := s.w.control().ClearPenalty(s.w.ctx(), s.w.scope, worldProduct, s.id); err != nil {
		s.t.Fatal(err)
	}
	d.offer()
	d.begin()
	d.progress(40)
	d.beat()
	s.progressing()
	_ = d.conn.Close() // as devices do, without a word
	d = s.w.oldConnect(s.t, s.r, s.id, 6*time.Second)
	d.join(phx.TopicDevice, d.params(s.running, s.target.UUID))
	d.joinMore(s.running)
	d.progress(70)
	d.beat()
	if len(d.offered) > 0 || s.tries() != 2 {
		s.t.Errorf("offered again while it works on it: %+v", d.offered)
	}
	return d
}

// success: the update is done, and the new firmware proves it.
func (s *releaseStory) success(d *oldDevice) {
	s.t.Helper()
	d.progress(100)
	d.status("completed", "")
	s.state(2, fleet.AttemptRebooting)
	_ = d.conn.Close()
	d = s.w.oldConnect(s.t, s.r, s.id, 3*time.Second)
	d.join(phx.TopicDevice, d.params(s.target, ""))
	d.joinMore(s.target)
	s.state(2, fleet.AttemptSucceeded)
	d.beat()
	if len(d.offered) > 0 {
		s.t.Errorf("offered what it runs: %+v", d.offered)
	}
}

// told counts which events the device was sent in all.
func (s *releaseStory) told() {
	s.t.Helper()
	sent := s.w.wire.Sent(s.id)
	for event, n := range map[string]int{"update": 2, "fwup_public_keys": 4, "archive_public_keys": 4, "scripts/run": 1, "extensions:get": 4, "reboot": 0, "identify": 0, "archive": 0} {
		switch {
		case event == "fwup_public_keys" && !s.r.keys, event == "archive_public_keys" && !s.r.archiveKeys,
			event != "update" && !s.r.knows[event]:
			n = 0
		case event == "extensions:get":
			if got := sent["device "+event]; got != 3 && got != 4 { // the second join on a connection may ask again
				s.t.Errorf("sent %d times: %s", got, event)
			}
			continue
		}
		if got := sent["device "+event]; got != n {
			s.t.Errorf("sent %d times, want %d: %s", got, n, event)
		}
	}
}
