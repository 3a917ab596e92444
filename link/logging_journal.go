package link

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// FollowJournal prints what comes to the journal of systemd from now on.
var FollowJournal = []string{"journalctl", "--follow", "--lines=0", "--output=json", "--quiet"}

const (
	maxJournalLine = 128 << 10        // bytes; longer entries are left out
	journalPause   = 30 * time.Second // before the program is started again
)

// follow forwards what the program prints, and starts it again when it ends.
func (l *Logging) follow(ctx context.Context) {
	for {
		err := l.followOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		l.put(logLine{
			Level: "error", Message: fmt.Sprintf("the journal is not followed: %v", err),
			Meta: map[string]string{}, Timestamp: logTime(time.Now()),
		})
		if pause(ctx, journalPause) != nil {
			return
		}
	}
}

func (l *Logging) followOnce(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, l.Journal[0], l.Journal[1:]...)
	ownGroup(cmd)
	cmd.Cancel = func() error { return signalGroup(cmd, syscall.SIGKILL) }
	cmd.WaitDelay = drainGrace
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = l.ReadJournal(out)
	cancel()
	if werr := cmd.Wait(); err == nil {
		err = werr
	}
	return err
}

// ReadJournal forwards entries of a journal, one JSON object in each line as
// journalctl prints them, until the end of r. Entries below Level are left
// out, and those of this process when Handler is in use: they have been
// forwarded already. Lines that are no entries are left out as well.
func (l *Logging) ReadJournal(r io.Reader) error {
	own := ""
	if l.handled.Load() {
		own = strconv.Itoa(os.Getpid())
	}
	b := bufio.NewReaderSize(r, 4<<10)
	var line []byte
	for {
		part, err := b.ReadSlice('\n')
		if len(line) <= maxJournalLine {
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		end := errors.Is(err, io.EOF)
		if err != nil && !end {
			return err
		}
		if len(line) <= maxJournalLine {
			l.entry(line, own)
		}
		if end {
			return nil
		}
		if line = line[:0]; cap(line) > 16<<10 {
			line = nil
		}
	}
}

// entry forwards one entry.
func (l *Logging) entry(line []byte, own string) {
	e, level, err := parseJournal(line)
	if err == nil && level >= l.level() && (own == "" || e.Meta["pid"] != own) {
		l.put(e)
	}
}

// journalMeta names the fields of an entry that are forwarded.
var journalMeta = []struct{ field, as string }{
	{"SYSLOG_IDENTIFIER", "identifier"}, {"_SYSTEMD_UNIT", "unit"}, {"_PID", "pid"},
}

// parseJournal reads one entry.
func parseJournal(line []byte) (e logLine, level slog.Level, err error) {
	var fields map[string]any
	if err := json.Unmarshal(bytes.TrimSpace(line), &fields); err != nil {
		return e, 0, err
	}
	text, ok := journalText(fields["MESSAGE"])
	if !ok {
		return e, 0, errors.New("an entry without a message")
	}
	micros, _ := journalText(fields["__REALTIME_TIMESTAMP"])
	us, err := strconv.ParseInt(micros, 10, 64)
	if err != nil {
		return e, 0, errors.New("an entry without a time")
	}
	e = logLine{Message: text, Meta: make(map[string]string), Timestamp: logTime(time.UnixMicro(us))}
	priority, _ := journalText(fields["PRIORITY"])
	e.Level, level = journalLevel(priority)
	for _, m := range journalMeta {
		if v, ok := journalText(fields[m.field]); ok {
			e.set(m.as, v)
		}
	}
	return e, level, nil
}

// journalText is the value of a field: text, or a list of bytes when it is not
// printable, or a list of such values when the entry has several.
func journalText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case []any:
		b := make([]byte, 0, len(v))
		for _, n := range v {
			f, ok := n.(float64)
			if !ok || f < 0 || f > 255 {
				return journalFirst(v)
			}
			b = append(b, byte(f))
		}
		return string(b), len(b) > 0
	}
	return "", false
}

func journalFirst(values []any) (string, bool) {
	switch v := values[0].(type) {
	case string:
		return v, true
	case []any:
		if len(v) > 0 {
			if _, ok := v[0].(float64); ok {
				return journalText(v)
			}
		}
	}
	return "", false
}

// journalLevel is a priority of syslog as servers call it, and its rank.
func journalLevel(priority string) (string, slog.Level) {
	switch priority {
	case "0":
		return "emergency", slog.LevelError + 12
	case "1":
		return "alert", slog.LevelError + 8
	case "2":
		return "critical", slog.LevelError + 4
	case "3":
		return "error", slog.LevelError
	case "4":
		return "warning", slog.LevelWarn
	case "5":
		return "notice", slog.LevelInfo + 2
	case "7":
		return "debug", slog.LevelDebug
	}
	return "info", slog.LevelInfo
}
