//go:build unix

package agent

import (
	"io"
	"log/slog"
	"log/syslog"
)

// openSyslog reaches the system's log, such as the one of BusyBox.
func openSyslog() (write func(slog.Level, []byte) error, closer io.Closer, err error) {
	w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, "ganglion-link")
	if err != nil {
		return nil, nil, err
	}
	write = func(level slog.Level, line []byte) error {
		switch severity(level) {
		case 3:
			return w.Err(string(line))
		case 4:
			return w.Warning(string(line))
		case 6:
			return w.Info(string(line))
		}
		return w.Debug(string(line))
	}
	return write, w, nil
}
