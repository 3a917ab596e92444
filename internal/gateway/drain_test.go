package gateway

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

func TestDrain(t *testing.T) {
	p := start(t, func(o *Options) { o.DrainBatch, o.DrainInterval = 2, 10*time.Millisecond })
	var list []*client
	for i := range 5 {
		c := p.dial(fmt.Sprint("sn-", i))
		c.join("")
		list = append(list, c)
	}
	drained := make(chan error, 1)
	go func() { drained <- p.gateway.Drain(t.Context()) }()
	for _, c := range list {
		c.expectClose(closeRestart)
	}
	must(t, <-drained)
	for i := range 5 {
		if c := p.device(fmt.Sprint("sn-", i)).Connection; c.Status != fleet.Disconnected || c.Reason != "the server restarts" {
			t.Errorf("stored: %+v", c)
		}
	}
	if p.gateway.Count() != 0 {
		t.Errorf("count %d", p.gateway.Count())
	}
	resp, _ := p.request("GET", "/socket/websocket?vsn=2.0.0", upgrade(p.headers("sn-1")))
	if resp.StatusCode != 503 || resp.Header.Get(reasonHeader) != reasonUnreachable {
		t.Errorf("a device that comes: %d", resp.StatusCode)
	}
	must(t, p.stop())
}

func TestDrainDoesNotWaitForEver(t *testing.T) {
	p := start(t, func(o *Options) { o.DrainBatch, o.DrainInterval = 1, time.Hour })
	for i := range 3 {
		p.dial(fmt.Sprint("sn-", i)).join("")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.gateway.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drain: %v", err)
	}
	for i := range 3 {
		if c := p.device(fmt.Sprint("sn-", i)).Connection; c.Status != fleet.Disconnected {
			t.Errorf("stored: %+v", c)
		}
	}
}

func TestRunSendsEveryoneAwayAtItsEnd(t *testing.T) {
	p := start(t, nil)
	c := p.dial("sn-1")
	c.join("")
	ended := make(chan error, 1)
	go func() { ended <- p.stop() }()
	c.expectClose(closeRestart)
	must(t, <-ended)
	if d := p.device("sn-1"); d.Connection.Status != fleet.Disconnected || d.Connection.Reason != "the server stops" {
		t.Errorf("stored: %+v", d.Connection)
	}
}
