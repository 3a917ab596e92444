package agent

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
)

// logger makes the log of the file's settings.
func (c Config) logger(stderr io.Writer) (*slog.Logger, func(), error) {
	var level slog.Level
	if c.LogLevel != "" {
		if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
			return nil, nil, fmt.Errorf("log_level: %w", err)
		}
	}
	nothing := func() {}
	switch c.Log {
	case "", "stderr":
		if os.Getenv("JOURNAL_STREAM") == "" {
			return slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})), nothing, nil
		}
		// The journal has its own time, and reads the level off the line.
		write := func(level slog.Level, line []byte) error {
			_, err := fmt.Fprintf(stderr, "<%d>%s", severity(level), line)
			return err
		}
		return slog.New(newLineHandler(level, write)), nothing, nil
	case "syslog":
		write, closer, err := openSyslog()
		if err != nil {
			return nil, nil, fmt.Errorf("log: %w", err)
		}
		return slog.New(newLineHandler(level, write)), func() { closer.Close() }, nil
	}
	return nil, nil, fmt.Errorf("log: %q is not known: stderr and syslog are", c.Log)
}

// severity is a level as syslog counts.
func severity(level slog.Level) int {
	switch {
	case level >= slog.LevelError:
		return 3
	case level >= slog.LevelWarn:
		return 4
	case level >= slog.LevelInfo:
		return 6
	}
	return 7
}

// lineHandler writes lines whose time and level are told beside them.
type lineHandler struct {
	slog.Handler
	shared *lineShared
}

type lineShared struct {
	mu    sync.Mutex
	line  bytes.Buffer
	write func(slog.Level, []byte) error
}

func newLineHandler(level slog.Level, write func(slog.Level, []byte) error) lineHandler {
	s := &lineShared{write: write}
	drop := func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{}
		}
		return a
	}
	return lineHandler{slog.NewTextHandler(&s.line, &slog.HandlerOptions{Level: level, ReplaceAttr: drop}), s}
}

// Handle implements slog.Handler.
func (h lineHandler) Handle(ctx context.Context, r slog.Record) error {
	h.shared.mu.Lock()
	defer h.shared.mu.Unlock()
	h.shared.line.Reset()
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	return h.shared.write(r.Level, h.shared.line.Bytes())
}

// WithAttrs implements slog.Handler.
func (h lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return lineHandler{h.Handler.WithAttrs(attrs), h.shared}
}

// WithGroup implements slog.Handler.
func (h lineHandler) WithGroup(name string) slog.Handler {
	return lineHandler{h.Handler.WithGroup(name), h.shared}
}
