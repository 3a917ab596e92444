package fleet

import "time"

// ConnectionRecord is a connection of a device, in its history.
type ConnectionRecord struct {
	UUID             string // names the connection
	OrgID            int64
	ProductID        int64
	DeviceID         int64
	Node             string // the server node that held it
	Address          string // remote IP address
	NetworkInterface string // wifi, ethernet, cellular, unknown; "" if not told
	EstablishedAt    time.Time
	EndedAt          time.Time // zero: it lasts
	Reason           string    // why it ended
}

// Duration is how long the connection lasted, up to now if it still does.
func (r ConnectionRecord) Duration(now time.Time) time.Duration {
	end := r.EndedAt
	if end.IsZero() {
		end = now
	}
	return max(0, end.Sub(r.EstablishedAt))
}

// A device flaps when it made more connections within FlappingWindow than
// DefaultFlappingLimit, or than the server's own setting.
const (
	FlappingWindow       = time.Hour
	DefaultFlappingLimit = 10
)
