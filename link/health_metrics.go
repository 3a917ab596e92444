package link

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"sort"
	"strconv"
	"strings"
	"time"
)

const (
	maxProcFile   = 64 << 10               // bytes
	maxInterfaces = 16                     // whose traffic is reported
	cpuSample     = 250 * time.Millisecond // when the last report was just made
	minCPUTicks   = 10                     // of all processors, for a figure worth its name
)

// standard adds the metrics every Linux machine has.
func (h *Health) standard(ctx context.Context, m map[string]float64, part func(string, func() error)) {
	files := h.files()
	part("cpu_temp", func() error { return cpuTemperature(files, m) })
	part("cpu_usage_percent", func() error { return h.cpuUsage(ctx, files, m) })
	part("load", func() error { return load(files, m) })
	part("mem", func() error { return memory(files, m) })
	part("disk", func() error { return disk(h.disk(), m) })
	part("network", func() error { return traffic(files, m) })
}

func (h *Health) disk() string {
	if h.Disk != "" {
		return h.Disk
	}
	if info, err := os.Stat("/data"); err == nil && info.IsDir() {
		return "/data"
	}
	return "/"
}

// readSmall reads a file of /proc or /sys.
func readSmall(files fs.FS, name string) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxProcFile))
}

// cpuTemperature takes the thermal zone that says it is the processor's, or
// else the first one.
func cpuTemperature(files fs.FS, m map[string]float64) error {
	zones, err := fs.Glob(files, "sys/class/thermal/thermal_zone*")
	if err != nil || len(zones) == 0 {
		return err
	}
	sort.Slice(zones, func(i, j int) bool {
		if len(zones[i]) != len(zones[j]) {
			return len(zones[i]) < len(zones[j])
		}
		return zones[i] < zones[j]
	})
	zone := zones[0]
	for _, z := range zones {
		kind, err := readSmall(files, path.Join(z, "type"))
		if text := strings.ToLower(string(kind)); err == nil &&
			(strings.Contains(text, "cpu") || strings.Contains(text, "soc") || strings.Contains(text, "pkg_temp")) {
			zone = z
			break
		}
	}
	raw, err := readSmall(files, path.Join(zone, "temp"))
	if err != nil {
		return err
	}
	millis, err := strconv.ParseFloat(string(bytes.TrimSpace(raw)), 64)
	if err != nil {
		return err
	}
	m["cpu_temp"] = math.Round(millis/100) / 10
	return nil
}

// cpuTimes are ticks of all processors since the start.
type cpuTimes struct{ total, idle uint64 }

func readCPU(files fs.FS) (cpuTimes, error) {
	raw, err := readSmall(files, "proc/stat")
	if err != nil {
		return cpuTimes{}, err
	}
	return parseCPU(raw)
}

// parseCPU reads the first line of /proc/stat: user, nice, system, idle,
// iowait, irq, softirq and steal; guests are in user already.
func parseCPU(stat []byte) (cpuTimes, error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	f := strings.Fields(string(line))
	if len(f) < 5 || f[0] != "cpu" {
		return cpuTimes{}, errors.New("/proc/stat is not understood")
	}
	var t cpuTimes
	for i, text := range f[1:min(len(f), 9)] {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return cpuTimes{}, err
		}
		t.total += n
		if i == 3 || i == 4 {
			t.idle += n
		}
	}
	return t, nil
}

// usage is the share of time the processors worked between two moments, in
// percent; ok is false when they are too near.
func usage(before, after cpuTimes) (percent float64, ok bool) {
	if after.total < before.total+minCPUTicks || after.idle < before.idle {
		return 0, false
	}
	total, idle := after.total-before.total, min(after.idle-before.idle, after.total-before.total)
	return math.Round(1e4*float64(total-idle)/float64(total)) / 100, true
}

// cpuUsage measures since the last report, or for a moment when that was just
// made.
func (h *Health) cpuUsage(ctx context.Context, files fs.FS, m map[string]float64) error {
	now, err := readCPU(files)
	if err != nil {
		return err
	}
	percent, ok := usage(h.cpu, now)
	if !ok {
		if err := pause(ctx, cpuSample); err != nil {
			return err
		}
		before := now
		if now, err = readCPU(files); err != nil {
			return err
		}
		if percent, ok = usage(before, now); !ok {
			return nil // a machine whose clock does not tick
		}
	}
	h.cpu = now
	m["cpu_usage_percent"] = percent
	return nil
}

func load(files fs.FS, m map[string]float64) error {
	raw, err := readSmall(files, "proc/loadavg")
	if err != nil {
		return err
	}
	f := strings.Fields(string(raw))
	if len(f) < 3 {
		return errors.New("/proc/loadavg is not understood")
	}
	for i, name := range []string{"load_1min", "load_5min", "load_15min"} {
		v, err := strconv.ParseFloat(f[i], 64)
		if err != nil {
			return err
		}
		m[name] = v
	}
	return nil
}

// memory counts as used what programs could not get.
func memory(files fs.FS, m map[string]float64) error {
	raw, err := readSmall(files, "proc/meminfo")
	if err != nil {
		return err
	}
	kb, err := parseMeminfo(raw)
	if err != nil {
		return err
	}
	total, available := kb["MemTotal"], kb["MemAvailable"]
	if _, ok := kb["MemAvailable"]; !ok { // kernels before 3.14
		available = kb["MemFree"] + kb["Buffers"] + kb["Cached"]
	}
	if total == 0 {
		return errors.New("/proc/meminfo has no MemTotal")
	}
	used := total - min(available, total)
	m["mem_size_mb"] = math.Round(float64(total) / 1024)
	m["mem_used_mb"] = math.Round(float64(used) / 1024)
	m["mem_used_percent"] = math.Round(100 * float64(used) / float64(total))
	return nil
}

// parseMeminfo reads lines like "MemTotal:  1234 kB".
func parseMeminfo(raw []byte) (map[string]uint64, error) {
	kb := make(map[string]uint64)
	for s := bufio.NewScanner(bytes.NewReader(raw)); s.Scan(); {
		name, value, ok := strings.Cut(s.Text(), ":")
		f := strings.Fields(value)
		if !ok || len(f) == 0 {
			continue
		}
		n, err := strconv.ParseUint(f[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("/proc/meminfo: %w", err)
		}
		kb[name] = n
	}
	return kb, nil
}

// traffic counts what each interface, but the machine's own loop, took and
// sent since it came up.
func traffic(files fs.FS, m map[string]float64) error {
	raw, err := readSmall(files, "proc/net/dev")
	if err != nil {
		return err
	}
	n := 0
	for s := bufio.NewScanner(bytes.NewReader(raw)); s.Scan() && n < maxInterfaces; {
		name, counters, ok := strings.Cut(s.Text(), ":")
		f := strings.Fields(counters)
		if name = strings.TrimSpace(name); !ok || name == "lo" || len(f) < 9 {
			continue
		}
		received, err := strconv.ParseFloat(f[0], 64)
		if err != nil {
			return err
		}
		sent, err := strconv.ParseFloat(f[8], 64)
		if err != nil {
			return err
		}
		m[name+"_bytes_received_total"], m[name+"_bytes_sent_total"] = received, sent
		n++
	}
	return nil
}
