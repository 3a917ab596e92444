package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

const (
	restartDevices = 10_000
	idleTime       = 30 * time.Second // one heartbeat of each device
)

// restart is how long a fleet takes to be back after the server was stopped
// and started again, against the bare upgrades of as many; whether the web
// pages answer meanwhile; and what the idle fleet costs.
func restart(ctx context.Context, dir string) ([]row, error) {
	prepared, err := startChild(ctx, "prepare", dir)
	if err != nil {
		return nil, err
	}
	if err := prepared.stop(); err != nil {
		return nil, err
	}
	bare, err := bareUpgrades(ctx, dir)
	if err != nil {
		return nil, err
	}
	s, err := startChild(ctx, "serve", dir)
	if err != nil {
		return nil, err
	}
	s.OldUUID = prepared.OldUUID
	list := names("back-", restartDevices)
	devices := sign(list, prepared.Key, prepared.Secret)
	if _, err := connectAll(ctx, s, devices, (*device).settle); err != nil {
		return nil, err
	}
	share, err := idleShare(s, devices)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, addressFile), []byte(s.Web+" "+s.Device), 0o600); err != nil {
		return nil, err
	}
	if err := s.stop(); err != nil {
		return nil, err
	}
	closeAll(devices)
	if s, err = startChild(ctx, "serve", dir); err != nil {
		return nil, err
	}
	s.OldUUID = prepared.OldUUID
	devices = sign(list, prepared.Key, prepared.Secret)
	defer closeAll(devices)
	watch := watchPages(ctx, "http://"+s.Web+"/signin")
	start := time.Now()
	if _, err := connectAll(ctx, s, devices, (*device).join); err != nil {
		return nil, err
	}
	took := time.Since(start)
	slowest, err := watch()
	if err != nil {
		return nil, err
	}
	return []row{
		atMost("10,000 devices idle with heartbeats", share, "% of a core", 2),
		atMost("restart with 10,000 devices until all have joined, against bare upgrades", took.Seconds()/bare.Seconds(), "×", 2),
		orientation("restart with 10,000 devices until all have joined", took.Seconds(), "s", ""),
		atMost("slowest answer of the web pages meanwhile", slowest.Seconds()*1000, "ms", 500),
	}, s.stop()
}

func bareUpgrades(ctx context.Context, dir string) (time.Duration, error) {
	s, err := startChild(ctx, "bare", dir)
	if err != nil {
		return 0, err
	}
	devices := sign(names("back-", restartDevices), "nhp_x", "x")
	defer closeAll(devices)
	t, err := connectAll(ctx, s, devices, nil)
	return t.total, errors.Join(err, s.stop())
}

// idleShare is the share of a core that the server takes while each device
// sends one heartbeat in its time, one after the other.
func idleShare(s *server, devices []*device) (float64, error) {
	if err := s.calm(); err != nil {
		return 0, err
	}
	var before, after float64
	if err := s.ask("cpu", &before); err != nil {
		return 0, err
	}
	start := time.Now()
	for i, d := range devices {
		if wait := time.Until(start.Add(idleTime * time.Duration(i) / time.Duration(len(devices)))); wait > 0 {
			time.Sleep(wait)
		}
		if err := d.write(`[null,"9","phoenix","heartbeat",{}]`); err != nil {
			return 0, err
		}
		if _, err := d.read(); err != nil {
			return 0, err
		}
	}
	took := time.Since(start)
	if err := s.ask("cpu", &after); err != nil {
		return 0, err
	}
	return 100 * (after - before) / took.Seconds(), nil
}

// watchPages asks for a page over and over; stop returns the slowest answer.
func watchPages(ctx context.Context, url string) (stop func() (time.Duration, error)) {
	ctx, cancel := context.WithCancel(ctx)
	var slowest atomic.Int64
	var failed error
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			start := time.Now()
			if err := fetchPage(ctx, url); err != nil && ctx.Err() == nil {
				failed = err
				return
			}
			if took := time.Since(start); took > time.Duration(slowest.Load()) && ctx.Err() == nil {
				slowest.Store(int64(took))
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	return func() (time.Duration, error) {
		cancel()
		<-done
		return time.Duration(slowest.Load()), failed
	}
}

func fetchPage(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d", url, resp.StatusCode)
	}
	return nil
}
