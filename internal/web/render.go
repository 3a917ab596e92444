package web

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/a-h/templ"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/web/assets"
)

// view is a page: its title, where it stands, and its parts from top to
// bottom. Live parts are rendered anew when something changes.
type view struct {
	title  string
	tab    string // of the product navigation; "" outside a product
	crumbs []crumb
	parts  []part

	bundle assets.Pair // beside what every page loads
	nonce  string      // of style elements; "": there are none
}

type crumb struct{ name, href string }

type part struct {
	id   string
	body templ.Component
	live bool
}

// pageFunc makes a view; it is called again for every refresh.
type pageFunc func(r *request) (view, error)

// page answers with a whole page, or with a stream of its live parts.
func (s *site) page(f pageFunc) handler {
	return func(w http.ResponseWriter, r *request) {
		if isStream(r.Request) {
			s.stream(w, r, f)
			return
		}
		v, err := f(r)
		if err != nil {
			s.fail(w, r.Request, err)
			return
		}
		s.render(w, r.Request, http.StatusOK, s.layout(r, v))
	}
}

// layout puts a view into the frame of every page.
func (s *site) layout(r *request, v view) templ.Component {
	title := v.title
	if p := r.product(); p != "" && p != title {
		title += " · " + p
	}
	f := frame{title: title, script: s.bundle.Script, css: s.bundle.CSS, user: r.user, crumbs: v.crumbs, tab: v.tab, extra: v.bundle, nonce: v.nonce}
	if r.wrong != nil && r.wrong.form == "" {
		f.problem = &r.wrong.problem
	}
	f.notice = notices[r.URL.Query().Get("done")]
	path := r.at
	if path == "" {
		path = r.URL.EscapedPath()
	}
	if r.org.Name != "" {
		f.org = r.org.Name
		f.product = r.product()
	}
	if f.tab != "" {
		// A page is shown without the number rather than not at all.
		f.notifications, _ = s.control.CountNotifications(r.ctx, r.scope, r.product())
	}
	for _, p := range v.parts {
		if p.live {
			q := r.URL.Query()
			q.Set("live", "1")
			q.Del("done")
			f.live = path + "?" + q.Encode()
		}
	}
	return shell(f, v.parts)
}

// render writes a component; nothing is sent if it fails.
func (s *site) render(w http.ResponseWriter, r *http.Request, status int, c templ.Component) {
	var b bytes.Buffer
	if err := c.Render(r.Context(), &b); err != nil {
		s.log.Error("render failed", "path", r.URL.Path, "error", err)
		http.Error(w, "this page could not be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the browser may have gone
}

// statusOf maps a kind of error to an HTTP status.
func statusOf(err error) int {
	switch fleet.KindOf(err) {
	case fleet.Invalid:
		return http.StatusUnprocessableEntity
	case fleet.Unauthorized:
		return http.StatusUnauthorized
	case fleet.Forbidden:
		return http.StatusForbidden
	case fleet.NotFound:
		return http.StatusNotFound
	case fleet.Conflict:
		return http.StatusConflict
	case fleet.TooLarge:
		return http.StatusRequestEntityTooLarge
	case fleet.RateLimited:
		return http.StatusTooManyRequests
	case fleet.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// problem is an error as people see it.
type problem struct{ message, hint, id string }

// explain words an error. What is our fault gets an id that is also in the
// log.
func (s *site) explain(r *http.Request, err error) problem {
	p := problem{message: sentence(err), hint: fleet.HintOf(err)}
	if kind := fleet.KindOf(err); kind == fleet.Internal || kind == fleet.Unavailable {
		random := make([]byte, 4)
		_, _ = rand.Read(random) // never fails
		p.id = hex.EncodeToString(random)
		s.log.Error("request failed", "error.id", p.id, "method", r.Method, "path", r.URL.Path, "error", err)
	}
	return p
}

func sentence(err error) string {
	m := fleet.MessageOf(err)
	if f := fleet.FieldOf(err); f != "" && !strings.HasPrefix(m, f) {
		m = strings.ReplaceAll(f, "_", " ") + " " + m
	}
	if m == "" {
		return "Something went wrong."
	}
	return strings.ToUpper(m[:1]) + m[1:] + "."
}

// fail answers with an error: as JSON to scripts, as a page to people.
func (s *site) fail(w http.ResponseWriter, r *http.Request, err error) {
	p, status := s.explain(r, err), statusOf(err)
	if wantsJSON(r) {
		writeJSON(w, status, map[string]string{"message": p.message, "hint": p.hint})
		return
	}
	s.render(w, r, status, bare("That did not work", s.bundle.Script, s.bundle.CSS, problemPage(status, p)))
}

func wantsJSON(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "application/json")
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the browser may have gone
}

// notices say what was done, to somebody who came back to a page after it.
var notices = map[string]string{
	"created":    "Created.",
	"deleted":    "Deleted.",
	"saved":      "Saved.",
	"published":  "Published.",
	"released":   "Released. Devices are told as slots become free.",
	"pause":      "Paused. Updates that run already go on to their end.",
	"resume":     "Resumed.",
	"reboot":     "The device was told to restart.",
	"identify":   "The device was told to show itself.",
	"reconnect":  "The connection was closed; the device comes back by itself.",
	"approve":    "Approved. The device is let in when it comes back.",
	"reject":     "Rejected and removed.",
	"admit":      "The device is let in again.",
	"quarantine": "Quarantined. The device is not let in until you admit it.",
	"ask-health": "Asked. The report shows here as soon as it comes.",
	"dismissed":  "Dismissed.",
	"deactivate": "Deactivated. Devices can not connect with it any more.",
}

// back returns to a page after a form was handled, with one of the notices.
func back(w http.ResponseWriter, r *request, path, done string) {
	if _, ok := notices[done]; ok {
		path += "?done=" + done
	}
	http.Redirect(w, r.Request, path, http.StatusSeeOther)
}

// mistake is a form that was refused, and what was typed into it.
type mistake struct {
	form    string // "" is a button
	problem problem
}

// again shows the page of a refused form once more, with what is wrong and
// what was typed. Who may not be there gets the error alone.
func (s *site) again(w http.ResponseWriter, r *request, err error, form, path string, f pageFunc) {
	switch fleet.KindOf(err) {
	case fleet.Invalid, fleet.Conflict, fleet.RateLimited, fleet.Unavailable:
	default:
		s.fail(w, r.Request, err)
		return
	}
	r.at, r.wrong = path, &mistake{form: form, problem: s.explain(r.Request, err)}
	v, e := f(r)
	if e != nil {
		s.fail(w, r.Request, err)
		return
	}
	s.render(w, r.Request, statusOf(err), s.layout(r, v))
}

// problem is what is wrong with a form; nil when nothing is.
func (r *request) problem(form string) *problem {
	if r.wrong == nil || r.wrong.form != form {
		return nil
	}
	return &r.wrong.problem
}

// typed is what was typed into a field of a refused form, otherwise another
// value.
func (r *request) typed(form, field, otherwise string) string {
	if r.problem(form) == nil {
		return otherwise
	}
	return r.PostFormValue(field)
}
