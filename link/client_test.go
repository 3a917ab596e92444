package link

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// teller is a Client that notes what it is told about its own firmware.
type teller struct {
	*witness
	told chan string
}

func (c teller) FirmwareValidated() { c.told <- "validated" }

func (c teller) AutoRevertDetected() { c.told <- "reverted" }

// TestClientIsToldOfItsFirmware: a device that fell back says so once in a run,
// and a firmware that was marked good once.
func TestClientIsToldOfItsFirmware(t *testing.T) {
	for _, c := range []struct {
		vars map[string]string
		want string
	}{
		{map[string]string{"a.nerves_fw_validated": "0"}, "validated"},
		{map[string]string{"b.nerves_fw_validated": "0", "b.nerves_fw_platform": "board", "b.nerves_fw_architecture": "arm"}, "reverted"},
		{nil, ""},
	} {
		client := teller{newWitness(), make(chan string, 64)}
		r := newRig(t, func(r *rig) { r.options.Client = client })
		setVars(t, r.image, c.vars)
		for range 2 {
			conn := r.start()
			for range 2 { // a reconnect tells nothing anew
				conn.join()
				conn.send(`[null,null,"device","identify",{}]`)
				await(t, "identify", client.identified)
				conn.ws.CloseNow()
				conn = r.connection()
			}
			r.stop()
			await(t, "the end", r.done)
			var told []string
			for len(client.told) > 0 {
				told = append(told, <-client.told)
			}
			if got := strings.Join(told, " "); got != c.want {
				t.Errorf("%v: told %q, want %q", c.vars, got, c.want)
			}
			if c.want == "validated" {
				c.want = "" // the mark lasts
			}
		}
	}
}

// prover is a Client whose test of the firmware takes its time.
type prover struct {
	*witness
	asked   chan struct{}
	outcome chan error // what the test finds
	at      atomic.Int32
	most    atomic.Int32 // tests at once
}

func newProver() *prover {
	return &prover{witness: newWitness(), asked: make(chan struct{}, 64), outcome: make(chan error, 64)}
}

func (c *prover) Validate(ctx context.Context) error {
	if at := c.at.Add(1); at > c.most.Load() {
		c.most.Store(at)
	}
	defer c.at.Add(-1)
	c.asked <- struct{}{}
	select {
	case err := <-c.outcome:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func newProof(t *testing.T, change func(*rig)) (*rig, *prover) {
	t.Helper()
	p := newProver()
	r := newRig(t, func(r *rig) {
		r.client, r.options.Client, r.options.Heartbeat = p.witness, p, 20*time.Millisecond
		if change != nil {
			change(r)
		}
	})
	setVars(t, r.image, map[string]string{"a.nerves_fw_validated": "0"})
	return r, p
}

// TestProofRunsBesideTheConnection: heartbeats and orders go on while the
// Client tests its firmware, which it does once at a time; a test that began
// on one connection ends on another.
func TestProofRunsBesideTheConnection(t *testing.T) {
	r, p := newProof(t, nil)
	conn := r.start()
	conn.join()
	await(t, "the question", p.asked)
	for range 3 {
		await(t, "a heartbeat", conn.beats)
	}
	conn.send(`[null,null,"device","identify",{}]`)
	await(t, "identify", p.identified)
	conn.ws.CloseNow()
	conn = r.connection()
	conn.join()
	await(t, "a heartbeat", conn.beats)
	if readVars(t, r.image)["a.nerves_fw_validated"] != "0" {
		t.Error("marked good before the Client agreed")
	}
	p.outcome <- nil
	conn.until("firmware_validated", "")
	if readVars(t, r.image)["a.nerves_fw_validated"] != "1" {
		t.Error("told as good and not marked")
	}
	if n := p.most.Load(); n != 1 || len(p.asked) != 0 {
		t.Errorf("%d tests at once, %d more asked", n, len(p.asked))
	}
}

// TestProofEndsWhileJoining: a mark that no connection could be told of is told
// on the next, also by a join that had been worded before.
func TestProofEndsWhileJoining(t *testing.T) {
	r, p := newProof(t, nil)
	conn := r.start()
	conn.join()
	await(t, "the question", p.asked)
	conn.ws.CloseNow()
	conn = r.connection()
	m, params := conn.next()
	if meta := params["meta"].(map[string]any); meta["firmware_validated"] != false {
		t.Fatalf("%v", meta)
	}
	p.outcome <- nil
	for readVars(t, r.image)["a.nerves_fw_validated"] != "1" {
		await(t, "a heartbeat", conn.beats)
	}
	conn.send(`["` + m.Ref + `","` + m.Ref + `","device","phx_reply",{"status":"ok","response":{}}]`)
	conn.until("firmware_validated", "")
}

// TestRestartWaitsForTheProof: the boot loader would count a restart against a
// firmware that is about to prove itself.
func TestRestartWaitsForTheProof(t *testing.T) {
	for _, found := range []error{nil, errors.New("no")} {
		r, p := newProof(t, nil)
		conn := r.start()
		conn.join()
		await(t, "the question", p.asked)
		conn.send(`[null,null,"device","reboot",{}]`)
		conn.until("rebooting", "")
		conn.send(`[null,null,"device","identify",{}]`)
		await(t, "identify", p.identified)
		await(t, "a heartbeat", conn.beats)
		if len(p.rebooted) != 0 {
			t.Error("restarted during the proof")
		}
		p.outcome <- found
		if err := await(t, "the end", r.done); !errors.Is(err, ErrRebooting) {
			t.Errorf("Run returned %v", err)
		}
		if got, want := readVars(t, r.image)["a.nerves_fw_validated"] == "1", found == nil; got != want {
			t.Errorf("found %v: marked good is %v", found, got)
		}
	}
}

// TestProofThatTakesTooLong: the device falls back from a firmware whose test
// never ends.
func TestProofThatTakesTooLong(t *testing.T) {
	r, p := newProof(t, func(r *rig) { r.options.ValidateWithin = 300 * time.Millisecond })
	conn := r.start()
	conn.join()
	await(t, "the question", p.asked)
	if err := await(t, "the end", r.done); !errors.Is(err, ErrRebooting) {
		t.Errorf("Run returned %v", err)
	}
	if readVars(t, r.image)["a.nerves_fw_validated"] != "0" {
		t.Error("marked good")
	}
}

// TestWrittenUpdateIsNotMarkedGood: once another firmware is what boots next, a
// late yes would be for that one.
func TestWrittenUpdateIsNotMarkedGood(t *testing.T) {
	r, p := newProof(t, func(r *rig) {
		r.client.reboot = func() error { return errors.New("not now") }
		r.options.Backoff = []time.Duration{time.Hour}
	})
	fw := r.factory.build(t, "1.1.0", nil)
	files := newFileServer(t, fw.data, nil)
	conn := r.start()
	conn.join()
	await(t, "the question", p.asked)
	conn.send(r.offer(fw, files.URL))
	conn.until("status_update", "completed")
	await(t, "the restart", p.rebooted)
	p.outcome <- nil
	conn.ws.CloseNow()
	r.stop()
	await(t, "the end", r.done)
	if vars := readVars(t, r.image); vars["nerves_fw_active"] != "b" || vars["b.nerves_fw_validated"] != "0" {
		t.Errorf("active %s, marked %s", vars["nerves_fw_active"], vars["b.nerves_fw_validated"])
	}
}
