package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/nh1"
)

// Limits of a poll.
const (
	maxPollHeaders = 64      // names and values
	maxPollHeader  = 8 << 10 // bytes of them all
	pollTimeout    = 20 * time.Second
	busyRetry      = 30 * time.Second // when the platform could not answer
)

// reasonPolls stands where a connection says why it ended.
const reasonPolls = "the device polls"

// pollPrefixes begin the headers by which a device tells about its firmware:
// as devices of the field spell them, and as the old server did. Both are in
// the form that net/http gives to names.
var pollPrefixes = [...]string{"X-Nerveshublinkhttp-", "X-Nerveshub-"}

// servePoll answers a device that asks now and then instead of staying
// connected. What such devices know of a refusal is one body.
func (g *Gateway) servePoll(w http.ResponseWriter, r *http.Request) {
	if g.offers == nil {
		http.NotFound(w, r)
		return
	}
	// The device comes back in minutes; to keep its connection until then costs
	// more than the next handshake.
	w.Header().Set("Connection", "close")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(pollTimeout + upgradeTimeout)) // else the server's limits hold
	if status := pollProblem(r); status != 0 {
		if status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", http.MethodGet)
		}
		g.refusePoll(w, status, 0)
		return
	}
	address := addressOf(r)
	if ok, wait := g.addresses.Allow(address, g.clock.Now()); !ok {
		g.refusePoll(w, http.StatusTooManyRequests, wait)
		return
	}
	if !g.enter() {
		g.refusePoll(w, http.StatusServiceUnavailable, busyRetry)
		return
	}
	defer g.live.Done()
	d, err := g.authenticate(r, address, true)
	if err != nil {
		g.refusePolling(w, address, err)
		return
	}
	if ok, wait := g.devices.Allow(strconv.FormatInt(d.ID, 10), g.clock.Now()); !ok {
		g.refusePoll(w, http.StatusTooManyRequests, wait)
		return
	}
	// Who hangs up does not break off the write of many.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), pollTimeout)
	defer cancel()
	leave, err := g.polls.enter(ctx)
	if err != nil {
		g.refusePolling(w, address, err)
		return
	}
	defer leave()
	if r.URL.Path == "/device/me" {
		g.pollMe(w, r, d, address)
		return
	}
	g.pollUpdate(ctx, w, r, d, address)
}

// pollProblem is the status for a request that is not one of a device; 0: it
// may be.
func pollProblem(r *http.Request) int {
	names, size := 0, 0
	for name, values := range r.Header {
		for _, v := range values {
			names++
			size += len(name) + len(v)
		}
	}
	switch {
	case r.Method != http.MethodGet:
		return http.StatusMethodNotAllowed
	case names > maxPollHeaders || size > maxPollHeader:
		return http.StatusRequestHeaderFieldsTooLarge
	case r.ContentLength != 0:
		return http.StatusBadRequest
	case !sameOrigin(r):
		return http.StatusForbidden
	}
	return 0
}

// pollMe tells the device who it is. Its report leaves with the next write.
func (g *Gateway) pollMe(w http.ResponseWriter, r *http.Request, d fleet.Device, address string) {
	state, report := g.polled(r.Header, d)
	g.writer.notePoll(d, address, state, &report)
	signal(g.writer.lazy)
	var answer struct {
		Data struct {
			Identifier string `json:"identifier"`
		} `json:"data"`
	}
	answer.Data.Identifier = d.Identifier
	g.answerPoll(w, r, answer, "me."+d.UUID)
}

// pollUpdate tells the device what it is to install. What it said is written
// first, with what others said meanwhile: the answer follows from it.
func (g *Gateway) pollUpdate(ctx context.Context, w http.ResponseWriter, r *http.Request, d fleet.Device, address string) {
	state, report := g.polled(r.Header, d)
	g.writer.notePoll(d, address, state, nil)
	if err := g.writer.flush(ctx); err != nil {
		signal(g.writer.urgent) // the writer tries again
		g.refusePolling(w, address, err)
		return
	}
	answer, err := g.offers.Poll(ctx, report)
	if err != nil {
		g.refusePolling(w, address, err)
		return
	}
	w.Header().Set("Retry-After", seconds(answer.Next))
	g.answerPoll(w, r, pollBody{pollDataOf(answer)}, "update."+answer.Tag)
}

// pollBody is the answer to a poll: two fields devices of the field know, and
// more that they ignore.
type pollBody struct {
	Data pollData `json:"data"`
}

type pollData struct {
	UpdateAvailable   bool     `json:"update_available"`
	FirmwareURL       string   `json:"firmware_url,omitempty"`
	UUID              string   `json:"uuid,omitempty"`
	Version           string   `json:"version,omitempty"`
	Size              int64    `json:"size,omitempty"`     // bytes
	Checksum          string   `json:"checksum,omitempty"` // upper hex SHA-256 of the file
	PartialsChecksums []string `json:"partials_checksums,omitempty"`
}

func pollDataOf(a fleet.PollAnswer) pollData {
	if a.Offer == nil {
		return pollData{}
	}
	f := a.Offer.Firmware
	d := pollData{UpdateAvailable: true, FirmwareURL: a.Offer.URL, UUID: f.UUID, Version: f.Version, Size: f.Size, Checksum: strings.ToUpper(f.SHA256)}
	for _, part := range f.PartSHA256 {
		d.PartialsChecksums = append(d.PartialsChecksums, strings.ToUpper(part))
	}
	return d
}

// polled reads what the device says about its firmware.
func (g *Gateway) polled(h http.Header, d fleet.Device) (*store.DeviceState, fleet.DeviceReport) {
	report := fleet.DeviceReport{Kind: fleet.ReportPolled, OrgID: d.OrgID, ProductID: d.ProductID, DeviceID: d.ID, At: g.clock.Now()}
	m := fleet.FirmwareMetadata{
		UUID: pollField(h, "Uuid"), Product: pollField(h, "Product"), Version: pollField(h, "Version"), Platform: pollField(h, "Platform"),
		Architecture: pollField(h, "Architecture"), Author: pollField(h, "Author"), Description: pollField(h, "Description"),
		VCSIdentifier: pollField(h, "Vcs_identifier", "Vcs-Identifier"), Misc: pollField(h, "Misc"),
	}
	if m.UUID == "" {
		return nil, report
	}
	report.RunningUUID = m.UUID
	return &store.DeviceState{Firmware: &m, Validation: fleet.ValidationUnknown, APIVersion: oldestAPI}, report
}

// pollField is the first header of either spelling with one of the names.
func pollField(h http.Header, names ...string) string {
	for _, prefix := range pollPrefixes {
		for _, name := range names {
			if list := h[prefix+name]; len(list) > 0 && list[0] != "" {
				return clean(list[0], maxField)
			}
		}
	}
	return ""
}

// answerPoll sends the body, or nothing to a device that has it. The tag names
// what the body says; only the address in an offer changes meanwhile.
func (g *Gateway) answerPoll(w http.ResponseWriter, r *http.Request, body any, tag string) {
	text, err := json.Marshal(body)
	if err != nil {
		g.log.Error("an answer to a poll is not fit for devices", "error", err)
		g.refusePoll(w, http.StatusInternalServerError, busyRetry)
		return
	}
	sum := sha256.Sum256([]byte(tag))
	etag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	w.Header().Set("Etag", "W/"+etag)
	w.Header().Set("Cache-Control", "private, no-cache")
	if matches(r.Header["If-None-Match"], etag) {
		g.metrics.poll(http.StatusNotModified)
		w.WriteHeader(http.StatusNotModified)
		return
	}
	g.metrics.poll(http.StatusOK)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(text) // who asked may be gone
}

// matches reports whether a condition names the tag, by weak comparison.
func matches(conditions []string, etag string) bool {
	for _, c := range conditions {
		for one := range strings.SplitSeq(c, ",") {
			if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == etag {
				return true
			}
		}
	}
	return false
}

// refusePolling answers a poll that failed. The log has the reason.
func (g *Gateway) refusePolling(w http.ResponseWriter, address string, err error) {
	refused := errors.Is(err, nh1.ErrMissing) || errors.Is(err, nh1.ErrMalformed)
	switch fleet.KindOf(err) {
	case fleet.Unauthorized, fleet.Forbidden, fleet.NotFound, fleet.Invalid, fleet.Conflict:
		refused = true
	}
	if fleet.KindOf(err) == fleet.RateLimited {
		g.refusePoll(w, http.StatusTooManyRequests, fleet.WaitOf(err))
		return
	}
	if refused {
		g.log.Info("device refused", "address", address, "error", err)
		if reason := refusalReason(err); reason != "" {
			w.Header().Set(reasonHeader, reason)
		}
		g.refusePoll(w, http.StatusForbidden, 0)
		return
	}
	g.log.Warn("a poll could not be answered", "address", address, "error", err)
	g.refusePoll(w, http.StatusServiceUnavailable, busyRetry)
}

// pollRefusals are the words of devices' answers by status.
var pollRefusals = map[int]string{
	http.StatusForbidden: "forbidden", http.StatusTooManyRequests: "too many requests", http.StatusServiceUnavailable: "unavailable",
	http.StatusInternalServerError: "unavailable",
}

func (g *Gateway) refusePoll(w http.ResponseWriter, status int, wait time.Duration) {
	g.metrics.poll(status)
	word := or(pollRefusals[status], "bad request")
	if wait > 0 {
		w.Header().Set("Retry-After", seconds(wait))
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(`{"status":"` + word + `"}`)) // who asked may be gone
}

// seconds is a wait as HTTP spells it, at least one second.
func seconds(d time.Duration) string {
	return strconv.FormatInt(max(1, int64((d+time.Second-1)/time.Second)), 10)
}
