package fleet

import "time"

// NotificationKind says what sort of thing a notification tells of.
type NotificationKind string

// The kinds of notifications.
const (
	NotifyIdentifierClash NotificationKind = "identifier_clash" // a device claims the identifier of another one
	NotifyClone           NotificationKind = "clone"            // two units share one identity
	NotifyFlapping        NotificationKind = "flapping"         // a device connects again and again
	NotifyPending         NotificationKind = "pending"          // a new device waits for approval
	NotifyQuota           NotificationKind = "quota"            // a profile for new devices has made as many as it may
	NotifyAuthority       NotificationKind = "authority"        // another org proved that an authority is its own
)

// Notification tells the people of an org what needs their eyes. Repeats fold
// into one: what has the same product, kind, device and key only counts on.
type Notification struct {
	ID        int64
	UUID      string
	OrgID     int64
	ProductID int64  // 0: about the org
	DeviceID  int64  // 0: not about a device that is known
	Device    string // the identifier concerned, known or claimed; may be ""
	Kind      NotificationKind
	Key       string // tells apart what else is the same; may be ""
	Title     string
	Message   string
	Count     int // how often it happened
	CreatedAt time.Time
	LastAt    time.Time // when it last happened
}
