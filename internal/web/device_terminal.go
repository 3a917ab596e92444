package web

import (
	"crypto/rand"
	"net/http"

	"github.com/ganglion-iot/ganglion/fleet"
)

// terminalPage shows a terminal of a device. The terminal itself comes by the
// socket of deviceSocket.
func (s *site) terminalPage(kind fleet.TerminalKind) handler {
	tab := "Console"
	if kind == fleet.TerminalShell {
		tab = "Shell"
	}
	page := func(r *request) (view, error) {
		if err := r.scope.Require(fleet.RoleManage); err != nil {
			return view{}, err
		}
		_, v, err := s.deviceView(r, tab)
		if err != nil {
			return view{}, err
		}
		v.bundle, v.nonce = s.bundle.Terminal, r.nonce
		v.parts = append(v.parts, part{id: "screen", body: terminalScreen(r, kind)})
		return v, nil
	}
	return func(w http.ResponseWriter, r *request) {
		if !isStream(r.Request) {
			// The terminal makes style elements as it goes; they carry the nonce.
			r.nonce = rand.Text()
			w.Header().Set("Content-Security-Policy", contentPolicy("'self' 'nonce-"+r.nonce+"'"))
		}
		s.page(page)(w, r)
	}
}

// absentText says how a device comes to offer a terminal.
func absentText(kind fleet.TerminalKind) string {
	if kind == fleet.TerminalShell {
		return "the device offers no shell; set shell.enabled in its link.toml"
	}
	return "the device offers no console; set console.enabled in its link.toml"
}
