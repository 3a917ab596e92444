package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/link"
)

const (
	// alarmScan is how often the directory is looked at.
	alarmScan = 5 * time.Second
	// maxAlarmName and maxAlarmText bound an alarm, in bytes.
	maxAlarmName = 128
	maxAlarmText = 1024
	// maxAlarmFiles bounds how many files of the directory are alarms.
	maxAlarmFiles = 128
)

// alarmFiles is a directory with a file for each alarm that is set: the name
// of the alarm is that of the file, the description its content. The agent
// writes those of the link, anybody else writes others: a file that appears
// sets an alarm, and one that goes away clears it.
type alarmFiles struct {
	dir    string
	log    *slog.Logger
	alarms *link.Alarms
	others map[string]bool // alarms set by files
	broken bool            // the directory cannot be read, which was said
}

func newAlarmFiles(dir string, alarms *link.Alarms, log *slog.Logger) (*alarmFiles, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("alarms.dir: %w", err)
	}
	a := &alarmFiles{dir: dir, alarms: alarms, log: log, others: map[string]bool{}}
	// What an agent left that was killed is not true any more.
	for _, name := range []string{link.AlarmDisconnected, link.AlarmUpdateInProgress} {
		if err := os.Remove(a.file(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("alarms.dir: %w", err)
		}
	}
	return a, nil
}

func (a *alarmFiles) file(name string) string { return filepath.Join(a.dir, name) }

// own reports whether the link itself sets the alarm.
func own(name string) bool {
	return name == link.AlarmDisconnected || name == link.AlarmUpdateInProgress
}

// change writes or removes the file of an alarm of the link.
func (a *alarmFiles) change(c link.AlarmChange) {
	if !own(c.Name) {
		return
	}
	var err error
	if c.Set {
		err = a.write(c.Name, c.Description+"\n")
	} else if err = os.Remove(a.file(c.Name)); errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err != nil {
		a.log.Warn("could not keep the file of an alarm", "alarm", c.Name, "error", err)
	}
}

// write makes a file anew and renames it into place: a reader sees the whole
// text or none. Where others may write to the directory, nothing they put there
// leads out of it.
func (a *alarmFiles) write(name, text string) error {
	dir, err := os.OpenRoot(a.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	temp := "." + name
	if err := dir.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := dir.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return dir.Rename(temp, name)
}

// watch sets and clears alarms as files come and go, until ctx ends.
func (a *alarmFiles) watch(ctx context.Context) {
	tick := time.NewTicker(alarmScan)
	defer tick.Stop()
	for {
		a.scan()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// scan looks at the directory once.
func (a *alarmFiles) scan() {
	entries, err := os.ReadDir(a.dir)
	if err != nil {
		if !a.broken {
			a.log.Warn("could not read the alarms", "error", err)
		}
		a.broken = true
		return
	}
	a.broken = false
	found := map[string]bool{}
	for _, e := range entries {
		name := e.Name()
		if own(name) || strings.HasPrefix(name, ".") || len(name) > maxAlarmName || !e.Type().IsRegular() || len(found) == maxAlarmFiles {
			continue
		}
		text, err := readStart(a.file(name), maxAlarmText)
		if err != nil {
			continue // gone since
		}
		found[name] = true
		a.others[name] = true
		a.alarms.Set(name, strings.TrimSpace(text))
	}
	for name := range a.others {
		if !found[name] {
			delete(a.others, name)
			a.alarms.Clear(name)
		}
	}
}
