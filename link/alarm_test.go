package link

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
)

func TestAlarmsAreToldAsTheyStand(t *testing.T) {
	var a Alarms
	a.Set("hot", "80 degrees")
	ctx, cancel := context.WithCancel(t.Context())
	changes := make(chan AlarmChange, 16)
	ended := make(chan error, 1)
	go func() { ended <- a.Subscribe(ctx, func(c AlarmChange) { changes <- c }) }()
	expect := func(want AlarmChange) {
		t.Helper()
		if got := await(t, "a change", changes); got != want {
			t.Fatalf("told %+v, want %+v", got, want)
		}
	}
	expect(AlarmChange{"hot", "80 degrees", true})
	a.Set("hot", "80 degrees") // no change
	a.Set("hot", "90 degrees")
	expect(AlarmChange{"hot", "90 degrees", true})
	a.Clear("cold") // was never set
	a.Set("wet", "")
	expect(AlarmChange{"wet", "", true})
	a.Clear("hot")
	expect(AlarmChange{Name: "hot"})
	if got := a.Current(); !maps.Equal(got, map[string]string{"wet": ""}) {
		t.Errorf("current are %v", got)
	}
	cancel()
	if err := await(t, "the end", ended); !errors.Is(err, context.Canceled) {
		t.Errorf("ended by %v", err)
	}
	if len(changes) > 0 {
		t.Errorf("told %+v as well", <-changes)
	}
}

// TestSlowSubscriberHearsTheOutcome: what is set and cleared while a
// subscriber is busy may pass it by, but not how things stand in the end.
func TestSlowSubscriberHearsTheOutcome(t *testing.T) {
	var a Alarms
	a.Set("first", "")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	busy, free := make(chan struct{}), make(chan struct{})
	seen := map[string]string{}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = a.Subscribe(ctx, func(c AlarmChange) {
			if c.Name == "first" && c.Set {
				close(busy)
				<-free
			}
			if c.Set {
				seen[c.Name] = c.Description
			} else {
				delete(seen, c.Name)
			}
			if c.Name == "last" {
				cancel()
			}
		})
	}()
	await(t, "the first alarm", busy)
	for i := range 1000 {
		a.Set("flapping", fmt.Sprint(i))
		a.Clear("flapping")
	}
	a.Clear("first")
	a.Set("last", "x")
	close(free)
	await(t, "the end", ended)
	if !maps.Equal(seen, map[string]string{"last": "x"}) {
		t.Errorf("it holds %v", seen)
	}
}

func TestAlarmsAreBounded(t *testing.T) {
	var a Alarms
	for i := range 2 * maxAlarms {
		a.Set(fmt.Sprint(i), "")
	}
	if n := len(a.Current()); n != maxAlarms {
		t.Fatalf("%d alarms", n)
	}
	a.Set("0", "changed")
	a.Clear("1")
	a.Set("new", "")
	got := a.Current()
	if _, ok := got["new"]; !ok || got["0"] != "changed" || len(got) != maxAlarms {
		t.Errorf("%d alarms, new %v, 0 %q", len(got), ok, got["0"])
	}
}

func TestConnectionAndUpdatesRaiseAlarms(t *testing.T) {
	alarms := &Alarms{}
	changes := make(chan AlarmChange, 64)
	r := newRig(t, func(r *rig) { r.options.Alarms = alarms })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = alarms.Subscribe(ctx, func(c AlarmChange) { changes <- c })
	}()
	t.Cleanup(func() { cancel(); <-ended })
	until := func(name string, set bool) {
		t.Helper()
		for {
			if c := await(t, name, changes); c.Name == name && c.Set == set {
				return
			}
		}
	}
	c := r.start()
	until(AlarmDisconnected, true)
	c.join()
	until(AlarmDisconnected, false)
	_ = c.ws.Close(1001, "")
	until(AlarmDisconnected, true)
	c = r.connection()
	c.join()
	until(AlarmDisconnected, false)
	next := r.factory.build(t, "1.1.0", nil)
	c.send(r.offer(next, r.peer.URL+"/none.fw"))
	until(AlarmUpdateInProgress, true)
	await(t, "the failure", r.client.failed)
	until(AlarmUpdateInProgress, false)
}
