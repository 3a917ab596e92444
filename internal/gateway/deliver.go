package gateway

import (
	"encoding/json"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/phx"
)

// eventDisconnect closes the connection instead of telling the device.
const eventDisconnect = "disconnect"

// connectionList may be the payload of a disconnect: then only these
// connections are meant, not whichever the devices have by now.
type connectionList struct {
	Connections []string `json:"connections"`
}

// deliver does what a message says, or passes it on to its devices.
func (g *Gateway) deliver(m fleet.DeviceMessage) {
	switch m.Event {
	case eventDisconnect:
		g.disconnect(m)
	case control.EventExtensions:
		g.switchExtensions(m)
	case control.EventRequestCheck:
		g.requestHealth(m.Devices)
	case control.EventScriptRun:
		g.runScripts(m)
	default:
		g.passOn(m)
	}
}

// passOn pushes a message to those of its devices that are joined here and
// know its event. Who is not joined is told by the rollout engine or an
// operator when it is.
func (g *Gateway) passOn(m fleet.DeviceMessage) {
	text, err := phx.AppendJSON(nil, phx.Message{Topic: phx.TopicDevice, Event: m.Event, Payload: m.Payload})
	if err != nil {
		g.log.Error("a message for devices is not fit for them", "event", m.Event, "error", err)
		return
	}
	frame := textFrame(text)
	var packed []byte // made for the first device that wants it
	sent := 0
	for _, id := range m.Devices {
		s := g.registry.get(id)
		if s == nil || !s.takes(m.Event) {
			continue
		}
		if s.serializer != phx.MessagePack {
			s.push(frame)
			sent++
			continue
		}
		if packed == nil && err == nil {
			if packed, err = packedFrame(text); err != nil {
				g.log.Error("a message is not fit for devices of MessagePack", "event", m.Event, "error", err)
			}
		}
		if packed != nil {
			s.push(packed)
			sent++
		}
	}
	g.metrics.pushes.Add(float64(sent))
}

// takes reports whether the device has joined and knows the event.
func (s *session) takes(event string) bool {
	s.mu.Lock()
	joined := s.joinRef != ""
	knows := s.understands(event)
	s.mu.Unlock()
	if joined && !knows {
		s.g.metrics.ignore("unknown_to_device")
	}
	return joined && knows
}

func (g *Gateway) disconnect(m fleet.DeviceMessage) {
	var only connectionList
	if len(m.Payload) > 0 && json.Unmarshal(m.Payload, &only) != nil {
		g.log.Error("a disconnect is not readable")
		return
	}
	meant := make(map[string]bool, len(only.Connections))
	for _, uuid := range only.Connections {
		meant[uuid] = true
	}
	for _, id := range m.Devices {
		s := g.registry.get(id)
		switch {
		case s == nil:
		case only.Connections == nil:
			s.close(closeAway, "disconnected by the server")
		case meant[s.uuid.String()]:
			s.displace()
		}
	}
}
