package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const startRounds = 5

// startUp is the time until a server of the built program answers that it is
// ready: the first start, which makes database, keys and authority, and later
// ones.
func startUp(ctx context.Context, dir string) ([]row, error) {
	var first, later []float64
	for i := range startRounds {
		data := filepath.Join(dir, fmt.Sprint(i))
		for _, list := range []*[]float64{&first, &later} {
			took, err := untilReady(ctx, data)
			if err != nil {
				return nil, err
			}
			*list = append(*list, took.Seconds())
		}
	}
	return []row{
		atMost("first start to ready", median(first), "s", 1),
		atMost("later start to ready", median(later), "s", 1),
	}, nil
}

func untilReady(ctx context.Context, data string) (took time.Duration, err error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bin/ganglion", "serve", "--data", data, "--listen", address, "--device-listen", "127.0.0.1:0", "--log-level", "error")
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		err = errors.Join(err, cmd.Process.Signal(os.Interrupt), cmd.Wait())
	}()
	for {
		if ready(ctx, "http://"+address+"/readyz") {
			return time.Since(start), nil
		}
		select {
		case <-ctx.Done():
			return 0, errors.New("bin/ganglion serve does not become ready; build it first with make build")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func ready(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func freeAddress(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// sizes are those of the built programs.
func sizes(context.Context, string) ([]row, error) {
	var rows []row
	for _, p := range []struct {
		name string
		goal float64 // MiB
	}{{"ganglion-link", 12}, {"fwup", 8}} {
		info, err := os.Stat(filepath.Join("bin", p.name))
		if err != nil {
			return nil, fmt.Errorf("%w; build it first with make build", err)
		}
		rows = append(rows, atMost("size of "+p.name, float64(info.Size())/(1<<20), "MiB", p.goal))
	}
	return rows, nil
}
