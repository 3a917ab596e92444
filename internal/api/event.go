package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

// Limits of a stream of events.
const (
	eventBuffer    = 512              // messages of the bus that wait for one stream
	maxStreams     = 32               // open streams of one user
	maxIdentifiers = 10_000           // devices a stream remembers the identifiers of
	heartbeat      = 15 * time.Second // keeps proxies from closing, and looks whether the caller may still see
	eventWrite     = 10 * time.Second // a caller that takes longer to read is gone
)

// streamCounter bounds the streams each user holds open.
type streamCounter struct {
	mu   sync.Mutex
	open map[int64]int
}

func (c *streamCounter) enter(user int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[user] >= maxStreams {
		return false
	}
	c.open[user]++
	return true
}

func (c *streamCounter) leave(user int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[user]--; c.open[user] <= 0 {
		delete(c.open, user)
	}
}

func (s *server) eventRoutes() {
	register(s, route{
		method: http.MethodGet, path: productPath + "/events", id: "stream-events", tag: "Events",
		summary: "What happens in a product, as it happens", document: documentEvents,
	}, func(c *call, in *InProduct) (*struct{ Body func(huma.Context) }, error) {
		p, err := s.control.Product(c.ctx, c.scope, in.Product)
		if err != nil {
			return nil, err
		}
		if !s.streams.enter(c.user.ID) {
			return nil, fleet.Errorf(fleet.RateLimited, "more than %d streams are open", maxStreams).WithHint("close one first")
		}
		st := &stream{s: s, c: c, product: p, in: make(chan any, eventBuffer), identifiers: map[int64]string{}}
		stop, err := st.subscribe()
		if err != nil {
			s.streams.leave(c.user.ID)
			return nil, err
		}
		return &struct{ Body func(huma.Context) }{func(huma.Context) {
			defer s.streams.leave(c.user.ID)
			defer stop()
			st.run()
		}}, nil
	})
}

func documentEvents(op *huma.Operation) {
	op.Description = "Server-sent events. The data of each is one Event: a change of the product's data, how far a device is with an update, " +
		"or that it came or went. Events are hints: the noun \"stream\" with the action \"lost\" says that some were dropped, so look again. " +
		"The stream ends when the token is revoked."
	op.Responses = map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{
		"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}},
	}}}
}

// stream is one caller who watches a product.
type stream struct {
	s           *server
	c           *call
	product     fleet.Product
	in          chan any // fleet.Change, []fleet.Progress, []fleet.Presence
	mu          sync.Mutex
	lost        bool // messages were dropped
	identifiers map[int64]string
}

// put takes a message from the bus, or notes that there was no room for it.
func (st *stream) put(m any) {
	select {
	case st.in <- m:
	default:
		st.mu.Lock()
		st.lost = true
		st.mu.Unlock()
	}
}

func (st *stream) takeLost() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	lost := st.lost
	st.lost = false
	return lost
}

// subscribe comes before the answer begins: what happens after a caller has
// seen the beginning is not missed.
func (st *stream) subscribe() (stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, f := range stops {
			f()
		}
	}
	b, org := st.s.bus, st.c.org.ID
	for _, on := range []func() (func(), error){
		func() (func(), error) { return b.OnChange(org, func(m fleet.Change) { st.put(m) }) },
		func() (func(), error) { return b.OnProgress(org, func(m []fleet.Progress) { st.put(m) }) },
		func() (func(), error) { return b.OnPresence(org, func(m []fleet.Presence) { st.put(m) }) },
	} {
		f, err := on()
		if err != nil {
			stop()
			return nil, err
		}
		stops = append(stops, f)
	}
	return stop, nil
}

// run writes events until the caller leaves, may not see them any more, or the
// server drains.
func (st *stream) run() {
	h := st.c.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	if st.write([]byte(": begins\n\n")) != nil {
		return
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		var out []byte
		select {
		case <-st.c.ctx.Done():
			return
		case <-st.s.drain:
			return
		case <-beat.C:
			if !st.allowed() {
				return
			}
			out = []byte(": still here\n\n")
		case m := <-st.in:
			if change, ok := m.(fleet.Change); ok && (change.Noun == "token" || change.Noun == "member") && !st.allowed() {
				return
			}
			out = st.encode(st.events(m))
		}
		if st.takeLost() {
			out = append(out, st.encode([]rest.Event{{Noun: rest.NounStream, Action: "lost"}})...)
		}
		if len(out) > 0 && st.write(out) != nil {
			return
		}
	}
}

// allowed looks whether the token still holds and its user is still in the
// org.
func (st *stream) allowed() bool {
	scope, _, err := st.s.control.Authenticate(st.c.ctx, fleet.TokenAPI, st.c.token)
	if err == nil {
		scope, _, err = st.s.control.OrgScope(st.c.ctx, scope, st.c.org.Name)
	}
	if err == nil {
		_, err = st.s.control.Product(st.c.ctx, scope, st.product.Name)
	}
	switch fleet.KindOf(err) {
	case fleet.Unauthorized, fleet.NotFound, fleet.Forbidden:
		return false
	}
	return true // what is only out of reach is looked at again
}

// events makes events of a message, of this product only.
func (st *stream) events(m any) (list []rest.Event) {
	switch m := m.(type) {
	case fleet.Change:
		if m.ProductID != st.product.ID {
			return nil
		}
		e := rest.Event{Noun: m.Noun, Action: m.Action}
		if m.Noun == "device" {
			st.learn([]int64{m.ID})
			e.Identifier = st.identifiers[m.ID]
		}
		return []rest.Event{e}
	case []fleet.Progress:
		var ids []int64
		for _, p := range m {
			if p.ProductID == st.product.ID {
				ids = append(ids, p.DeviceID)
			}
		}
		st.learn(ids)
		for _, p := range m {
			if p.ProductID == st.product.ID {
				list = append(list, rest.Event{Noun: "update_attempt", Action: "progress", Identifier: st.identifiers[p.DeviceID], State: string(p.State), Percent: p.Percent})
			}
		}
	case []fleet.Presence:
		for _, p := range m {
			if p.ProductID == st.product.ID {
				list = append(list, rest.Event{Noun: "device", Action: "presence", Identifier: p.Identifier, State: string(p.Status)})
			}
		}
	}
	return list
}

// learn looks up the identifiers of devices that are not known yet.
func (st *stream) learn(ids []int64) {
	var missing []int64
	for _, id := range ids {
		if _, known := st.identifiers[id]; !known {
			missing = append(missing, id)
		}
	}
	if len(st.identifiers)+len(missing) > maxIdentifiers {
		st.identifiers = map[int64]string{}
		missing = ids
	}
	for len(missing) > 0 {
		some := missing[:min(len(missing), fleet.MaxPageSize)]
		missing = missing[len(some):]
		list, _, err := st.s.control.ListDevices(st.c.ctx, st.c.scope, st.product.Name, fleet.DeviceFilter{IDs: some, Page: fleet.Page{Limit: fleet.MaxPageSize}})
		if err != nil {
			return // the event goes without; it is a hint
		}
		for _, d := range list {
			st.identifiers[d.ID] = d.Identifier
		}
	}
}

func (st *stream) encode(list []rest.Event) []byte {
	var out bytes.Buffer
	for _, e := range list {
		data, err := json.Marshal(e)
		if err != nil {
			continue // an Event is text and numbers
		}
		out.WriteString("data: ")
		out.Write(data)
		out.WriteString("\n\n")
	}
	return out.Bytes()
}

func (st *stream) write(b []byte) error {
	rc := http.NewResponseController(st.c.w)
	_ = rc.SetWriteDeadline(time.Now().Add(eventWrite)) // not every writer has one
	if _, err := st.c.w.Write(b); err != nil {
		return err
	}
	return rc.Flush()
}
