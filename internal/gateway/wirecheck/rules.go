package wirecheck

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/ganglion-iot/ganglion/phx"
)

// params are what of a join's says what the device knows.
type params struct {
	API     any `json:"device_api_version"`
	Console any `json:"console_version"`
	Keys    any `json:"fwup_public_keys"`
	Archive any `json:"archive_public_keys"`
	names   map[string]json.RawMessage
}

// topic is what a device joined.
type topic struct {
	ref      string          // "" while it is not joined
	refs     map[string]bool // of all joins that were confirmed
	params   params
	attached map[string]bool // extensions that ever were since the join
	gets     int             // extensions:get since the join of the device
	updates  int             // offered since the join of the device
}

// state is what both sides have said that rules depend on.
type state struct {
	topics     map[string]*topic
	joins      map[string]params // by topic and reference: not answered
	leaves     map[string]bool   // the same for leaves
	left       map[string]bool   // confirmed leaves that are not closed, by topic
	pushes     map[string]bool   // references of pushes on extensions
	heartbeats map[string]int    // not answered
	waiting    bool              // extensions:get was sent, and the join is not confirmed
}

func newState() state {
	return state{
		topics: map[string]*topic{}, joins: map[string]params{}, leaves: map[string]bool{}, left: map[string]bool{},
		pushes: map[string]bool{}, heartbeats: map[string]int{},
	}
}

func (s *state) topic(name string) *topic {
	if s.topics[name] == nil {
		s.topics[name] = &topic{refs: map[string]bool{}, attached: map[string]bool{}}
	}
	return s.topics[name]
}

// heard notes a message of the device.
func (s *state) heard(m message) {
	switch {
	case m.event == phx.EventJoin && m.topic != phx.TopicPhoenix:
		var p params
		_ = json.Unmarshal(m.payload, &p)       // of a wrong type: nothing is known of it
		_ = json.Unmarshal(m.payload, &p.names) // the same
		s.joins[m.topic+" "+m.ref] = p
	case m.event == phx.EventLeave:
		s.leaves[m.topic+" "+m.ref] = true
	case m.topic == phx.TopicPhoenix && m.event == phx.EventHeartbeat:
		s.heartbeats[m.ref]++
	case m.topic == phx.TopicExtensions:
		s.pushes[m.ref] = true
		if name, ok := strings.CutSuffix(m.event, ":attached"); ok {
			s.topic(m.topic).attached[name] = true
		}
	}
}

// judge returns what is wrong with a message of the server, and notes it.
func (s *state) judge(m message) []string {
	switch {
	case m.ref == "" && m.event == phx.EventReply:
		return []string{"a reply without a reference"}
	case m.event == phx.EventReply && m.topic == phx.TopicPhoenix:
		return s.judgeHeartbeat(m)
	case m.event == phx.EventReply:
		return s.judgeReply(m)
	case m.event == phx.EventError:
		if m.ref == "" || m.ref != m.joinRef || m.ref != s.topic(m.topic).ref {
			return []string{"an error of a topic without its current join"}
		}
		s.topic(m.topic).ref = ""
		return nil
	case m.event == phx.EventClose:
		return s.judgeClose(m)
	case m.ref != "":
		return []string{"a push with a reference"}
	}
	return s.judgePush(m)
}

func (s *state) judgeHeartbeat(m message) []string {
	status, response, problem := reply(m.payload)
	switch {
	case problem != "":
		return []string{problem}
	case s.heartbeats[m.ref] == 0:
		return []string{"a reply to no heartbeat"}
	case m.joinRef != "" || status != phx.StatusOK || !isEmpty(response):
		return []string{"a device does not know this as the answer to its heartbeat"}
	}
	s.heartbeats[m.ref]--
	return nil
}

// reply splits the payload of a reply.
func reply(payload []byte) (status string, response []byte, problem string) {
	var parts map[string]json.RawMessage
	if json.Unmarshal(payload, &parts) != nil || len(parts) != 2 || parts["response"] == nil {
		return "", nil, "a reply that is not status and response"
	}
	if json.Unmarshal(parts["status"], &status) != nil || status != phx.StatusOK && status != phx.StatusError {
		return "", nil, "a status that is neither ok nor error"
	}
	return status, parts["response"], ""
}

func (s *state) judgeReply(m message) []string {
	status, response, problem := reply(m.payload)
	key := m.topic + " " + m.ref
	join, joins := s.joins[key]
	switch {
	case problem != "":
		return []string{problem}
	case m.joinRef == "" && !s.leaves[key]:
		return []string{"a reply without the reference of a join"}
	case s.leaves[key]:
		delete(s.leaves, key)
		if status != phx.StatusOK || !isEmpty(response) {
			return []string{"a leave that is not confirmed"}
		}
		s.left[m.topic] = true
		return nil
	case m.ref == m.joinRef && !joins:
		return []string{"a reply to no join, or a second one"}
	case m.ref == m.joinRef:
		delete(s.joins, key)
		return s.joined(m, join, status, response)
	case m.topic == phx.TopicExtensions && status == phx.StatusError && string(response) == `"detach"` && s.pushes[m.ref]:
		delete(s.pushes, m.ref)
		return nil
	}
	return []string{"a reply to a push"}
}

// joined is the answer to a join.
func (s *state) joined(m message, join params, status string, response []byte) []string {
	if status != phx.StatusOK {
		return nil // of any content: the device logs it, and tries again
	}
	var names []string
	switch m.topic {
	case phx.TopicDevice, phx.TopicConsole:
		if !isEmpty(response) {
			return []string{"a join is confirmed with a content, which old devices take for an update"}
		}
	case phx.TopicExtensions:
		if json.Unmarshal(response, &names) != nil || names == nil {
			return []string{"a join of extensions is not answered with a list"}
		}
		for _, n := range names {
			if join.names[n] == nil {
				return []string{"an extension the device does not have: " + n}
			}
		}
		s.waiting = false
	default:
		return []string{"a topic no device knows is joined"}
	}
	t := s.topic(m.topic)
	t.ref, t.params, t.gets, t.updates = m.ref, join, 0, 0
	t.refs[m.ref] = true
	t.attached = map[string]bool{}
	delete(s.left, m.topic)
	return nil
}

func (s *state) judgeClose(m message) []string {
	t := s.topic(m.topic)
	switch {
	case !isEmpty(m.payload):
		return []string{"a close of a topic with a content"}
	case !s.left[m.topic]:
		return []string{"a close of a topic the device did not leave"}
	case m.joinRef != t.ref || m.ref != t.ref:
		return []string{"a close of another join than the current one"}
	}
	t.ref = ""
	delete(s.left, m.topic)
	return nil
}

func (s *state) judgePush(m message) []string {
	t := s.topic(m.topic)
	switch {
	case t.ref == "":
		return []string{"a push on a topic that is not joined"}
	case m.joinRef != "" && !t.refs[m.joinRef]:
		return []string{"a push of a join that was never confirmed"}
	}
	switch m.topic {
	case phx.TopicDevice:
		return s.judgeDevice(t, m)
	case phx.TopicConsole:
		return s.judgeConsole(m)
	case phx.TopicExtensions:
		return s.judgeExtensions(t, m)
	}
	return []string{"a push on a topic no device knows"}
}

// judgeDevice holds an event against the table of releases.
func (s *state) judgeDevice(t *topic, m message) []string {
	api, console := version(t.params.API), version(t.params.Console)
	since := 0
	switch m.event {
	case phx.EventUpdate:
		t.updates++
	case phx.EventReboot:
	case phx.EventFwupPublicKeys:
		if t.params.Keys != "on_connect" {
			return []string{"keys nobody asked for"}
		}
		if t.updates > 0 {
			return []string{"keys after the update they are for"}
		}
	case phx.EventArchivePublicKeys:
		if t.params.Archive != "on_connect" {
			return []string{"keys nobody asked for"}
		}
	case phx.EventArchive:
		since = 200
	case phx.EventIdentify:
		since = 200
		if console >= 200 {
			since = 0
		}
	case phx.EventScriptsRun:
		since = 201
	case phx.EventExtensionsGet:
		since = 202
		t.gets++
		if t.gets > 1 {
			return []string{"extensions are asked for twice in one join"}
		}
		if s.waiting {
			return []string{"extensions are asked for again before they were joined"}
		}
		s.waiting = true
	default:
		return []string{"an event no device knows"}
	}
	if api < since {
		return []string{"an event this version does not know and may not survive"}
	}
	return payloadProblems(m)
}

func (s *state) judgeConsole(m message) []string {
	switch m.event {
	case "dn", "window_size", "restart":
	case "file-data/start", "file-data", "file-data/stop":
		console := version(s.topic(phx.TopicConsole).params.Console)
		if c := version(s.topic(phx.TopicDevice).params.Console); max(c, console) < 200 {
			return []string{"a file for a console that takes none"}
		}
	default:
		return []string{"an event no console knows"}
	}
	return payloadProblems(m)
}

func (s *state) judgeExtensions(t *topic, m message) []string {
	switch m.event {
	case "attach", "detach":
		return attachProblems(t, m)
	case "health:check", "geo:location:request", "network_identity:request", "local_shell:request_shell",
		"local_shell:shell_input", "local_shell:window_size", "local_shell:kill_shell":
	default:
		return []string{"an event no extension knows"}
	}
	if name, _, _ := strings.Cut(m.event, ":"); !t.attached[name] {
		return []string{"a request of an extension that is not attached"}
	}
	return payloadProblems(m)
}

func attachProblems(t *topic, m message) []string {
	var p struct {
		Extensions []string `json:"extensions"`
	}
	if json.Unmarshal(m.payload, &p) != nil || len(p.Extensions) == 0 {
		return []string{"no list of extensions"}
	}
	if i := slices.IndexFunc(p.Extensions, func(n string) bool { return t.params.names[n] == nil }); i >= 0 {
		return []string{"an extension the device does not have: " + p.Extensions[i]}
	}
	return nil
}

// version is 100 times the major number and the minor one. What is not a
// version is 1.0.0.
func version(v any) int {
	s, _ := v.(string)
	parts := strings.Split(s, ".")
	if len(parts) < 3 {
		return 100
	}
	major, err := strconv.Atoi(parts[0])
	if err != nil {
		return 100
	}
	minor, err := strconv.Atoi(parts[1])
	if err != nil || minor > 99 {
		return 100
	}
	return 100*major + minor
}

func isEmpty(b []byte) bool { return bytes.Equal(bytes.TrimSpace(b), []byte("{}")) }
