package agent

import (
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/link"
)

func TestAlarmFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "alarms")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(link.AlarmUpdateInProgress, "left by an agent that was killed")
	var alarms link.Alarms
	files, err := newAlarmFiles(dir, &alarms, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, link.AlarmUpdateInProgress)); err == nil {
		t.Error("an old alarm is still there")
	}

	files.change(link.AlarmChange{Name: link.AlarmDisconnected, Description: "no route", Set: true})
	if got := content(t, dir, link.AlarmDisconnected); got != "no route\n" {
		t.Errorf("the file says %q", got)
	}
	write("Hot", "  90 degrees\n")
	write("Long", strings.Repeat("x", 3*maxAlarmText))
	write(".hidden", "")
	write(strings.Repeat("n", maxAlarmName+1), "")
	if err := os.Mkdir(filepath.Join(dir, "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	files.scan()
	want := map[string]string{"Hot": "90 degrees", "Long": strings.Repeat("x", maxAlarmText)}
	if got := alarms.Current(); !maps.Equal(got, want) {
		t.Errorf("alarms %v", got)
	}
	// What the files say is not written back, nor what others set cleared.
	alarms.Set("Set by a program", "")
	files.change(link.AlarmChange{Name: "Set by a program", Set: true})
	if err := os.Remove(filepath.Join(dir, "Long")); err != nil {
		t.Fatal(err)
	}
	files.change(link.AlarmChange{Name: link.AlarmDisconnected})
	files.change(link.AlarmChange{Name: link.AlarmDisconnected}) // cleared twice
	files.scan()
	want = map[string]string{"Hot": "90 degrees", "Set by a program": ""}
	if got := alarms.Current(); !maps.Equal(got, want) {
		t.Errorf("alarms %v", got)
	}
	if _, err := os.Stat(filepath.Join(dir, link.AlarmDisconnected)); err == nil {
		t.Error("the file of a cleared alarm is there")
	}

	// Past the limit files are left out; without the directory nothing changes.
	for i := range 2 * maxAlarmFiles {
		write("many-"+string(rune('a'+i%26))+strings.Repeat("z", i/26), "")
	}
	files.scan()
	if n := len(alarms.Current()); n > maxAlarmFiles+1 {
		t.Errorf("%d alarms", n)
	}
	before := len(alarms.Current())
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	files.scan()
	if n := len(alarms.Current()); n != before {
		t.Errorf("%d alarms without a directory, %d before", n, before)
	}
	if _, err := newAlarmFiles("/dev/null/alarms", &alarms, slog.New(slog.DiscardHandler)); err == nil || !strings.HasPrefix(err.Error(), "alarms.dir: ") {
		t.Errorf("error %v", err)
	}
}

func TestLogs(t *testing.T) {
	for _, c := range []struct {
		config      Config
		journal     string
		want, wrong string
	}{
		{Config{}, "", "level=WARN msg=careful error=e\n", ""},
		{Config{}, "1:2", "<4>msg=careful error=e\n", ""},
		{Config{LogLevel: "error"}, "1:2", "", ""},
		{Config{LogLevel: "loud"}, "", "", "log_level: "},
		{Config{Log: "paper"}, "", "", `log: "paper" is not known`},
	} {
		t.Setenv("JOURNAL_STREAM", c.journal)
		var out strings.Builder
		log, closer, err := c.config.logger(&out)
		if err != nil || c.wrong != "" {
			if err == nil || !strings.HasPrefix(err.Error(), c.wrong) {
				t.Errorf("%+v: %v, want %q", c.config, err, c.wrong)
			}
			continue
		}
		log.With("error", "e").Warn("careful")
		log.Debug("never")
		closer()
		if got := out.String(); !strings.HasSuffix(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%+v: %q, want %q", c.config, got, c.want)
		}
	}
	for level, want := range map[slog.Level]int{slog.LevelDebug: 7, slog.LevelInfo: 6, slog.LevelWarn: 4, slog.LevelError: 3, 12: 3} {
		if got := severity(level); got != want {
			t.Errorf("%s is severity %d, want %d", level, got, want)
		}
	}
}

// TestAlarmFilesLeadNowhere: where others may write to the directory, they
// cannot make the agent write elsewhere.
func TestAlarmFilesLeadNowhere(t *testing.T) {
	dir := t.TempDir()
	files, err := newAlarmFiles(dir, &link.Alarms{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(target, []byte("root"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{link.AlarmDisconnected, "." + link.AlarmDisconnected} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	files.change(link.AlarmChange{Name: link.AlarmDisconnected, Description: "no route", Set: true})
	if got := content(t, dir, link.AlarmDisconnected); got != "no route\n" {
		t.Errorf("the file says %q", got)
	}
	if got, err := os.ReadFile(target); err != nil || string(got) != "root" {
		t.Errorf("the other file says %q, %v", got, err)
	}
}
