package fleet

import (
	"strings"
	"time"
)

// LogLevel is how severe a log line is, as syslog numbers it: 0 is the worst.
type LogLevel int

// The levels.
const (
	LogEmergency LogLevel = iota
	LogAlert
	LogCritical
	LogError
	LogWarning
	LogNotice
	LogInfo
	LogDebug
)

// LogLevels names the levels in their order, as devices and the API spell
// them.
var LogLevels = []string{"emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"}

// String is the level's name.
func (l LogLevel) String() string {
	if l < 0 || int(l) >= len(LogLevels) {
		return LogLevels[LogInfo]
	}
	return LogLevels[l]
}

// ParseLogLevel reads a level, of which some have several names. It reports
// false for an unknown one.
func ParseLogLevel(name string) (LogLevel, bool) {
	name = strings.ToLower(strings.TrimSpace(name))
	for i, n := range LogLevels {
		if n == name {
			return LogLevel(i), true
		}
	}
	switch name {
	case "warn":
		return LogWarning, true
	case "err":
		return LogError, true
	case "crit", "fatal":
		return LogCritical, true
	case "emerg", "panic":
		return LogEmergency, true
	case "trace":
		return LogDebug, true
	}
	return LogInfo, false
}

// LogLine is a line of a device's log.
type LogLine struct {
	ID         int64
	OrgID      int64
	ProductID  int64
	DeviceID   int64
	At         time.Time // by the device's clock; when it arrived if that is not to be believed
	ReceivedAt time.Time
	Level      LogLevel
	Message    string
	Meta       map[string]string
}

// LogFilter narrows a device's log; the newest line first.
type LogFilter struct {
	Search string    // substring of the message, without regard to case
	Level  *LogLevel // only lines at least as severe; nil: all
	Since  time.Time // zero: from the first that is kept
	Until  time.Time // zero: to the last
	Page   Page
}
