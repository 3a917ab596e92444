package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestNetworkIdentity(t *testing.T) {
	ids := []Identity{{Service: "iroh", Identifier: "e13b", Instance: "console", Details: map[string]any{"ticket": "t"}}, {Service: "wireguard", Identifier: "key="}}
	var failure error
	var failed []string
	n := &NetworkIdentity{
		Providers: []func(context.Context) ([]Identity, error){
			func(context.Context) ([]Identity, error) { return nil, failure },
			func(context.Context) ([]Identity, error) { return ids, nil },
		},
		Interval: time.Hour, OnError: func(err error) { failed = append(failed, err.Error()) },
	}
	sent := make(chan string, 16)
	down := false
	push := func(event string, payload any) error {
		if down {
			return errors.New("no connection")
		}
		body, err := json.Marshal(payload)
		sent <- event + " " + string(body)
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := n.Attach(ctx, push); err != nil {
		t.Fatal(err)
	}
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-sent:
			if got != want {
				t.Errorf("sent %s, want %s", got, want)
			}
		default:
			if want != "" {
				t.Errorf("nothing sent, want %s", want)
			}
		}
	}
	iroh := `{"service":"iroh","identifier":"e13b","instance":"console","details":{"ticket":"t"}}`
	both := `report {"identities":[` + iroh + `,{"service":"wireguard","identifier":"key=","details":{}}]}`
	n.Event(ctx, "other", nil)
	expect("")
	n.Event(ctx, "request", nil)
	expect(both)
	n.report(ctx, false)
	expect("")
	ids[1].Identifier = "new="
	down = true
	n.report(ctx, false) // lost, so it still counts as changed
	down = false
	failure = errors.New("the daemon is down")
	n.report(ctx, false)
	expect(`report {"identities":[{"service":"wireguard","identifier":"new=","details":{}}]}`)
	n.report(ctx, false)
	expect("")
	if len(failed) != 2 || failed[0] != "network identity: the daemon is down" {
		t.Errorf("failures %v", failed)
	}
	// More than servers take at once, and what they do not take at all.
	ids = []Identity{
		{Service: "", Identifier: "x"}, {Service: "x", Identifier: strings.Repeat("i", 256)},
		{Service: "x", Identifier: "i", Details: map[string]any{"d": strings.Repeat("d", 5000)}},
		{Service: "x", Identifier: "i", Details: map[string]any{"d": func() {}}},
	}
	for i := range 25 {
		ids = append(ids, Identity{Service: "tailscale", Identifier: fmt.Sprint(i), Instance: fmt.Sprint(i)})
	}
	n.Event(ctx, "request", nil)
	for _, count := range []int{10, 10, 5} {
		if got := strings.Count(<-sent, "tailscale"); got != count {
			t.Errorf("a report of %d", got)
		}
	}
	expect("")
	cancel()
	n.Detach()
}

func TestNetworkIdentityPolls(t *testing.T) {
	var key atomic.Value
	key.Store("first")
	n := &NetworkIdentity{
		Providers: []func(context.Context) ([]Identity, error){func(context.Context) ([]Identity, error) {
			return []Identity{{Service: "netbird", Identifier: key.Load().(string)}}, nil
		}},
		Interval: time.Millisecond,
	}
	r := newRig(t, withExtensions(n))
	c := r.start()
	c.join()
	c.event("device", "extensions:get", struct{}{})
	c.accept("extensions", `["network_identity"]`)
	c.push("extensions", "network_identity:attached")
	c.silent()
	for range 2 {
		c.event("extensions", "network_identity:request", struct{}{})
		c.push("extensions", "network_identity:report")
	}
	key.Store("second")
	if m, _ := c.push("extensions", "network_identity:report"); !strings.Contains(string(m.Payload), "second") {
		t.Errorf("reported %s", m.Payload)
	}
}
