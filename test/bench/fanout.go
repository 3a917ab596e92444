package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const fanOutDevices = 10_000

// fanOut is how long it takes from a release until the last connected device
// is told, against writing a frame of the same size to each directly.
func fanOut(ctx context.Context, dir string) ([]row, error) {
	prepared, err := startChild(ctx, "prepare", dir)
	if err != nil {
		return nil, err
	}
	if err := prepared.stop(); err != nil {
		return nil, err
	}
	told, size, err := releaseToLast(ctx, dir, prepared)
	if err != nil {
		return nil, err
	}
	direct, err := directToLast(ctx, dir, size)
	if err != nil {
		return nil, err
	}
	return []row{
		atMost("release to last of 10,000 told, against direct writes", told.Seconds()/direct.Seconds(), "×", 8),
		orientation("release to last of 10,000 told", told.Seconds(), "s", "≤ 1.5; the original: 31"),
	}, nil
}

func releaseToLast(ctx context.Context, dir string, prepared *server) (time.Duration, int, error) {
	s, err := startChild(ctx, "serve", dir)
	if err != nil {
		return 0, 0, err
	}
	s.OldUUID = prepared.OldUUID
	devices := sign(names("told-", fanOutDevices), prepared.Key, prepared.Secret)
	defer closeAll(devices)
	if _, err := connectAll(ctx, s, devices, (*device).join); err != nil {
		return 0, 0, err
	}
	wait := lastFrame(devices)
	var at sent
	if err := s.ask("release", &at); err != nil {
		return 0, 0, err
	}
	last, size, err := wait()
	if err != nil {
		return 0, 0, err
	}
	return last.Sub(at.Start), size, s.stop()
}

func directToLast(ctx context.Context, dir string, size int) (time.Duration, error) {
	s, err := startChild(ctx, "bare", dir)
	if err != nil {
		return 0, err
	}
	devices := sign(names("told-", fanOutDevices), "nhp_x", "x")
	defer closeAll(devices)
	if _, err := connectAll(ctx, s, devices, nil); err != nil {
		return 0, err
	}
	wait := lastFrame(devices)
	var at sent
	if err := s.ask(fmt.Sprintf("send %d", size), &at); err != nil {
		return 0, err
	}
	last, _, err := wait()
	if err != nil {
		return 0, err
	}
	return last.Sub(at.Start), s.stop()
}

// lastFrame begins to wait for the next frame of every device; wait returns
// when the last one came.
func lastFrame(devices []*device) (wait func() (last time.Time, size int, err error)) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var last time.Time
	var size int
	var failed error
	for _, d := range devices {
		_ = d.conn.SetReadDeadline(time.Now().Add(time.Minute)) // a closed connection shows in the read
		wg.Go(func() {
			frame, err := d.read()
			now := time.Now()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = fmt.Errorf("%s: %w", d.name, err)
				return
			}
			if now.After(last) {
				last = now
			}
			size = len(frame)
		})
	}
	return func() (time.Time, int, error) {
		wg.Wait()
		return last, size, failed
	}
}
