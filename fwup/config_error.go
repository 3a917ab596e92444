package fwup

import "fmt"

// ConfigError says where in a configuration something is wrong.
type ConfigError struct {
	File string // "[buf]" for the meta.conf of an archive, "" when not known
	Line int    // from 1 on, 0 when not known
	Err  error
}

// Error returns the message with its place in front: file:line: text.
func (e *ConfigError) Error() string {
	switch {
	case e.File == "":
		return e.Err.Error()
	case e.Line == 0:
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err)
}

// Unwrap returns what is wrong.
func (e *ConfigError) Unwrap() error { return e.Err }

func configErrorf(format string, args ...any) error {
	return &ConfigError{Err: fmt.Errorf(format, args...)}
}
