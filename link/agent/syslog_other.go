//go:build !unix

package agent

import (
	"errors"
	"io"
	"log/slog"
)

func openSyslog() (func(slog.Level, []byte) error, io.Closer, error) {
	return nil, nil, errors.New("there is no syslog on this system")
}
