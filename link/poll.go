package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Limits of a poll.
const (
	pollTimeout   = time.Minute
	maxPollAnswer = 1 << 20 // bytes
	maxPollNames  = 40      // values told about the firmware
	maxPollValue  = 255     // bytes of one
	maxPollValues = 6 << 10 // bytes of all, with their names
	maxTag        = 256     // bytes of an ETag that is kept
)

// heldAfterFailure is the least time before a device that polls takes an offer
// again that failed: its server only learns of successes.
const heldAfterFailure = time.Hour

// pollPrefix begins the headers that tell about the running firmware.
const pollPrefix = "X-NervesHubLinkHTTP-"

// pollPath is where a device asks for updates, and pollMe where it asks who it
// is.
const (
	pollPath = "/device/update"
	pollMe   = "/device/me"
)

// polledOffer is what became of the offer that a poll brought last.
type polledOffer struct {
	uuid  string
	until time.Time // it is not taken again before
	never bool      // nor ever
}

// note reads the report of an outcome. A device that polls has nobody to send
// it to, and keeps it in mind itself.
func (p *polledOffer) note(report map[string]any, now time.Time, held time.Duration) {
	switch report["status"] {
	case "ignored", "completed":
		p.never = true
	case "rescheduled":
		minutes, _ := report["delay_for"].(int)
		p.until = now.Add(time.Duration(minutes) * time.Minute)
	case "failed":
		p.until = now.Add(held)
	}
}

// open reports whether an offer may be taken.
func (p *polledOffer) open(uuid string, now time.Time) bool {
	return p.uuid != uuid || !p.never && !now.Before(p.until)
}

// runPolling asks for updates now and then until ctx ends.
func (l *Link) runPolling(ctx context.Context) error {
	var tag string
	connected, told := false, false
	for {
		asked, err := l.poll(ctx, &tag)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		pause := l.pollPause(asked)
		if err != nil {
			l.failed(err)
			if connected || !told {
				l.opts.Client.Disconnected(err)
			} else {
				l.opts.Logger.Warn("still disconnected", "error", err)
			}
			connected, told = false, true
			pause = max(l.backoff.next(), asked)
		} else {
			l.backoff.reset()
			if !connected {
				l.opts.Alarms.Clear(AlarmDisconnected)
				l.opts.Client.Connected()
			}
			connected = true
		}
		if err := l.waitAgain(ctx, pause); err != nil {
			return err
		}
	}
}

// pollPause is the time to the next poll, after one that succeeded.
func (l *Link) pollPause(asked time.Duration) time.Duration {
	interval := l.opts.PollInterval
	if interval == 0 {
		if asked > 0 {
			return asked // the server spreads its devices itself
		}
		interval = DefaultPollInterval
	}
	interval += time.Duration(rand.Float64() * 0.2 * float64(interval))
	return max(interval, asked)
}

// poll asks once, and begins the update it is offered. An answer proves the
// running firmware. It returns how long the server asks to wait.
func (l *Link) poll(ctx context.Context, tag *string) (asked time.Duration, err error) {
	running, err := l.running(ctx)
	if err != nil {
		return 0, err
	}
	limited, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	answer, err := l.ask(limited, pollPath, running, *tag)
	if err != nil {
		var refused *RefusedError
		if errors.As(err, &refused) {
			asked = refused.RetryAfter
		}
		return asked, err
	}
	if !running.Validated {
		l.prove()
	}
	if answer.unchanged {
		return answer.asked, nil
	}
	*tag = answer.tag
	if answer.Data.UpdateAvailable && !l.takePolled(answer, running.Firmware) {
		*tag = "" // to be offered again, at an address that is fresh
	}
	return answer.asked, nil
}

// takePolled begins the update of an offer, unless it must wait. It reports
// whether the offer need not be told again.
func (l *Link) takePolled(answer pollAnswer, running Firmware) (settled bool) {
	d, now := answer.Data, time.Now()
	l.mu.Lock()
	open, never := l.polled.open(d.UUID, now), l.polled.uuid == d.UUID && l.polled.never
	busy := l.updater.downloading() != ""
	if open && !busy && l.polled.uuid != d.UUID {
		l.polled = polledOffer{uuid: d.UUID}
	}
	l.mu.Unlock()
	if !open || busy {
		return never
	}
	payload, err := json.Marshal(map[string]any{
		"firmware_url": d.FirmwareURL, "size": d.Size, "checksum": d.Checksum, "partials_checksums": d.PartialsChecksums,
		"firmware_meta": map[string]any{
			// What the poll does not tell is the same for each firmware of the
			// device, or is in the file.
			"uuid": d.UUID, "version": d.Version, "product": running.Product,
			"platform": running.Platform, "architecture": running.Architecture,
		},
	})
	if err != nil {
		l.opts.Logger.Warn("offer not understood", "error", err)
		return false
	}
	l.startUpdate(payload, running)
	return false
}

// pollAnswer is an answer to a poll.
type pollAnswer struct {
	Data struct {
		UpdateAvailable   bool     `json:"update_available"`
		FirmwareURL       string   `json:"firmware_url"`
		UUID              string   `json:"uuid"`
		Version           string   `json:"version"`
		Size              int64    `json:"size"`
		Checksum          string   `json:"checksum"`
		PartialsChecksums []string `json:"partials_checksums"`
	} `json:"data"`

	tag       string
	unchanged bool          // since the answer with the tag that was sent
	asked     time.Duration // to wait
}

// ask sends one request, following redirects. Errors are explained.
func (l *Link) ask(ctx context.Context, path string, running Running, tag string) (pollAnswer, error) {
	c, err := l.opts.credentials(ctx)
	if err != nil {
		return pollAnswer{}, l.explain(err, c)
	}
	answer, err := l.askAs(ctx, c, path, running, tag)
	if err != nil {
		return answer, l.explain(err, c)
	}
	return answer, nil
}

func (l *Link) askAs(ctx context.Context, c credentials, path string, running Running, tag string) (pollAnswer, error) {
	at, err := l.opts.base()
	if err != nil {
		return pollAnswer{}, err
	}
	at.Path = path
	client := &http.Client{Transport: l.opts.transport(c), CheckRedirect: useLastResponse}
	for redirects := 0; ; redirects++ {
		resp, err := client.Do(l.pollRequest(ctx, at, c, running, tag))
		if err != nil {
			return pollAnswer{}, err
		}
		answer, err := l.answered(resp)
		resp.Body.Close()
		if !isRedirect(resp.StatusCode) || redirects == maxRedirects {
			return answer, err
		}
		to, lost := leadsTo(at, resp.Header.Get("Location"))
		if lost != nil {
			return pollAnswer{}, fmt.Errorf("%w: %w", lost, err)
		}
		at = to
	}
}

func (l *Link) pollRequest(ctx context.Context, at *url.URL, c credentials, running Running, tag string) *http.Request {
	u := *at
	u.Scheme = "https"
	if at.Scheme == "ws" {
		u.Scheme = "http"
	}
	r := (&http.Request{Method: http.MethodGet, URL: &u, Host: u.Host, Header: l.header(c)}).WithContext(ctx)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "ganglion-link")
	if tag != "" {
		r.Header.Set("If-None-Match", tag)
	}
	tellFirmware(r.Header, running.Values)
	return r
}

// tellFirmware adds what is known of the running firmware: what servers match
// by first, and of the rest what the bounds leave.
func tellFirmware(h http.Header, values map[string]string) {
	names := []string{"uuid", "product", "version", "platform", "architecture"}
	var more []string
	for k := range values {
		if name, ok := strings.CutPrefix(k, "nerves_fw_"); ok && !slices.Contains(names, name) {
			more = append(more, name)
		}
	}
	slices.Sort(more)
	told, size := 0, 0
	for _, name := range append(names, more...) {
		value := values["nerves_fw_"+name]
		size += len(pollPrefix) + len(name) + len(value)
		if !isToken(name) || !isFieldValue(value) || told == maxPollNames || size > maxPollValues {
			continue
		}
		told++
		h.Set(pollPrefix+name, value)
	}
}

// isToken reports whether a text can be in the name of a header.
func isToken(s string) bool {
	return s != "" && len(s) <= 64 && strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
	}) < 0
}

// isFieldValue reports whether a text can be the value of a header.
func isFieldValue(s string) bool {
	return s != "" && len(s) <= maxPollValue && strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) < 0
}

// answered reads an answer.
func (l *Link) answered(resp *http.Response) (a pollAnswer, err error) {
	switch resp.StatusCode {
	case http.StatusOK, http.StatusNotModified:
	default:
		return a, l.refused(resp, nil)
	}
	a.asked, _ = parseRetryAfter(resp.Header.Get("Retry-After"), l.opts.Now())
	if resp.StatusCode == http.StatusNotModified {
		a.unchanged = true
		return a, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPollAnswer+1))
	if err != nil {
		return a, fmt.Errorf("read the answer: %w", err)
	}
	if len(body) > maxPollAnswer {
		return a, fmt.Errorf("the answer is larger than %d bytes", maxPollAnswer)
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return a, fmt.Errorf("the answer is not one of a server for devices: %w", err)
	}
	if tag := resp.Header.Get("ETag"); len(tag) <= maxTag {
		a.tag = tag
	}
	return a, nil
}
