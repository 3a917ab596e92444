package link

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/nh1"
	"github.com/ganglion-iot/ganglion/phx"
)

func TestJoinTellsWhatRuns(t *testing.T) {
	r := newRig(t, nil)
	c := r.start()
	if c.request.URL.Path != "/device-socket/websocket" || c.request.URL.RawQuery != "vsn=2.0.0" {
		t.Errorf("connects to %s", c.request.URL)
	}
	if !nh1.Present(c.request.Header) {
		t.Error("no shared-secret headers")
	}
	params := c.join()
	meta, _ := json.Marshal(params["meta"])
	if string(meta) != `{"firmware_auto_revert_detected":false,"firmware_validated":true}` {
		t.Errorf("meta %s", meta)
	}
	for k, want := range map[string]any{
		"nerves_fw_uuid": r.old.uuid, "nerves_fw_product": "thermostat", "nerves_fw_version": "1.0.0",
		"nerves_fw_platform": "board", "nerves_fw_architecture": "arm",
		"device_api_version": "2.3.0", "fwup_version": "1.16.0", "currently_downloading_uuid": nil,
	} {
		if got, ok := params[k]; !ok || got != want {
			t.Errorf("%s is %v, want %v", k, got, want)
		}
	}
	if _, ok := params["fwup_public_keys"]; ok {
		t.Error("asks for keys although they are pinned")
	}
	r.stop()
	if err := await(t, "the end", r.done); !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
}

func TestUnansweredHeartbeatReconnects(t *testing.T) {
	r := newRig(t, func(r *rig) { r.options.Heartbeat = 30 * time.Millisecond })
	c := r.start()
	c.join()
	await(t, "a heartbeat", c.beats)
	await(t, "a second heartbeat", c.beats)
	r.peer.deaf.Store(true)
	await(t, "the device hanging up", c.gone)
	r.peer.deaf.Store(false)
	r.connection().join()
}

func TestUnansweredJoinReconnects(t *testing.T) {
	r := newRig(t, func(r *rig) { r.options.Heartbeat = 30 * time.Millisecond })
	c := r.start()
	c.next()
	await(t, "the device hanging up", c.gone)
	if err := await(t, "why", r.client.lost); !errors.Is(err, errUnanswered) {
		t.Errorf("lost the connection by %v", err)
	}
	r.connection().join()
}

func TestUnknownMessagesAreIgnored(t *testing.T) {
	r := newRig(t, nil)
	c := r.start()
	c.join()
	for _, frame := range []string{
		`[null,null,"device","archive",{"uuid":"x"}]`, `[null,null,"device","extensions:get",{}]`,
		`[null,null,"weather","rain",{}]`, `["1","99","device","phx_reply",{"status":"error","response":{}}]`,
		`[null,null,"device","update",{"update_available":false,"firmware_url":null,"firmware_meta":null}]`,
		`[null,null,"device","update",{"firmware_url":5,"firmware_meta":{}}]`, `[null,null,"device","update",[]]`,
		`[null,null,"device","fwup_public_keys",{"keys":7}]`, `no json`, `[]`, `[null,null,"device","phx_error",{}]`,
	} {
		c.send(frame)
	}
	if err := c.ws.Write(t.Context(), websocket.MessageBinary, []byte{2, 3}); err != nil {
		t.Fatal(err)
	}
	c.send(`[null,null,"device","identify",{}]`)
	await(t, "identify on the same connection", r.client.identified)
	select {
	case m := <-c.in:
		t.Errorf("the device answered %s %s", m.Event, m.Payload)
	case <-c.gone:
		t.Error("the device hung up")
	default:
	}
}

func TestRefusedAndCrashedTopicsAreJoinedAgain(t *testing.T) {
	r := newRig(t, nil)
	c := r.start()
	m, _ := c.next()
	c.send(`["` + m.Ref + `","` + m.Ref + `","device","phx_reply",{"status":"error","response":{"error":"could not connect"}}]`)
	m, _ = c.next()
	if m.Event != "phx_join" {
		t.Fatalf("%s instead of a second join", m.Event)
	}
	c.send(`["` + m.Ref + `","` + m.Ref + `","device","phx_reply",{"status":"ok","response":{}}]`)
	setVars(t, r.image, map[string]string{"a.nerves_fw_misc": "fresh"})
	c.send(`["` + m.Ref + `","` + m.Ref + `","device","phx_error",{"reason":"channel_crash"}]`)
	if params := c.join(); params["nerves_fw_misc"] != "fresh" {
		t.Errorf("the join after a crash is stale: %v", params)
	}
}

func TestClosedTopicReconnects(t *testing.T) {
	r := newRig(t, nil)
	c := r.start()
	c.join()
	c.send(`["1","1","device","phx_close",{}]`)
	await(t, "the device hanging up", c.gone)
	r.connection().join()
}

func TestServerHangingUpReconnects(t *testing.T) {
	r := newRig(t, nil)
	c := r.start()
	c.join()
	_ = c.ws.Close(1001, "")
	r.connection().join()
}

func TestKeysOfTheServer(t *testing.T) {
	stranger, _, err := fwup.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := fwup.FormatPublicKey(stranger)
	for _, c := range []struct {
		name      string
		requested bool
		pinned    bool
		message   string
		asks, use bool // asks for keys; then uses the stranger's
	}{
		{"pinned", false, true, `{"keys":["` + key + `"]}`, false, false},
		{"none pinned", false, false, `{"keys":["` + key + `"]}`, true, true},
		{"requested", true, true, `{"keys":["` + key + `"]}`, true, true},
		{"empty list", true, true, `{"keys":[]}`, true, false},
		{"nothing of use", true, true, `{"keys":[7,null,"-----BEGIN PUBLIC KEY-----"]}`, true, false},
		{"some of use", true, true, `{"keys":[7,"rsa","` + key + `"]}`, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			own := newFactory(t).public
			o := Options{
				Host: "h", Identifier: "d", Secret: &SharedSecret{Key: "k", Secret: "s"}, Slots: UBootSlots{},
				Target: FileTarget("t"), RequestKeys: c.requested, Logger: quiet(),
			}
			if c.pinned {
				o.PublicKeys = []fwup.PublicKey{own}
			}
			l, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			if asked := l.joinParams(Running{})["fwup_public_keys"]; (asked == "on_connect") != c.asks {
				t.Errorf("asks with %v", asked)
			}
			l.setKeys([]byte(c.message))
			keys := l.updater.publicKeys()
			has := func(key fwup.PublicKey) bool {
				return slices.ContainsFunc(keys, func(k fwup.PublicKey) bool { return k.Equal(key) })
			}
			if has(stranger) != c.use || has(own) != c.pinned {
				t.Errorf("keys are %v", keys)
			}
		})
	}
}

func TestServerTimeSigns(t *testing.T) {
	server := time.Now().Truncate(time.Second)
	var clock atomic.Int64 // of the device, Unix seconds
	clock.Store(server.Add(-1000 * time.Hour).Unix())
	var signed []string
	r := newRig(t, func(r *rig) {
		r.options.Now = func() time.Time { return time.Unix(clock.Load(), 0) }
		r.peer.before = func(w http.ResponseWriter, req *http.Request) bool {
			signed = append(signed, req.Header.Get(nh1.HeaderTime))
			switch len(signed) {
			case 2: // accepted with the server's time
				return false
			case 3:
				// The device's clock is right now; what it learned is wrong.
				w.Header().Set("Date", server.UTC().Format(http.TimeFormat))
			default:
				w.Header().Set("Date", server.UTC().Format(http.TimeFormat))
			}
			if len(signed) > 3 {
				return false
			}
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
	})
	c := r.start()
	c.join()
	clock.Store(server.Unix())
	c.ws.CloseNow()
	r.connection().join()
	behind, right := server.Add(-1000*time.Hour).Unix(), server.Unix()
	want := []int64{behind, right, right + 1000*3600, right}
	for i, at := range want {
		if got := signed[i]; got != jsonInt(at) {
			t.Errorf("attempt %d is signed for %s, want %d", i, got, at)
		}
	}
}

func jsonInt(n int64) string {
	b, _ := json.Marshal(n)
	return string(b)
}

func TestRedirects(t *testing.T) {
	there := newPeer(t, nil)
	for _, c := range []struct {
		name, location string
		ok             bool
	}{
		{"http stands for ws", there.URL + "/elsewhere?vsn=2.0.0&x=1", true},
		{"without a version", there.URL + "/elsewhere", true},
		{"ws", "ws" + strings.TrimPrefix(there.URL, "http") + "/elsewhere", true},
		{"relative", "/node2/websocket", true},
		{"nowhere", "", false},
		{"strange", "ftp://example.com/", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			hits := 0
			r := newRig(t, func(r *rig) {
				r.peer.before = func(w http.ResponseWriter, req *http.Request) bool {
					if hits++; hits > 1 {
						return false
					}
					if c.location != "" {
						w.Header().Set("Location", c.location)
					}
					w.WriteHeader(http.StatusFound)
					return true
				}
			})
			r.run()
			at := r.peer
			if strings.Contains(c.location, "elsewhere") {
				at = there
			}
			conn := await(t, "a connection", at.conns)
			conn.join()
			if conn.request.URL.Query().Get("vsn") != "2.0.0" {
				t.Errorf("redirected to %s", conn.request.URL)
			}
			if redirected := conn.request.URL.Path != "/device-socket/websocket"; redirected != c.ok {
				t.Errorf("ended at %s", conn.request.URL)
			}
			if !nh1.Present(conn.request.Header) {
				t.Error("not signed")
			}
			if !c.ok {
				return
			}
			// The new place is kept, and given up when it fails.
			conn.ws.CloseNow()
			conn = await(t, "a second connection", at.conns)
			conn.join()
			if conn.request.URL.Path == "/device-socket/websocket" {
				t.Error("forgot where it was sent")
			}
		})
	}
}

func TestAtMostTwoRedirectsInARow(t *testing.T) {
	var hits atomic.Int32
	r := newRig(t, func(r *rig) {
		r.peer.before = func(w http.ResponseWriter, req *http.Request) bool {
			if hits.Add(1) > 3 {
				return false
			}
			w.Header().Set("Location", "/again")
			w.WriteHeader(http.StatusTemporaryRedirect)
			return true
		}
	})
	c := r.start()
	c.join()
	if err := await(t, "the reason", r.client.lost); !strings.Contains(err.Error(), "stopped after 2 redirects") {
		t.Errorf("gave up by %v", err)
	}
	if hits.Load() != 4 || c.request.URL.Path != "/device-socket/websocket" {
		t.Errorf("%d requests, ended at %s", hits.Load(), c.request.URL)
	}
}

func TestRedirectStaysWithinTLS(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	from, err := (Options{Host: "wss://h"}).endpoint(false)
	if err != nil {
		t.Fatal(err)
	}
	if to, err := redirected(from, plain.URL, phx.JSON); err == nil {
		t.Errorf("went to %s", to)
	}
	if to, err := redirected(from, "https://other:4001/x", phx.JSON); err != nil || to.String() != "wss://other:4001/x?vsn=2.0.0" {
		t.Errorf("went to %s, %v", to, err)
	}
	// The version is the device's, whatever the place says.
	if to, err := redirected(from, "https://other:4001/x?vsn=2.0.0", phx.MessagePack); err != nil || to.String() != "wss://other:4001/x?vsn=3.0.0" {
		t.Errorf("went to %s, %v", to, err)
	}
}

func TestRefusalsSayWhy(t *testing.T) {
	hits := 0
	r := newRig(t, func(r *rig) {
		r.peer.before = func(w http.ResponseWriter, _ *http.Request) bool {
			switch hits++; hits {
			case 1:
				w.Header().Set("nh-connection-error-reason", "the platform could not be reached")
				w.WriteHeader(http.StatusServiceUnavailable)
			case 2:
				w.WriteHeader(http.StatusForbidden)
			default:
				return false
			}
			return true
		}
	})
	r.start().join()
	if err := await(t, "the first reason", r.client.lost); !strings.HasSuffix(err.Error(), "(refused with status 503: the platform could not be reached)") {
		t.Error(err)
	}
	if err := await(t, "the second reason", r.client.lost); !strings.Contains(err.Error(), "shared secret") || !strings.Contains(err.Error(), "(refused with status 403") {
		t.Error(err)
	}
}

func TestWaitsForTheNetworkButNotForEver(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	r := newRig(t, func(r *rig) {
		setVars(t, r.image, map[string]string{"a.nerves_fw_validated": "0"})
		r.options.Host, r.options.WaitForNetwork, r.options.ValidateWithin = closed.URL, true, 20*time.Millisecond
	})
	r.run()
	if err := await(t, "the end", r.done); !errors.Is(err, ErrRebooting) {
		t.Errorf("Run returned %v", err)
	}
}

func TestValidatesOnlyAfterAnAcceptedJoin(t *testing.T) {
	r := newRig(t, func(r *rig) { setVars(t, r.image, map[string]string{"a.nerves_fw_validated": "0"}) })
	c := r.start()
	m, params := c.next()
	if meta := params["meta"].(map[string]any); meta["firmware_validated"] != false {
		t.Errorf("meta %v", meta)
	}
	c.send(`["` + m.Ref + `","` + m.Ref + `","device","phx_reply",{"status":"error","response":{}}]`)
	m, _ = c.next() // joined again, so the refusal was handled
	if v := readVars(t, r.image)["a.nerves_fw_validated"]; v != "0" {
		t.Fatalf("validated is %s after a refused join", v)
	}
	c.send(`["` + m.Ref + `","` + m.Ref + `","device","phx_reply",{"status":"ok","response":{}}]`)
	if m, _ := c.next(); m.Event != "firmware_validated" || string(m.Payload) != "{}" {
		t.Fatalf("the device sent %s %s", m.Event, m.Payload)
	}
	if v := readVars(t, r.image)["a.nerves_fw_validated"]; v != "1" {
		t.Errorf("validated is %s", v)
	}
}

func TestUnprovenFirmwareRestarts(t *testing.T) {
	attempts := 0
	r := newRig(t, func(r *rig) {
		setVars(t, r.image, map[string]string{"a.nerves_fw_validated": "0"})
		r.options.ValidateWithin = 20 * time.Millisecond
		r.client.validate = func() error { return errors.New("the sensor is silent") }
		r.client.reboot = func() error {
			if attempts++; attempts == 1 {
				return errors.New("not now")
			}
			return nil
		}
	})
	r.start().join()
	if err := await(t, "the end", r.done); !errors.Is(err, ErrRebooting) {
		t.Errorf("Run returned %v", err)
	}
	if attempts != 2 {
		t.Errorf("%d attempts to restart, want another after the failed one", attempts)
	}
	if v := readVars(t, r.image)["a.nerves_fw_validated"]; v != "0" {
		t.Errorf("validated is %s", v)
	}
}

func TestRebootOrder(t *testing.T) {
	fail := atomic.Bool{}
	fail.Store(true)
	r := newRig(t, func(r *rig) {
		r.client.reboot = func() error {
			if fail.Load() {
				return errors.New("no")
			}
			return nil
		}
	})
	c := r.start()
	c.join()
	c.send(`[null,null,"device","reboot",{}]`)
	c.until("rebooting", "{}")
	await(t, "the order", r.client.rebooted)
	c.send(`[null,null,"device","identify",{}]`)
	await(t, "going on after a failed reboot", r.client.identified)
	fail.Store(false)
	c.send(`[null,null,"device","reboot",{}]`)
	if err := await(t, "the end", r.done); !errors.Is(err, ErrRebooting) {
		t.Errorf("Run returned %v", err)
	}
}
