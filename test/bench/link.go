package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/internal/simulate"
)

const (
	linkRest = 10 * time.Second // until an agent that has connected is idle
	linkTime = 30 * time.Second // in which its processor time is counted
	tick     = 10 * time.Millisecond
)

// agent is what the built ganglion-link takes on a device: idle, and while it
// applies an update.
func agent(ctx context.Context, dir string) ([]row, error) {
	prepared, err := startChild(ctx, "prepare", dir)
	if err != nil {
		return nil, err
	}
	if err := prepared.stop(); err != nil {
		return nil, err
	}
	s, err := startChild(ctx, "serve", dir)
	if err != nil {
		return nil, err
	}
	config, err := provision(ctx, dir, s, prepared)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "bin/ganglion-link", "--config", config)
	logs, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w; build it first with make build", err)
	}
	said := bufio.NewScanner(logs)
	for said.Scan() && !strings.Contains(said.Text(), "msg=connected") {
	}
	if said.Err() != nil || !strings.Contains(said.Text(), "msg=connected") {
		return nil, errors.Join(errors.New("ganglion-link did not connect"), said.Err(), cmd.Wait())
	}
	go func() { _, _ = io.Copy(io.Discard, logs) }() // ends with the process
	rows, err := watchAgent(ctx, s, cmd.Process.Pid)
	if err != nil {
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	var status *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &status) || status.ExitCode() != 75 {
		return rows, fmt.Errorf("ganglion-link did not end to reboot: %w", err)
	}
	return rows, s.stop()
}

// provision makes a board with the old firmware and the file of its agent.
func provision(ctx context.Context, dir string, s, prepared *server) (config string, err error) {
	firmware, err := os.Open(filepath.Join(dir, benchProduct+"-1.0.0.fw"))
	if err != nil {
		return "", err
	}
	defer firmware.Close()
	board := simulate.Board{Image: filepath.Join(dir, "board.img")}
	if err := board.Install(ctx, firmware); err != nil {
		return "", err
	}
	if _, err := board.Boot(); err != nil {
		return "", err
	}
	at := simulate.EnvLocation
	config = filepath.Join(dir, "link.toml")
	return config, os.WriteFile(config, fmt.Appendf(nil, `host = "wss://%s"
identifier = "measured"
[shared_secret]
key = %q
secret = %q
[tls]
ca_file = %q
server_name = "localhost"
[firmware]
device = %q
request_keys = true
cache_dir = %q
[uboot_env]
offset = %d
size = %d
redundant_offset = %d
[hooks]
reboot = ["true"]
`, s.Device, prepared.Key, prepared.Secret, s.CA, board.Image, filepath.Join(dir, "cache"), at.Offset, at.Size, at.Redundant), 0o600)
}

func watchAgent(ctx context.Context, s *server, pid int) ([]row, error) {
	time.Sleep(linkRest)
	idle, err := statusMiB(pid, "VmRSS:")
	if err != nil {
		return nil, err
	}
	before, err := processTime(pid)
	if err != nil {
		return nil, err
	}
	time.Sleep(linkTime)
	after, err := processTime(pid)
	if err != nil {
		return nil, err
	}
	var at sent
	if err := s.ask("release", &at); err != nil {
		return nil, err
	}
	peak, err := peakMiB(ctx, pid)
	if err != nil {
		return nil, err
	}
	return []row{
		atMost("memory of ganglion-link, idle", idle, "MiB", 12),
		atMost("memory of ganglion-link, peak of an update", peak, "MiB", 24),
		atMost("ganglion-link idle", 100*(after-before).Seconds()/linkTime.Seconds(), "% of a core", 0.1),
	}, nil
}

// peakMiB is the most memory a process had when it ended, to reboot. Its parent
// must not have waited for it.
func peakMiB(ctx context.Context, pid int) (peak float64, err error) {
	for {
		now, err := statusMiB(pid, "VmHWM:")
		if err != nil || now == 0 {
			return peak, err
		}
		peak = now
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(tick):
		}
	}
}

// statusMiB reads a line of /proc/PID/status, in MiB; 0 if there is none, as
// for a process that has ended and was not waited for.
func statusMiB(pid int, name string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024, err
		}
	}
	return 0, nil
}

// processTime is the time a process was on a processor, to the tick of the
// kernel.
func processTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold spaces.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("/proc/PID/stat is short")
	}
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick, err
}
