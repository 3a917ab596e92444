package bus

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/ganglion-iot/ganglion/fleet"
)

// TestBus runs one suite on the embedded server and on a cluster of three.
func TestBus(t *testing.T) {
	t.Run("embedded", func(t *testing.T) {
		testBus(t, func(t *testing.T) (near, far *Bus) {
			b := open(t, "")
			return b, b
		})
	})
	t.Run("cluster", func(t *testing.T) {
		testBus(t, func(t *testing.T) (near, far *Bus) {
			urls := startCluster(t)
			return open(t, urls[0]), open(t, urls[2])
		})
	})
}

func open(t *testing.T, url string) *Bus {
	t.Helper()
	b, err := Open(t.Context(), Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// startCluster runs three NATS servers that route to each other, on ports the
// system chooses.
func startCluster(t *testing.T) []string {
	t.Helper()
	var (
		urls  []string
		nodes []*server.Server
	)
	for i := range 3 {
		o := &server.Options{
			ServerName: string(rune('a' + i)), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: server.RANDOM_PORT, PoolSize: -1},
		}
		if i > 0 {
			o.Routes = server.RoutesFromStr("nats://" + nodes[0].ClusterAddr().String())
		}
		srv, err := server.NewServer(o)
		if err != nil {
			t.Fatal(err)
		}
		srv.Start()
		if !srv.ReadyForConnections(startTimeout) {
			t.Fatal("a node of the cluster did not start")
		}
		t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
		nodes = append(nodes, srv)
		urls = append(urls, srv.ClientURL())
	}
	await(t, "the routes between three nodes", func() bool {
		for _, n := range nodes {
			if n.NumRoutes() < 2 {
				return false
			}
		}
		return true
	})
	return urls
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// inbox keeps what a handler was given.
type inbox[T any] struct {
	mu  sync.Mutex
	got []T
}

func (i *inbox[T]) add(v T) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.got = append(i.got, v)
}

func (i *inbox[T]) list() []T {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]T(nil), i.got...)
}

// probe publishes until the subscription has heard it: interest takes a
// moment to travel between the nodes of a cluster.
func probe[T any](t *testing.T, in *inbox[T], publish func() error) {
	t.Helper()
	await(t, "a first message", func() bool {
		if err := publish(); err != nil {
			t.Fatal(err)
		}
		return len(in.list()) > 0
	})
	var last int
	await(t, "the probes to settle", func() bool {
		n := len(in.list())
		settled := n == last
		last = n
		return settled
	})
}

func testBus(t *testing.T, pair func(*testing.T) (near, far *Bus)) {
	t.Run("changes arrive in order and by org", func(t *testing.T) {
		near, far := pair(t)
		var all, mine inbox[fleet.Change]
		subscribed(t)(far.OnChange(0, all.add))
		subscribed(t)(far.OnChange(7, mine.add))
		probe(t, &mine, func() error { return near.PublishChange(fleet.Change{OrgID: 7, Action: "probe"}) })
		const n = 2000
		for i := range n {
			if err := near.PublishChange(fleet.Change{OrgID: int64(7 + i%2), Seq: int64(i + 1), Noun: "device"}); err != nil {
				t.Fatal(err)
			}
		}
		real := func(in *inbox[fleet.Change]) (got []fleet.Change) {
			for _, c := range in.list() {
				if c.Action != "probe" {
					got = append(got, c)
				}
			}
			return got
		}
		await(t, "every change", func() bool { return len(real(&all)) == n && len(real(&mine)) == n/2 })
		for i, c := range real(&all) {
			if c.Seq != int64(i+1) {
				t.Fatalf("change %d has sequence %d", i, c.Seq)
			}
		}
		for _, c := range real(&mine) {
			if c.OrgID != 7 {
				t.Fatalf("a change of org %d reached org 7", c.OrgID)
			}
		}
	})

	t.Run("batches are told apart by org", func(t *testing.T) {
		near, far := pair(t)
		var progress inbox[[]fleet.Progress]
		var presence inbox[[]fleet.Presence]
		subscribed(t)(far.OnProgress(2, progress.add))
		subscribed(t)(far.OnPresence(0, presence.add))
		probe(t, &progress, func() error { return near.PublishProgress([]fleet.Progress{{OrgID: 2}}) })
		probe(t, &presence, func() error { return near.PublishPresence([]fleet.Presence{{OrgID: 2}}) })
		before, beforePresence := len(progress.list()), len(presence.list())
		if err := near.PublishProgress([]fleet.Progress{{OrgID: 1, Percent: 1}, {OrgID: 2, Percent: 2}, {OrgID: 2, Percent: 3}}); err != nil {
			t.Fatal(err)
		}
		if err := near.PublishPresence([]fleet.Presence{{OrgID: 1, Identifier: "a"}, {OrgID: 3, Identifier: "b"}}); err != nil {
			t.Fatal(err)
		}
		await(t, "both", func() bool {
			return len(progress.list()) == before+1 && len(presence.list()) == beforePresence+2
		})
		want := []fleet.Progress{{OrgID: 2, Percent: 2}, {OrgID: 2, Percent: 3}}
		if diff := cmp.Diff(want, progress.list()[before]); diff != "" {
			t.Error(diff)
		}
	})

	t.Run("hints about telemetry are told by org", func(t *testing.T) {
		near, far := pair(t)
		var in inbox[[]fleet.TelemetryHint]
		subscribed(t)(far.OnTelemetry(2, in.add))
		probe(t, &in, func() error { return near.PublishTelemetry([]fleet.TelemetryHint{{OrgID: 2}}) })
		before := len(in.list())
		want := fleet.TelemetryHint{OrgID: 2, ProductID: 3, DeviceID: 4, Kinds: []string{fleet.TelemetryLogs}}
		if err := near.PublishTelemetry([]fleet.TelemetryHint{{OrgID: 1}, want}); err != nil {
			t.Fatal(err)
		}
		await(t, "the hint", func() bool { return len(in.list()) == before+1 })
		if diff := cmp.Diff([]fleet.TelemetryHint{want}, in.list()[before]); diff != "" {
			t.Error(diff)
		}
	})

	t.Run("a large batch goes in parts and keeps its order", func(t *testing.T) {
		near, far := pair(t)
		var in inbox[[]fleet.DeviceReport]
		subscribed(t)(far.OnReport("n1", in.add))
		probe(t, &in, func() error { return near.Report("n1", []fleet.DeviceReport{{}}) })
		list := make([]fleet.DeviceReport, 10_000)
		for i := range list {
			list[i] = fleet.DeviceReport{Kind: fleet.ReportStatus, DeviceID: int64(i + 1), Reason: strings.Repeat("x", 200)}
		}
		if err := near.Report("n1", list); err != nil {
			t.Fatal(err)
		}
		var got []fleet.DeviceReport
		await(t, "every report", func() bool {
			got = got[:0]
			for _, batch := range in.list() {
				for _, r := range batch {
					if r.DeviceID != 0 {
						got = append(got, r)
					}
				}
			}
			return len(got) == len(list)
		})
		if diff := cmp.Diff(list, got); diff != "" {
			t.Error(diff)
		}
	})

	t.Run("device messages reach their node or every node", func(t *testing.T) {
		near, far := pair(t)
		var one, two inbox[fleet.DeviceMessage]
		subscribed(t)(far.OnDeviceMessage("n1", one.add))
		subscribed(t)(far.OnDeviceMessage("n2", two.add))
		probe(t, &one, func() error { return near.SendToDevices("n1", fleet.DeviceMessage{}) })
		probe(t, &two, func() error { return near.SendToDevices("n2", fleet.DeviceMessage{}) })
		m := fleet.DeviceMessage{Devices: []int64{1, 2}, Event: "update", Payload: json.RawMessage(`{"a":1}`)}
		for _, node := range []string{"n1", ""} {
			if err := near.SendToDevices(node, m); err != nil {
				t.Fatal(err)
			}
		}
		count := func(in *inbox[fleet.DeviceMessage]) (n int) {
			for _, got := range in.list() {
				if cmp.Equal(m, got) {
					n++
				}
			}
			return n
		}
		await(t, "both nodes", func() bool { return count(&one) == 2 && count(&two) == 1 })
	})

	t.Run("nothing comes after stop", func(t *testing.T) {
		near, far := pair(t)
		var stopped, other inbox[fleet.Change]
		stop, err := far.OnChange(1, stopped.add)
		if err != nil {
			t.Fatal(err)
		}
		subscribed(t)(far.OnChange(1, other.add))
		probe(t, &other, func() error { return near.PublishChange(fleet.Change{OrgID: 1}) })
		stop()
		stop()
		before, beforeOther := len(stopped.list()), len(other.list())
		if err := near.PublishChange(fleet.Change{OrgID: 1}); err != nil {
			t.Fatal(err)
		}
		await(t, "the other", func() bool { return len(other.list()) > beforeOther })
		if got := len(stopped.list()); got != before {
			t.Errorf("%d messages after stop", got-before)
		}
	})

	t.Run("close hands over what has arrived", func(t *testing.T) {
		near, far := pair(t)
		var in inbox[fleet.Change]
		subscribed(t)(far.OnChange(1, in.add))
		probe(t, &in, func() error { return near.PublishChange(fleet.Change{OrgID: 1}) })
		before := len(in.list())
		const n = 5000
		for range n {
			if err := near.PublishChange(fleet.Change{OrgID: 1}); err != nil {
				t.Fatal(err)
			}
		}
		if err := near.Close(); err != nil {
			t.Fatal(err)
		}
		await(t, "all of it", func() bool { return len(in.list()) == before+n })
		err := near.PublishChange(fleet.Change{})
		if fleet.KindOf(err) != fleet.Unavailable {
			t.Errorf("publishing after close: %v", err)
		}
	})

	t.Run("bad input is refused", func(t *testing.T) {
		near, _ := pair(t)
		for _, node := range []string{"", "a.b", "*", ">", "a b", strings.Repeat("x", 129)} {
			if err := near.Report(node, nil); fleet.KindOf(err) != fleet.Invalid {
				t.Errorf("node %q: %v", node, err)
			}
		}
		huge := fleet.DeviceMessage{Payload: json.RawMessage(`"` + strings.Repeat("x", MaxMessage) + `"`)}
		if err := near.SendToDevices("n1", huge); fleet.KindOf(err) != fleet.TooLarge {
			t.Errorf("a huge message: %v", err)
		}
		if err := near.Ping(t.Context()); err != nil {
			t.Errorf("ping: %v", err)
		}
	})
}

// subscribed stops a subscription at the end of the test.
func subscribed(t *testing.T) func(stop func(), err error) {
	return func(stop func(), err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stop)
	}
}

func TestOpenWithoutServer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err := Open(ctx, Options{URL: "nats://user:hush@127.0.0.1:1"})
	if fleet.KindOf(err) != fleet.Unavailable {
		t.Fatalf("got %v", err)
	}
	if strings.Contains(err.Error(), "hush") {
		t.Errorf("the error shows the password: %v", err)
	}
}

func BenchmarkReport(b *testing.B) {
	bus, err := Open(b.Context(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer bus.Close()
	done := make(chan int, 1024)
	if _, err := bus.OnReport("n", func(l []fleet.DeviceReport) { done <- len(l) }); err != nil {
		b.Fatal(err)
	}
	batch := make([]fleet.DeviceReport, 100)
	for b.Loop() {
		if err := bus.Report("n", batch); err != nil {
			b.Fatal(err)
		}
		<-done
	}
}

func TestOnAnyHearsEverythingOfItsOrg(t *testing.T) {
	b := open(t, "")
	poked := make(chan struct{}, 10)
	stop, err := b.OnAny(1, func() { poked <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	for what, tell := range map[string]func(org int64) error{
		"change":   func(org int64) error { return b.PublishChange(fleet.Change{OrgID: org}) },
		"progress": func(org int64) error { return b.PublishProgress([]fleet.Progress{{OrgID: org}}) },
		"presence": func(org int64) error { return b.PublishPresence([]fleet.Presence{{OrgID: org}}) },
	} {
		if err := errors.Join(tell(2), tell(1)); err != nil {
			t.Fatal(err)
		}
		select {
		case <-poked:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s was not heard", what)
		}
	}
	stop()
	if err := b.Ping(t.Context()); err != nil || len(poked) != 0 {
		t.Errorf("%d more, of another org: %v", len(poked), err)
	}
}
