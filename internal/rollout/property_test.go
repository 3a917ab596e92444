package rollout

import (
	"context"
	"flag"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/internal/store/storetest"
)

// machine drives engines step by step, without their goroutines, so that every
// interleaving of whole steps can be drawn and repeated.
type machine struct {
	*world
	engines []*Engine // one per node
	list    []fleet.Device
	on      map[int64]string         // node that holds a device
	runs    map[int64]fleet.Firmware // what a device runs
	limit   int
	all     []fleet.Firmware
	pending []pendingReports
}

// pendingReports are on their way to an engine.
type pendingReports struct {
	node int
	list []fleet.DeviceReport
}

func nodeName(i int) string { return fmt.Sprintf("n%d", i+1) }

func newMachine(t testing.TB, rt *rapid.T, db *store.DB, c *clock, nodes int) *machine {
	m := &machine{world: newWorld(t, db, c, nodeName(0), nodeName(1)), on: map[int64]string{}, runs: map[int64]fleet.Firmware{}}
	for i := range 4 {
		m.all = append(m.all, m.firmware(fmt.Sprintf("1.%d.0", i)))
	}
	m.limit = rapid.IntRange(1, 4).Draw(rt, "limit")
	m.group("all", m.all[0], control.CreateDeploymentGroupInput{Active: true, ConcurrentUpdates: m.limit, HoldTime: holding(5 * time.Second)})
	m.list = m.devices(rapid.IntRange(1, 8).Draw(rt, "devices"))
	for _, d := range m.list {
		m.runs[d.ID] = m.all[0]
	}
	for i := range nodes {
		m.engines = append(m.engines, m.engine(nodeName(i)))
	}
	return m
}

// work does what the goroutines of an engine would do now.
func (m *machine) work(i int) {
	m.t.Helper()
	ctx := context.Background()
	e := m.engines[i]
	rest := m.pending[:0]
	for _, p := range m.pending {
		if p.node == i {
			m.must(e.report(ctx, p.list))
			continue
		}
		rest = append(rest, p)
	}
	m.pending = rest
	for _, q := range []struct {
		q  *queue
		do func(context.Context, int64) error
	}{{e.products, e.regroupProduct}, {e.groups, e.evaluate}} {
		for _, id := range q.q.takeWaiting(1000) {
			m.must(q.do(ctx, id))
			q.q.done(id)
		}
	}
	_, err := e.due(ctx)
	m.must(err)
}

// kick gives every engine the hint that tenant data changed.
func (m *machine) kick() {
	for _, e := range m.engines {
		e.noticed(fleet.Change{Seq: 1, Noun: "deployment_group", Action: "deployment_group.update", ID: 1, ProductID: m.product.ID})
	}
}

func (m *machine) check(rt *rapid.T) {
	open := map[int64]int{}
	total := 0
	for _, a := range m.attempts(fleet.UpdateAttemptFilter{OpenOnly: true}) {
		open[a.DeviceID]++
		if a.GroupID != 0 {
			total++
		}
		if a.DeadlineAt.IsZero() {
			rt.Fatalf("attempt %d has no deadline", a.ID)
		}
	}
	if total > m.limit {
		rt.Fatalf("%d open attempts; the limit is %d", total, m.limit)
	}
	for d, n := range open {
		if n > 1 {
			rt.Fatalf("device %d has %d open attempts", d, n)
		}
	}
}

func (m *machine) node(d fleet.Device) int {
	for i := range m.engines {
		if m.on[d.ID] == nodeName(i) {
			return i
		}
	}
	return 0
}

func (m *machine) tell(i int, list []fleet.DeviceReport) {
	m.pending = append(m.pending, pendingReports{i, list})
}

func (m *machine) actions() map[string]func(*rapid.T) {
	device := func(rt *rapid.T) fleet.Device { return rapid.SampledFrom(m.list).Draw(rt, "device") }
	return map[string]func(*rapid.T){
		"": m.check,
		"join": func(rt *rapid.T) {
			d, i := device(rt), rapid.IntRange(0, len(m.engines)-1).Draw(rt, "node")
			m.on[d.ID] = nodeName(i)
			m.tell(i, m.connect(nodeName(i), m.runs[d.ID], d))
		},
		"update": func(rt *rapid.T) { // the device restarts into what it was sent last
			d := device(rt)
			sent := m.sentTo(d.ID)
			if len(sent) == 0 || m.on[d.ID] == "" {
				return
			}
			for _, f := range m.all {
				if f.UUID == sent[len(sent)-1].uuid {
					m.runs[d.ID] = f
				}
			}
			i := m.node(d)
			m.tell(i, m.disconnect(d))
			m.tell(i, m.connect(m.on[d.ID], m.runs[d.ID], d))
		},
		"leave": func(rt *rapid.T) {
			d := device(rt)
			if m.on[d.ID] == "" {
				return
			}
			m.tell(m.node(d), m.disconnect(d))
			delete(m.on, d.ID)
		},
		"say": func(rt *rapid.T) {
			d := device(rt)
			word := rapid.SampledFrom([]string{"received", "started", "completed", "failed", "ignored", "rescheduled", "nonsense"}).Draw(rt, "status")
			m.tell(m.node(d), m.status(word, d))
		},
		"release": func(rt *rapid.T) {
			m.release("all", rapid.SampledFrom(m.all).Draw(rt, "firmware"))
			m.kick()
		},
		"pause": func(rt *rapid.T) {
			on := rapid.Bool().Draw(rt, "active")
			_, err := m.control.UpdateDeploymentGroup(context.Background(), m.scope, "sensor", "all", 0, fleet.DeploymentGroupUpdate{Active: &on})
			m.must(err)
			m.kick()
		},
		"wait": func(rt *rapid.T) {
			m.clock.add(time.Duration(rapid.IntRange(1, 700).Draw(rt, "seconds")) * time.Second)
		},
		"work": func(rt *rapid.T) { m.work(rapid.IntRange(0, len(m.engines)-1).Draw(rt, "node")) },
		"restart": func(rt *rapid.T) {
			i := rapid.IntRange(0, len(m.engines)-1).Draw(rt, "node")
			m.engines[i] = m.engine(nodeName(i))
			m.must(m.engines[i].resume(context.Background()))
		},
	}
}

// TestAnyOrder draws joins, reports, releases, pauses and restarts in any
// order. The limit holds always, and once devices are silent every open
// attempt ends within bounded time.
func TestAnyOrder(t *testing.T) {
	// Each draw opens a database: fewer than usual, unless somebody asks.
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		if err := flag.Set("rapid.checks", "30"); err != nil {
			t.Fatal(err)
		}
		defer flag.Set("rapid.checks", checks.DefValue)
	}
	for _, nodes := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				c, draw := newClock(), &draw{TB: t}
				defer draw.end()
				m := newMachine(draw, rt, storetest.SQLite(draw, storetest.Clock(c.Now)), c, nodes)
				rt.Repeat(m.actions())
				m.ends(rt)
			})
		})
	}
}

// draw is a test that ends with one draw of a property.
type draw struct {
	testing.TB
	cleanups []func()
}

func (d *draw) Cleanup(fn func()) { d.cleanups = append(d.cleanups, fn) }

func (d *draw) end() {
	for i := len(d.cleanups) - 1; i >= 0; i-- {
		d.cleanups[i]()
	}
}

// ends lets time pass without a word from any device.
func (m *machine) ends(rt *rapid.T) {
	off := false
	_, err := m.control.UpdateDeploymentGroup(context.Background(), m.scope, "sensor", "all", 0, fleet.DeploymentGroupUpdate{Active: &off})
	m.must(err)
	m.disconnect(m.list...)
	m.pending = nil
	for range 4 {
		m.clock.add(DefaultProgressTimeout + DefaultRebootTimeout)
		for i := range m.engines {
			m.work(i)
		}
		m.check(rt)
	}
	if open := m.attempts(fleet.UpdateAttemptFilter{OpenOnly: true}); len(open) > 0 {
		rt.Fatalf("attempts are open for ever: %+v", open)
	}
}
