package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ganglion-iot/ganglion/phx"
)

// board is what a small device has in /proc and /sys.
func board() fstest.MapFS {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	return fstest.MapFS{
		"proc/stat":    file("cpu  1000 0 500 8000 500 0 0 0 0 0\ncpu0 1000 0 500 8000 500 0 0 0 0 0\n"),
		"proc/loadavg": file("0.20 0.10 0.05 1/123 4567\n"),
		"proc/meminfo": file("MemTotal:        1945600 kB\nMemFree:         100 kB\nMemAvailable:    1628160 kB\nHugePages_Total: 0\n"),
		"proc/net/dev": file("Inter-|   Receive                                                |  Transmit\n" +
			" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
			"    lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n" +
			"  eth0: 12345 1 0 0 0 0 0 0 678 1 0 0 0 0 0 0\n"),
		"sys/class/thermal/thermal_zone0/temp":  file("20000\n"),
		"sys/class/thermal/thermal_zone0/type":  file("battery\n"),
		"sys/class/thermal/thermal_zone10/type": file("cpu-thermal\n"),
		"sys/class/thermal/thermal_zone10/temp": file("48312\n"),
		"sys/class/thermal/thermal_zone2/type":  file("gpu\n"),
	}
}

func TestHealthReport(t *testing.T) {
	files := board()
	h := &Health{
		system: files, Disk: t.TempDir(), Now: func() time.Time { return time.Date(2026, 8, 22, 10, 6, 2, 250e6, time.UTC) },
		Metrics:  map[string]func(context.Context) (float64, error){"rpm": func(context.Context) (float64, error) { return 900, nil }},
		Checks:   map[string]func(context.Context) HealthCheck{"db": func(context.Context) HealthCheck { return HealthCheck{Pass: true} }},
		Metadata: func(context.Context) (map[string]string, error) { return map[string]string{"site": "lab"}, nil },
	}
	h.ofLink(func() map[string]string { return map[string]string{AlarmUpdateInProgress: "[]"} })
	var sent []byte
	if err := h.Attach(t.Context(), func(event string, payload any) error {
		body, err := json.Marshal(payload)
		sent = append([]byte(event+" "), body...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	// A quarter of the time since was work.
	files["proc/stat"].Data = []byte("cpu  1020 0 505 8060 515 0 0 0 0 0\n")
	h.Event(t.Context(), "nothing", nil)
	h.Event(t.Context(), "check", []byte(`{}`))
	body, ok := strings.CutPrefix(string(sent), "report ")
	if !ok {
		t.Fatalf("sent %s", sent)
	}
	var got struct{ Value map[string]any }
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	metrics := got.Value["metrics"].(map[string]any)
	for _, name := range []string{"disk_total_kb", "disk_available_kb", "disk_used_percentage"} {
		if v, ok := metrics[name].(float64); !ok || v < 0 || name == "disk_used_percentage" && v > 100 {
			t.Errorf("%s is %v", name, metrics[name])
		}
		delete(metrics, name)
	}
	rest, _ := json.Marshal(got.Value)
	want := `{"alarms":{"NervesHubLink.UpdateInProgress":"[]"},"checks":{"db":{"note":"","pass":true}},"connectivity":{},` +
		`"metadata":{"site":"lab"},"metrics":{"cpu_temp":48.3,"cpu_usage_percent":25,"eth0_bytes_received_total":12345,` +
		`"eth0_bytes_sent_total":678,"load_15min":0.05,"load_1min":0.2,"load_5min":0.1,"mem_size_mb":1900,` +
		`"mem_used_mb":310,"mem_used_percent":16,"rpm":900},"timestamp":"2026-08-22T10:06:02.250000Z"}`
	if string(rest) != want {
		t.Errorf("got  %s\nwant %s", rest, want)
	}
}

// Whatever fails, a report goes out and says what is missing.
func TestHealthReportSurvivesFailures(t *testing.T) {
	files := board()
	files["proc/loadavg"].Data = []byte("nonsense")
	files["proc/stat"].Data = []byte("cpu x")
	delete(files, "proc/meminfo") // this machine has none: no failure
	h := &Health{
		system: files, Disk: "/no/such/place",
		Metrics: map[string]func(context.Context) (float64, error){
			"fails": func(context.Context) (float64, error) { return 0, errors.New("no sensor") },
			"nan":   func(context.Context) (float64, error) { return math.NaN(), nil },
			"fine":  func(context.Context) (float64, error) { return 1, nil },
		},
		Collect: func(context.Context) (map[string]float64, error) {
			return map[string]float64{"half": 2}, errors.New("half")
		},
		Checks:   map[string]func(context.Context) HealthCheck{"bad": func(context.Context) HealthCheck { panic("on purpose") }},
		Metadata: func(context.Context) (map[string]string, error) { panic("on purpose") },
		Alarms:   func() map[string]string { return map[string]string{"mine": "set"} },
	}
	r := h.report(t.Context())
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
	if r.Metrics["fine"] != 1 || r.Metrics["half"] != 2 || r.Metrics["cpu_temp"] != 48.3 || r.Alarms["mine"] != "set" {
		t.Errorf("what worked is missing: %v %v", r.Metrics, r.Alarms)
	}
	if r.Checks["bad"].Pass {
		t.Error("a check that did not end passed")
	}
	text := r.Alarms[AlarmHealthCheckFailed]
	for _, part := range []string{"fails: no sensor", "nan: not a number", "load: ", "cpu_usage_percent: ", "metadata: panic: on purpose at ", "bad: panic", "metrics: half"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not told in %q", part, text)
		}
	}
	if strings.Contains(text, "mem") {
		t.Errorf("told although it does not exist: %q", text)
	}
}

func TestHealthOfThisMachine(t *testing.T) {
	h := &Health{}
	if err := h.Attach(t.Context(), func(string, any) error { return nil }); err != nil {
		t.Fatal(err)
	}
	r := h.report(t.Context())
	for _, name := range []string{"cpu_usage_percent", "load_1min", "mem_size_mb", "mem_used_percent"} {
		if _, ok := r.Metrics[name]; !ok {
			t.Errorf("no %s in %v; %v", name, r.Metrics, r.Alarms)
		}
	}
	h.Detach()
	if err := h.Report(t.Context()); !errors.Is(err, phx.ErrNotJoined) {
		t.Errorf("reported while detached: %v", err)
	}
}

func TestHealthOverTheWire(t *testing.T) {
	r := newRig(t, withExtensions(&Health{WithoutStandard: true}))
	c := r.start()
	c.join()
	c.event("device", "extensions:get", struct{}{})
	c.accept("extensions", `["health"]`)
	c.push("extensions", "health:attached")
	c.event("extensions", "health:check", struct{}{})
	if _, p := c.push("extensions", "health:report"); fmt.Sprint(p["value"].(map[string]any)["metrics"]) != "map[]" {
		t.Errorf("reported %v", p)
	}
}

func TestCPUUsage(t *testing.T) {
	for _, c := range []struct {
		before, after cpuTimes
		percent       float64
		ok            bool
	}{
		{cpuTimes{}, cpuTimes{100, 25}, 75, true}, {cpuTimes{100, 100}, cpuTimes{200, 200}, 0, true}, {cpuTimes{100, 50}, cpuTimes{105, 50}, 0, false},
		{cpuTimes{100, 50}, cpuTimes{50, 20}, 0, false}, {cpuTimes{100, 50}, cpuTimes{200, 40}, 0, false}, {cpuTimes{0, 0}, cpuTimes{300, 200}, 33.33, true},
	} {
		if p, ok := usage(c.before, c.after); p != c.percent || ok != c.ok {
			t.Errorf("%v to %v: %v, %v", c.before, c.after, p, ok)
		}
	}
}

func TestReadOnlyDisksAreLeftOut(t *testing.T) {
	if _, err := os.Stat("/proc/self"); err != nil {
		t.Skip("no /proc")
	}
	m := map[string]float64{}
	if err := disk("/proc", m); err != nil || len(m) > 0 {
		t.Errorf("a file system without blocks: %v, %v", m, err)
	}
}

func FuzzProc(f *testing.F) {
	for _, file := range board() {
		f.Add(file.Data)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		files := fstest.MapFS{}
		for name := range board() {
			files[name] = &fstest.MapFile{Data: b}
		}
		m := map[string]float64{}
		for _, read := range []func() error{
			func() error { return cpuTemperature(files, m) }, func() error { return load(files, m) },
			func() error { return memory(files, m) }, func() error { return traffic(files, m) },
		} {
			_ = read() // must not panic
		}
		_, _ = parseCPU(b)
	})
}
