package gateway

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/phx"
)

// refConnectingCode is the reference of code that runs when a device connects.
const refConnectingCode = "connecting_code"

// groupingTime is how long after its connection a device that had no
// deployment group runs the connecting code of its first one.
const groupingTime = time.Minute

// runScripts has devices run a script. One that is too old to be asked has it
// typed into its console.
func (g *Gateway) runScripts(m fleet.DeviceMessage) {
	var r control.ScriptRequest
	if err := json.Unmarshal(m.Payload, &r); err != nil {
		g.log.Error("a script is not readable", "error", err)
		return
	}
	for _, id := range m.Devices {
		problem := "it is not connected"
		if s := g.registry.get(id); s != nil {
			problem = s.runScript(r)
		}
		if problem != "" {
			g.answerScript(fleet.ScriptAnswer{DeviceID: id, Ref: r.Ref, Problem: problem})
		}
	}
}

// runScript says why the device can not, "" if it was asked.
func (s *session) runScript(r control.ScriptRequest) (problem string) {
	s.mu.Lock()
	joinRef, console, asks := s.joinRef, s.consoleRef, s.understands(phx.EventScriptsRun)
	s.mu.Unlock()
	switch {
	case joinRef == "":
		return "it is not connected"
	case asks:
		s.tell(phx.AppendPush(nil, joinRef, phx.TopicDevice, phx.EventScriptsRun, marshal(r)))
		s.g.metrics.pushes.Inc()
		return ""
	case console == "":
		return "it is too old to be asked, and has no console to type into"
	}
	return s.g.terminals.typeScript(s, r)
}

func (g *Gateway) answerScript(a fleet.ScriptAnswer) {
	if err := g.bus.AnswerScript(a); err != nil {
		g.log.Warn("the result of a script was not passed on", "device", a.DeviceID, "error", err)
	}
}

// scriptAnswer passes on what a script did. Whoever asked knows the reference;
// of an answer that comes late or twice nobody hears.
func (s *session) scriptAnswer(m phx.Message) {
	s.g.metrics.message(m.Event)
	var p struct {
		Ref    string          `json:"ref"`
		Output json.RawMessage `json:"output"`
		Return json.RawMessage `json:"return"`
		Result json.RawMessage `json:"result"`
		Reason json.RawMessage `json:"reason"`
	}
	if json.Unmarshal(m.Payload, &p) != nil || p.Ref == "" || len(p.Ref) > maxField {
		s.g.metrics.ignore("payload")
		return
	}
	r := fleet.ScriptResult{
		Return: text(p.Return, maxMessage), Result: text(p.Result, maxField), Reason: text(p.Reason, maxReason),
	}
	output := text(p.Output, maxMessage)
	if p.Ref == refConnectingCode {
		s.connectingCodeRan(r, output)
		return
	}
	r.Output = strings.TrimSpace(output + "\n" + r.Return)
	if err := s.g.bus.AnswerScript(fleet.ScriptAnswer{DeviceID: s.deviceID, Ref: p.Ref, Result: r}); err != nil {
		s.g.metrics.ignore("payload") // no reference of ours
	}
}

// connectingCode runs the code of the device's group and its own, if there is
// any. Devices that are too old to be asked have it typed when their console
// is there.
func (s *session) connectingCode(joinRef string) {
	group := s.group.Load()
	code := s.groupCode(group)
	s.mu.Lock()
	if s.code != "" && code != "" {
		code += "\n"
	}
	code += s.code
	s.code = ""
	s.ungrouped = group == 0
	asks := s.understands(phx.EventScriptsRun)
	if !asks {
		s.code = code
	}
	s.mu.Unlock()
	if code == "" {
		return
	}
	if !asks {
		s.typeConnectingCode()
		return
	}
	s.sendConnectingCode(joinRef, code)
}

func (s *session) sendConnectingCode(joinRef, code string) {
	s.tell(phx.AppendPush(nil, joinRef, phx.TopicDevice, phx.EventScriptsRun, marshal(map[string]string{"text": code, "ref": refConnectingCode})))
}

func (s *session) groupCode(group int64) string {
	ctx, cancel := context.WithTimeout(context.Background(), settingsTimeout)
	defer cancel()
	code, err := s.g.control.GroupConnectingCode(ctx, s.orgID, group)
	if err != nil {
		s.g.log.Error("the connecting code of a group was not read", "device", s.identifier, "group", group, "error", err)
	}
	return code
}

// typeConnectingCode types what waits for the console of an old device.
func (s *session) typeConnectingCode() {
	s.mu.Lock()
	ref, code := s.consoleRef, s.code
	ready := ref != "" && s.joinRef != "" && code != "" && s.api != 0
	if ready {
		s.code = ""
	}
	s.mu.Unlock()
	if ready {
		s.tell(phx.AppendPush(nil, ref, phx.TopicConsole, eventConsoleInput, marshal(map[string]string{"data": code + "\r"})))
	}
}

// connectingCodeRan takes down how it went, for the log and the numbers.
func (s *session) connectingCodeRan(r fleet.ScriptResult, output string) {
	if r.Result == "error" || r.Return == "nil" {
		s.g.metrics.connectingCode.WithLabelValues("failed").Inc()
		s.g.log.Warn("connecting code failed", "device", s.identifier, "reason", r.Reason, "output", clean(output, maxReason))
		return
	}
	s.g.metrics.connectingCode.WithLabelValues("completed").Inc()
	s.g.log.Debug("connecting code ran", "device", s.identifier, "return", clean(r.Return, maxReason))
}

// joinedGroup takes note of the device's deployment group. A device that has
// just connected for the first time gets its group only then, and runs the
// group's code late.
func (s *session) joinedGroup(group int64) {
	young := s.g.clock.Now().Sub(time.UnixMicro(s.opened)) < groupingTime
	s.group.Store(group)
	s.mu.Lock()
	joinRef := s.joinRef
	run := s.ungrouped && young && group != 0 && joinRef != ""
	s.ungrouped = s.ungrouped && group == 0
	asks := s.understands(phx.EventScriptsRun)
	s.mu.Unlock()
	if !run {
		return
	}
	code := s.groupCode(group)
	switch {
	case code == "":
	case asks:
		s.sendConnectingCode(joinRef, code)
	default:
		s.mu.Lock()
		s.code = code
		s.mu.Unlock()
		s.typeConnectingCode()
	}
}
