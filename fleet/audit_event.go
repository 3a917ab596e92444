package fleet

import "time"

// AuditEvent records who did what to which thing. It is written in the same
// transaction as the change, and its id orders all changes of an org.
type AuditEvent struct {
	ID        int64
	UUID      string
	OrgID     int64
	ProductID int64 // 0: not about one product
	Actor     Actor
	Action    string // "device.update", "deployment_group.pause", …
	Noun      string // "device", "deployment_group", …
	NounID    int64
	NounName  string // identifier or name at that time
	Summary   string // one sentence for people
	Detail    []byte // JSON object with what changed; may be nil
	CreatedAt time.Time
}
