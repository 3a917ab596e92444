package control

import (
	"context"
	"sync"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// Refused is why a device may not connect. It is an error of the kind
// Unauthorized.
type Refused struct {
	Code fleet.RefusalCode // "": the device is a stranger, and nothing is remembered

	// Reason is what the device may be told: one sentence. It is "" unless the
	// device has proven that it has a key.
	Reason string

	err *fleet.Error
}

func (r *Refused) Error() string { return r.err.Error() }

// Unwrap returns the error in the words of the house.
func (r *Refused) Unwrap() error { return r.err }

// errDevice is the one answer to a stranger: it does not tell why, the log
// does.
func errDevice(why string) error {
	return fleet.Errorf(fleet.Unauthorized, "the device may not connect: %s", why)
}

// claimant is who asks to connect, as far as it is known.
type claimant struct {
	orgID, productID, deviceID int64
	identifier                 string // claimed, or the device's
	address                    string
}

func (w claimant) as(d fleet.Device) claimant {
	w.orgID, w.productID, w.deviceID, w.identifier = d.OrgID, d.ProductID, d.ID, d.Identifier
	return w
}

// refuse turns a device that proved who it is away, tells it why, and
// remembers that for the people of its org.
func (c *Control) refuse(who claimant, code fleet.RefusalCode, reason string) error {
	c.notes.refusal(who, code, reason, c.clock.Now())
	return &Refused{Code: code, Reason: reason, err: fleet.Errorf(fleet.Unauthorized, "the device may not connect: %s", reason)}
}

// refuseSilently is refuse for one that proved nothing.
func (c *Control) refuseSilently(who claimant, code fleet.RefusalCode, reason string) error {
	c.notes.refusal(who, code, reason, c.clock.Now())
	return &Refused{Code: code, err: fleet.Errorf(fleet.Unauthorized, "the device may not connect: %s", reason)}
}

// admit lets a device in that proved who it is, unless it is to wait.
func (c *Control) admit(d fleet.Device, address string) (fleet.Device, error) {
	who := claimant{address: address}.as(d)
	switch d.Admission {
	case fleet.Pending:
		return fleet.Device{}, c.refuse(who, fleet.RefusedPending, "the device waits for approval by the organisation")
	case fleet.Quarantined:
		return fleet.Device{}, c.refuse(who, fleet.RefusedQuarantined, "the device is quarantined; ask the organisation to let it in again")
	}
	return d, nil
}

// Bounds of what waits to be written about devices that connect.
const (
	maxNotes       = 10_000 // of each sort
	maxStrangers   = 200    // refusals of who proved nothing: keys have names anybody may use
	usageRecent    = time.Hour
	notesInOneTurn = 500 // refusals and notifications written in one transaction
)

// notebook collects what is worth remembering about devices that connect, so
// that it is written for many at once. What is the same counts on. It is
// bounded: a flood is not remembered whole.
type notebook struct {
	mu            sync.Mutex
	refusals      map[refusalKey]fleet.Refusal
	strangers     int // refusals of who proved nothing
	notifications map[notificationKey]fleet.Notification
	certificates  map[string]bool // fingerprints that were used
	authorities   map[int64]bool
	secrets       map[int64]bool
}

type refusalKey struct {
	org        int64
	identifier string
	code       fleet.RefusalCode
}

type notificationKey struct {
	org, product, device int64
	identifier           string
	kind                 fleet.NotificationKind
	key                  string
}

func newNotebook() *notebook {
	b := &notebook{}
	b.reset()
	return b
}

func (b *notebook) reset() {
	b.strangers = 0
	b.refusals, b.notifications = map[refusalKey]fleet.Refusal{}, map[notificationKey]fleet.Notification{}
	b.certificates, b.authorities, b.secrets = map[string]bool{}, map[int64]bool{}, map[int64]bool{}
}

// refusal notes a refusal within a known org of an identifier that can be one.
func (b *notebook) refusal(who claimant, code fleet.RefusalCode, message string, now time.Time) {
	if who.orgID == 0 || checkIdentifier(who.identifier) != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addRefusal(fleet.Refusal{
		OrgID: who.orgID, ProductID: who.productID, DeviceID: who.deviceID, Identifier: who.identifier, Code: code,
		Message: message, Address: who.address, Count: 1, CreatedAt: now, LastAt: now,
	})
}

func (b *notebook) addRefusal(r fleet.Refusal) {
	key := refusalKey{r.OrgID, r.Identifier, r.Code}
	if before, ok := b.refusals[key]; ok {
		r.Count += before.Count
		r.CreatedAt = before.CreatedAt
	} else {
		stranger := r.Code == fleet.RefusedSignature
		if len(b.refusals) >= maxNotes || stranger && b.strangers >= maxStrangers {
			return
		}
		if stranger {
			b.strangers++
		}
	}
	b.refusals[key] = r
}

// notify notes a notification; n.OrgID says for whom.
func (b *notebook) notify(n fleet.Notification) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addNotification(n)
}

func (b *notebook) addNotification(n fleet.Notification) {
	key := notificationKey{n.OrgID, n.ProductID, n.DeviceID, n.Device, n.Kind, n.Key}
	before, ok := b.notifications[key]
	if !ok && len(b.notifications) >= maxNotes {
		return
	}
	n.Count = max(1, n.Count) + before.Count
	b.notifications[key] = n
}

// used notes that credentials were used; zero values are none.
func (b *notebook) used(certificate string, authority, secret int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if certificate != "" && len(b.certificates) < maxNotes {
		b.certificates[certificate] = true
	}
	if authority != 0 && len(b.authorities) < maxNotes {
		b.authorities[authority] = true
	}
	if secret != 0 && len(b.secrets) < maxNotes {
		b.secrets[secret] = true
	}
}

// page is a part of a notebook, to be written in one transaction.
type page struct {
	refusals      []fleet.Refusal
	notifications []fleet.Notification
	usage         store.Usage
}

func (p page) empty() bool {
	return len(p.refusals) == 0 && len(p.notifications) == 0 && len(p.usage.Certificates) == 0 && len(p.usage.Authorities) == 0 && len(p.usage.Secrets) == 0
}

// tear takes out what fits into one transaction.
func (b *notebook) tear() (p page) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, r := range b.refusals {
		if len(p.refusals) == notesInOneTurn {
			break
		}
		p.refusals = append(p.refusals, r)
		delete(b.refusals, key)
		if r.Code == fleet.RefusedSignature {
			b.strangers--
		}
	}
	for key, n := range b.notifications {
		if len(p.notifications) == notesInOneTurn {
			break
		}
		p.notifications = append(p.notifications, n)
		delete(b.notifications, key)
	}
	for fingerprint := range b.certificates {
		p.usage.Certificates = append(p.usage.Certificates, fingerprint)
	}
	for id := range b.authorities {
		p.usage.Authorities = append(p.usage.Authorities, id)
	}
	for id := range b.secrets {
		p.usage.Secrets = append(p.usage.Secrets, id)
	}
	clear(b.certificates)
	clear(b.authorities)
	clear(b.secrets)
	return p
}

// putBack puts an unwritten page back. When credentials were used is lost; the
// next use tells it again.
func (b *notebook) putBack(p page) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range p.refusals {
		if since, ok := b.refusals[refusalKey{r.OrgID, r.Identifier, r.Code}]; ok {
			r, since = since, r
			r.CreatedAt, r.Count = since.CreatedAt, r.Count+since.Count
			b.refusals[refusalKey{r.OrgID, r.Identifier, r.Code}] = r
			continue
		}
		b.addRefusal(r)
	}
	for _, n := range p.notifications {
		b.addNotification(n)
	}
}

// WriteDeviceNotes writes what was noted about devices that connect: refusals,
// notifications and when credentials were last used. The gateway calls it now
// and then. What the database refuses for itself is dropped; when the database
// is out of reach it is kept for the next call.
func (c *Control) WriteDeviceNotes(ctx context.Context) error {
	for {
		p := c.notes.tear()
		if p.empty() {
			return nil
		}
		s := fleet.SystemScope("device authentication")
		err := c.commit(ctx, s, func(w *changing) error {
			if err := w.SaveRefusals(s, p.refusals); err != nil {
				return err
			}
			for _, n := range p.notifications {
				if err := w.notify(s, n); err != nil {
					return err
				}
			}
			return w.SaveUsage(s, p.usage, usageRecent)
		})
		switch {
		case err == nil:
		case fleet.KindOf(err) == fleet.Unavailable || ctx.Err() != nil:
			c.notes.putBack(p)
			return err
		default:
			c.log.Error("notes about devices were not written", "error", err)
		}
	}
}

// ListRefusals lists which devices were refused for a product and why, newest
// first, with those of the org for which no product was known.
func (c *Control) ListRefusals(ctx context.Context, s fleet.Scope, product string, p fleet.Page) (list []fleet.Refusal, next string, err error) {
	if err := s.Require(fleet.RoleView); err != nil {
		return nil, "", err
	}
	c.writeNotesNow(ctx)
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		found, err := tx.ProductByName(s, product)
		if err != nil {
			return err
		}
		list, next, err = tx.ListRefusals(s, found.ID, p)
		return err
	})
	return list, next, err
}

// writeNotesNow makes what this node noted visible to who asks. Without it the
// answer is a second older.
func (c *Control) writeNotesNow(ctx context.Context) {
	if err := c.WriteDeviceNotes(ctx); err != nil {
		c.log.Warn("notes about devices are not written yet", "error", err)
	}
}
