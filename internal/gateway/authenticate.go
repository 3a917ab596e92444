package gateway

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/nh1"
)

// errNoCredentials refuses a device that shows nothing at all.
var errNoCredentials error = fleet.Errorf(fleet.Unauthorized, "%s", reasonNoCredentials)

// refusalReason is what a device may be told about why it was refused; "": nothing.
func refusalReason(err error) string {
	var refused *control.Refused
	switch {
	case errors.Is(err, errNoCredentials):
		return reasonNoCredentials
	case errors.As(err, &refused):
		return refused.Reason
	}
	return ""
}

// authenticate finds out which device asks. A certificate, where there is one,
// decides alone. The error's kind is Unauthorized for a device that is not
// believed, and Unavailable when that could not be found out.
func (g *Gateway) authenticate(r *http.Request, address string, certificates bool) (d fleet.Device, err error) {
	mutual := certificates && r.TLS != nil && len(r.TLS.PeerCertificates) > 0
	var credentials nh1.Credentials
	if !mutual {
		if credentials, err = sharedSecret(r.Header); err != nil {
			return d, err
		}
		if ok, wait := g.keys.Ready(credentials.Key, g.clock.Now()); !ok {
			return d, &fleet.Error{Kind: fleet.RateLimited, Message: "too many devices with one key", Wait: wait}
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), g.admission.timeout)
	defer cancel()
	leave, err := g.admission.enter(ctx)
	if err != nil {
		return d, err
	}
	defer leave()
	start := time.Now()
	defer func() { g.metrics.authentication.Observe(time.Since(start).Seconds()) }()
	if mutual {
		chain := r.TLS.PeerCertificates
		return g.control.DeviceByCertificate(ctx, chain[0], chain[1:], address)
	}
	d, err = g.control.DeviceBySharedSecret(ctx, credentials, address)
	if signedNow(err) {
		g.keys.Allow(credentials.Key, g.clock.Now())
	}
	return d, err
}

// signedNow reports whether a device that was answered so has just signed with
// the key it names. Keys are no secrets: what others send with one must not
// count, or anybody could lock out a product.
func signedNow(err error) bool {
	var refused *control.Refused
	switch {
	case err == nil:
		return true
	case !errors.As(err, &refused) || refused.Reason == "":
		return false
	}
	switch refused.Code {
	case fleet.RefusedReplay, fleet.RefusedOld, fleet.RefusedFuture:
		return false // it may have been overheard
	}
	return true
}

// sharedSecret reads the headers of a signature, and tells apart a device
// without credentials from one with wrong ones.
func sharedSecret(h http.Header) (nh1.Credentials, error) {
	c, err := nh1.ParseNH1(h)
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, nh1.ErrMissing) && !hasExtraHeader(h):
		return c, errNoCredentials
	case nh1.Present(h) && len(h[nh1.HeaderTime]) == 0:
		// The protocol has this one gap answered like a failure of ours.
		return c, &fleet.Error{Kind: fleet.Unavailable, Message: "the signature has no time", Err: err}
	}
	return c, &fleet.Error{Kind: fleet.Unauthorized, Message: "the device may not connect", Err: err}
}

// hasExtraHeader reports whether any header begins with x-. Then the protocol
// takes the device for one that tried.
func hasExtraHeader(h http.Header) bool {
	for name := range h {
		if strings.HasPrefix(name, "X-") {
			return true
		}
	}
	return false
}

// admission bounds how many devices are authenticated at once: after a restart
// they all come together, and a signature takes work to check.
type admission struct {
	slots   chan struct{}
	waiting atomic.Int64
	most    int64 // that wait
	timeout time.Duration
}

func newAdmission(slots, most int, timeout time.Duration) *admission {
	return &admission{slots: make(chan struct{}, slots), most: int64(most), timeout: timeout}
}

// enter waits for a slot and returns how to leave it. It fails with
// Unavailable when too many wait, or when ctx ends.
func (a *admission) enter(ctx context.Context) (leave func(), err error) {
	leave = func() { <-a.slots }
	select {
	case a.slots <- struct{}{}:
		return leave, nil
	default:
	}
	if a.waiting.Add(1) > a.most {
		a.waiting.Add(-1)
		return nil, fleet.Errorf(fleet.Unavailable, "too many devices wait to be authenticated")
	}
	defer a.waiting.Add(-1)
	select {
	case a.slots <- struct{}{}:
		return leave, nil
	case <-ctx.Done():
		return nil, fleet.Errorf(fleet.Unavailable, "the device waited too long to be authenticated: %w", ctx.Err())
	}
}
