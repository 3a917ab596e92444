package gateway

import (
	"encoding/base64"
	"encoding/json"
	"path"
	"strings"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/phx"
)

// Events of the topic "console".
const (
	eventConsoleInput   = "dn"
	eventConsoleOutput  = "up"
	eventConsoleSize    = "window_size"
	eventConsoleRestart = "restart"
	eventFileStart      = "file-data/start" // both ways, as the next two
	eventFileData       = "file-data"
	eventFileStop       = "file-data/stop"
)

// handleConsole deals with the topic "console". Nothing but joins and leaves
// is replied to.
func (s *session) handleConsole(m phx.Message) {
	s.mu.Lock()
	current := s.consoleRef
	s.mu.Unlock()
	switch {
	case m.Event == phx.EventJoin:
		s.joinConsole(m)
		return
	case stale(m, current):
		s.g.metrics.ignore("stale")
		return
	}
	switch m.Event {
	case phx.EventLeave:
		if m.Ref != "" {
			s.mu.Lock()
			s.consoleRef = ""
			s.mu.Unlock()
			s.g.terminals.withdraw(s, fleet.TerminalConsole)
			s.left(m, current)
		}
	case eventConsoleOutput:
		s.g.metrics.message("console")
		var p struct {
			Data *string `json:"data"`
		}
		if json.Unmarshal(m.Payload, &p) != nil || p.Data == nil {
			s.g.metrics.ignore("payload")
			return
		}
		s.g.terminals.output(s, fleet.TerminalConsole, *p.Data)
	case eventFileStart, eventFileData, eventFileStop:
		s.g.metrics.message("file")
		s.fileFromDevice(m)
	default:
		s.g.metrics.ignore("event")
	}
}

// joinConsole takes note that the device has a console. It starts only when
// somebody types.
func (s *session) joinConsole(m phx.Message) {
	s.g.metrics.message(m.Event)
	if m.Ref == "" {
		s.g.metrics.ignore("event")
		return
	}
	var params map[string]json.RawMessage
	_ = json.Unmarshal(m.Payload, &params) // what is no object tells nothing
	s.say(phx.AppendJoinReply(nil, m.Ref, phx.TopicConsole, phx.StatusOK, nil))
	s.mu.Lock()
	if !s.closing {
		s.consoleRef = m.Ref
	}
	s.files = parseVersion(text(params["console_version"], maxField)) >= consoleFiles
	s.mu.Unlock()
	s.typeConnectingCode()
	s.g.terminals.offer(s, fleet.TerminalConsole)
}

// console returns the reference of the console's join, "" if the device has
// not joined it, and whether it takes files.
func (s *session) console() (ref string, files bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.consoleRef, s.files
}

// fileFromDevice offers a file that the device sends to those who look.
func (s *session) fileFromDevice(m phx.Message) {
	var p struct {
		Name  string `json:"filename"`
		Chunk int    `json:"chunk"`
		Data  string `json:"data"`
	}
	if json.Unmarshal(m.Payload, &p) != nil {
		s.g.metrics.ignore("payload")
		return
	}
	// The name is the device's word: it must not reach another directory.
	name := clean(path.Base(strings.ReplaceAll(p.Name, `\`, "/")), maxField)
	if name == "." || name == "/" || name == ".." || name == "" {
		s.g.metrics.ignore("payload")
		return
	}
	o := fleet.TerminalOutput{Name: name}
	switch m.Event {
	case eventFileStart:
		o.Op = fleet.TerminalFileStart
	case eventFileStop:
		o.Op = fleet.TerminalFileStop
	default:
		raw, err := base64.StdEncoding.DecodeString(p.Data)
		if err != nil {
			s.g.metrics.ignore("payload")
			return
		}
		o.Op, o.Chunk, o.Data = fleet.TerminalFileData, p.Chunk, p.Data
		s.g.terminals.file(s, o, len(raw))
		return
	}
	s.g.terminals.file(s, o, 0)
}
