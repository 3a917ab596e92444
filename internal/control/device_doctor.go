package control

import (
	"context"
	"fmt"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// soonExpired is how long before its end a certificate is worth a word.
const soonExpired = 30 * 24 * time.Hour

// DeviceDoctor looks at everything the server knows about why a device does or
// does not connect and update. It also answers for a device that does not
// exist but was refused under that identifier.
func (c *Control) DeviceDoctor(ctx context.Context, s fleet.Scope, product, identifier string) (x fleet.DeviceDiagnosis, err error) {
	if err := s.Require(fleet.RoleView); err != nil {
		return x, err
	}
	c.writeNotesNow(ctx)
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		x = fleet.DeviceDiagnosis{Identifier: identifier}
		e := &examination{tx: tx, s: s, now: c.clock.Now(), x: &x}
		if e.product, err = tx.ProductByName(s, product); err != nil {
			return err
		}
		refusals, err := tx.RefusalsOf(s, identifier)
		if err != nil {
			return err
		}
		for _, r := range refusals {
			if r.ProductID == 0 || r.ProductID == e.product.ID {
				x.Refusals = append(x.Refusals, r)
			}
		}
		e.d, err = deviceOf(tx, s, product, identifier)
		if fleet.KindOf(err) == fleet.NotFound && len(x.Refusals) > 0 {
			e.check("device", fleet.CheckFailed, "There is no device %s in the product %s; one that claims to be was refused.", identifier, e.product.Name)
			e.refusals()
			return nil
		}
		if err != nil {
			return err
		}
		x.Device = &e.d
		return e.all()
	})
	return x, err
}

// examination is a look at one device.
type examination struct {
	tx      *store.Tx
	s       fleet.Scope
	now     time.Time
	product fleet.Product
	d       fleet.Device
	x       *fleet.DeviceDiagnosis
}

func (e *examination) check(name string, level fleet.CheckLevel, format string, args ...any) {
	e.x.Checks = append(e.x.Checks, fleet.Check{Name: name, Level: level, Message: fmt.Sprintf(format, args...)})
}

func (e *examination) all() error {
	e.admission()
	e.connection()
	e.refusals()
	if err := e.certificates(); err != nil {
		return err
	}
	if err := e.secrets(); err != nil {
		return err
	}
	e.firmware()
	e.updates()
	return nil
}

// when is a time for people.
func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func (e *examination) admission() {
	reason := e.d.AdmissionReason
	if reason != "" {
		reason = " (" + reason + ")"
	}
	switch e.d.Admission {
	case fleet.Pending:
		e.check("admission", fleet.CheckFailed, "The device waits for approval%s: approve it to let it connect.", reason)
	case fleet.Quarantined:
		e.check("admission", fleet.CheckFailed, "The device is quarantined%s: admit it to let it connect.", reason)
	default:
		e.check("admission", fleet.CheckOK, "The device may connect.")
	}
}

func (e *examination) connection() {
	k := e.d.Connection
	switch k.Status {
	case fleet.Connected, fleet.Connecting:
		e.check("connection", fleet.CheckOK, "The device is %s from %s since %s and was last heard at %s.", k.Status, k.Address, when(k.EstablishedAt), when(k.LastSeenAt))
	case fleet.Disconnected:
		why := k.Reason
		if why == "" {
			why = "unknown"
		}
		e.check("connection", fleet.CheckWarning, "The device is not connected; it was last heard at %s from %s, and its connection ended: %s.", when(k.LastSeenAt), k.Address, why)
	default:
		e.check("connection", fleet.CheckWarning, "The device has never been connected.")
	}
}

// refusals tells of the latest refusal, which matters while the device has not
// connected since.
func (e *examination) refusals() {
	if len(e.x.Refusals) == 0 {
		e.check("refusals", fleet.CheckOK, "No connection of the device was refused lately.")
		return
	}
	last := e.x.Refusals[0]
	level := fleet.CheckFailed
	since := ""
	if e.d.Connection.EstablishedAt.After(last.LastAt) {
		level, since = fleet.CheckInfo, "; it has connected since"
	}
	e.check("refusals", level, "The last refusal was at %s from %s%s: %s.", when(last.LastAt), last.Address, since, last.Message)
}

func (e *examination) certificates() (err error) {
	if e.x.Certificates, err = e.tx.ListDeviceCertificates(e.s, e.d.ID); err != nil {
		return err
	}
	if len(e.x.Certificates) == 0 {
		e.check("certificate", fleet.CheckInfo, "The device has no certificate; the first one of a registered authority with its identifier as common name is taken.")
		return nil
	}
	for _, cert := range e.x.Certificates {
		switch {
		case e.now.After(cert.NotAfter):
			e.check("certificate", fleet.CheckWarning, "The certificate %s expired at %s; the server takes it still, because it is known.", cert.Serial, when(cert.NotAfter))
		case e.now.Add(soonExpired).After(cert.NotAfter):
			e.check("certificate", fleet.CheckInfo, "The certificate %s expires at %s.", cert.Serial, when(cert.NotAfter))
		default:
			e.check("certificate", fleet.CheckOK, "The certificate %s is good until %s.", cert.Serial, when(cert.NotAfter))
		}
		if err := e.authority(cert); err != nil {
			return err
		}
	}
	return nil
}

func (e *examination) authority(cert fleet.DeviceCertificate) error {
	if len(cert.AKI) == 0 {
		e.check("authority", fleet.CheckInfo, "The certificate %s does not say who signed it; only this very certificate is taken.", cert.Serial)
		return nil
	}
	list, err := e.tx.CACertificatesBySKI(e.s, cert.AKI)
	switch {
	case err != nil:
		return err
	case len(list) == 0:
		e.check("authority", fleet.CheckInfo, "The signer of the certificate %s is not registered; this very certificate is taken, a new one is not unless its chain leads to a registered authority.", cert.Serial)
	case list[0].CheckExpiration && e.now.After(list[0].NotAfter):
		e.check("authority", fleet.CheckWarning, "The authority %s of the certificate %s expired at %s, and its end counts; new certificates are refused.", list[0].Serial, cert.Serial, when(list[0].NotAfter))
	default:
		e.check("authority", fleet.CheckOK, "The certificate %s was signed by the registered authority %s.", cert.Serial, list[0].Serial)
	}
	return nil
}

func (e *examination) secrets() error {
	list, err := e.tx.ListSharedSecrets(e.s, e.product.ID)
	if err != nil {
		return err
	}
	product, own := 0, 0
	for _, x := range list {
		switch {
		case !x.DeactivatedAt.IsZero():
		case x.DeviceID == e.d.ID:
			own++
		case x.DeviceID == 0:
			product++
		}
	}
	if product+own == 0 {
		level := fleet.CheckInfo
		if len(e.x.Certificates) == 0 {
			level = fleet.CheckWarning
		}
		e.check("shared_secret", level, "There is no shared secret the device could sign in with.")
		return nil
	}
	e.check("shared_secret", fleet.CheckOK, "The device can sign in with %d shared secrets of the product and %d of its own.", product, own)
	return nil
}

func (e *examination) firmware() {
	m := e.d.Firmware
	switch {
	case m == nil:
		e.check("firmware", fleet.CheckInfo, "The device has not said what firmware it runs.")
	case e.d.Validation == fleet.NotValidated:
		e.check("firmware", fleet.CheckWarning, "The device runs %s but has not marked it good; it is not updated until it does.", m.Version)
	case e.d.AutoReverted:
		e.check("firmware", fleet.CheckWarning, "The device fell back to %s, the firmware before.", m.Version)
	default:
		e.check("firmware", fleet.CheckOK, "The device runs %s (%s).", m.Version, m.UUID)
	}
}

func (e *examination) updates() {
	d := e.d
	switch {
	case !d.UpdatesEnabled:
		e.check("updates", fleet.CheckWarning, "Updates are switched off for the device.")
	case d.Blocked(e.now):
		e.check("updates", fleet.CheckWarning, "The device is in the penalty box until %s, after %d failed updates.", when(d.BlockedUntil), d.Failures)
	case d.Attempt != nil:
		e.check("updates", fleet.CheckInfo, "An update to %s is under way: %s, %d %%.", d.Attempt.TargetVersion, d.Attempt.State, d.Attempt.Percent)
	case d.GroupID == 0:
		e.check("updates", fleet.CheckInfo, "The device is in no deployment group, so nothing updates it by itself.")
	default:
		e.check("updates", fleet.CheckOK, "The deployment group %s updates the device.", d.GroupName)
	}
}
