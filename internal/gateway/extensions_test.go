package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// extend sets what is switched on for the product.
func (p *platform) extend(list ...fleet.Extension) {
	p.t.Helper()
	var on fleet.ExtensionSet
	for _, e := range list {
		on = on.With(e)
	}
	_, err := p.control.UpdateProduct(p.t.Context(), p.scope, "thermostat", fleet.ProductUpdate{Extensions: &on})
	must(p.t, err)
}

// except sets what is switched off for a device.
func (p *platform) except(identifier string, list ...fleet.Extension) {
	p.t.Helper()
	var off fleet.ExtensionSet
	for _, e := range list {
		off = off.With(e)
	}
	_, err := p.control.UpdateDevice(p.t.Context(), p.scope, "thermostat", identifier, fleet.DeviceUpdate{ExtensionsOff: &off})
	must(p.t, err)
}

// connected dials and joins, and waits until that is stored.
func (p *platform) connected(identifier, more string) *client {
	p.t.Helper()
	c := p.dial(identifier)
	c.join(more)
	p.report(fleet.ReportJoined, p.device(identifier).ID)
	return c
}

// extensions joins the topic with an offer, and expects an answer.
func (c *client) extensions(offer, want string) {
	c.t.Helper()
	c.text(`["5","5","extensions","phx_join",%s]`, offer)
	c.expect(`["5","5","extensions","phx_reply",{"status":"ok","response":` + want + `}]`)
}

func (c *client) pushed(topic, event, payload string) {
	c.t.Helper()
	ref := map[string]string{"extensions": "5", "console": "6", "device": "1"}[topic]
	c.expect(fmt.Sprintf(`[%q,null,%q,%q,%s]`, ref, topic, event, payload))
}

func TestExtensionsOffered(t *testing.T) {
	p := start(t, nil)
	p.extend(fleet.ExtensionHealth, fleet.ExtensionGeo, fleet.ExtensionLogging)
	p.connected("sn-off", "")
	p.except("sn-off", fleet.ExtensionGeo)
	for _, tc := range []struct{ name, device, offer, want string }{
		{"all that is on", "sn-1", `{"health":"0.0.1","geo":"0.0.1","local_shell":"0.0.1","network_identity":"0.0.1"}`, `["health","geo"]`},
		{"later patches", "sn-1", `{"health":"0.0.12","geo":"0.0.2-rc.1","logging":"0.0.1+5"}`, `["health","geo","logging"]`},
		{"other versions", "sn-1", `{"health":"0.1.0","geo":"0.0.0","logging":"1.0.0"}`, `[]`},
		{"before the first", "sn-1", `{"health":"0.0.1-rc.1","geo":"0.0.0-rc.1"}`, `[]`},
		{"not a version", "sn-1", `{"health":"new","geo":"","logging":"0.0"}`, `[]`},
		{"not even text", "sn-1", `{"health":1,"geo":null,"logging":{"version":"0.0.1"}}`, `[]`},
		{"unknown names", "sn-1", `{"telepathy":"0.0.1","health":"0.0.1"}`, `["health"]`},
		{"nothing", "sn-1", `{}`, `[]`},
		{"a list", "sn-1", `["health"]`, `[]`},
		{"null", "sn-1", `null`, `[]`},
		{"off for the device", "sn-off", `{"health":"0.0.1","geo":"0.0.1"}`, `["health"]`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := p.dial(tc.device)
			c.t = t
			c.join("")
			c.extensions(tc.offer, tc.want)
			c.beat()
		})
	}
}

// TestExtensionsAreAskedForOnce joins the device topic twice before it answers
// the question: a second one would make it join its extensions twice.
func TestExtensionsAreAskedForOnce(t *testing.T) {
	p := start(t, nil)
	c := p.dial("sn-1")
	c.join("")
	c.text(`["2","2","device","phx_join",{%s}]`, facts)
	c.expect(`["2","2","device","phx_reply",{"status":"ok","response":{}}]`)
	c.extensions(`{}`, `[]`)
	c.text(`["3","3","device","phx_join",{%s}]`, facts)
	c.expect(`["3","3","device","phx_reply",{"status":"ok","response":{}}]`)
	c.beat()
}

func TestExtensionEvents(t *testing.T) {
	p := start(t, nil)
	p.extend(fleet.ExtensionHealth, fleet.ExtensionGeo, fleet.ExtensionNetworkIdentity, fleet.ExtensionLocalShell)
	c := p.connected("sn-1", "")
	detached := func(ref, event string) {
		t.Helper()
		c.text(`["5",%q,"extensions",%q,{}]`, ref, event)
		c.expect(fmt.Sprintf(`["5",%q,"extensions","phx_reply",{"status":"error","response":"detach"}]`, ref))
	}
	silent := func(text string) {
		t.Helper()
		c.text("%s", text)
		c.beat()
	}
	silent(`["5","9","extensions","health:attached",{}]`) // before the join
	c.extensions(`{"health":"0.0.1","geo":"0.0.1","network_identity":"0.0.1","local_shell":"0.0.1"}`, `["health","geo","local_shell","network_identity"]`)
	silent(`["5","10","extensions","health:report",{"value":{}}]`) // not attached yet
	detached("11", "logging:attached")                             // never offered
	detached("12", "telepathy:attached")
	detached("13", "nonsense")
	silent(`["5",null,"extensions","telepathy:attached",{}]`) // nothing to reply to
	silent(`["4","14","extensions","telepathy:attached",{}]`) // of another join
	for _, tc := range []struct{ name, request string }{
		{"health", "health:check"}, {"geo", "geo:location:request"}, {"network_identity", "network_identity:request"},
	} {
		c.text(`["5","15","extensions",%q,{}]`, tc.name+":attached")
		c.pushed("extensions", tc.request, "{}")
	}
	silent(`[null,"16","extensions","local_shell:attached",{}]`) // nobody wants a shell
	silent(`["5","17","extensions","geo:location:update",{"source":"geoip","latitude":-36.8,"longitude":174.7}]`)
	silent(`["5","18","extensions","geo:error",{"reason":"start_failure"}]`)
	silent(`["5","19","extensions","geo:detached",{}]`)
	silent(`["5","20","extensions","geo:location:update",{"source":"geoip","latitude":1,"longitude":1}]`)

	d := p.device("sn-1")
	must(t, p.control.RequestHealth(t.Context(), p.scope, "thermostat", "sn-1"))
	c.pushed("extensions", "health:check", "{}")
	c.text(`["5","21","extensions","phx_leave",{}]`)
	c.expect(`["5","21","extensions","phx_reply",{"status":"ok","response":{}}]`)
	c.expect(`["5","5","extensions","phx_close",{}]`)
	p.gateway.requestHealth([]int64{d.ID})
	silent(`["5","22","extensions","health:report",{"value":{}}]`)
}

// TestExtensionsSwitchAtOnce switches extensions on and off while a device is
// joined, also one that was not allowed when it connected.
func TestExtensionsSwitchAtOnce(t *testing.T) {
	p := start(t, nil)
	p.extend()
	c := p.connected("sn-1", "")
	c.extensions(`{"health":"0.0.1","geo":"0.0.1"}`, `[]`)
	p.extend(fleet.ExtensionHealth, fleet.ExtensionLogging)
	c.pushed("extensions", "attach", `{"extensions":["health"]}`) // the device has no logging
	c.text(`["5","10","extensions","health:attached",{}]`)
	c.pushed("extensions", "health:check", "{}")
	p.except("sn-1", fleet.ExtensionHealth)
	c.pushed("extensions", "detach", `{"extensions":["health"]}`)
	c.text(`["5","11","extensions","health:report",{"value":{}}]`) // was under way
	c.text(`["5","12","extensions","health:detached",{}]`)
	c.beat()
	// It starts one that was switched off meanwhile.
	c.text(`["5","13","extensions","health:attached",{}]`)
	c.expect(`["5","13","extensions","phx_reply",{"status":"error","response":"detach"}]`)
	p.extend(fleet.ExtensionHealth, fleet.ExtensionGeo)
	c.pushed("extensions", "attach", `{"extensions":["geo"]}`)
	p.except("sn-1")
	c.pushed("extensions", "attach", `{"extensions":["health"]}`)
	p.extend(fleet.ExtensionLogging)
	c.pushed("extensions", "detach", `{"extensions":["health","geo"]}`)
	c.beat()
	// Who joins after the change is answered by it.
	other := p.connected("sn-2", "")
	other.extensions(`{"health":"0.0.1","logging":"0.0.1"}`, `["logging"]`)
}

func TestHealthIsAskedForNowAndThen(t *testing.T) {
	p := start(t, func(o *Options) { o.HealthInterval, o.GeoInterval = 10*time.Minute, 20*time.Minute })
	p.extend(fleet.ExtensionHealth, fleet.ExtensionGeo)
	c := p.connected("sn-1", "")
	c.extensions(`{"health":"0.0.1","geo":"0.0.1"}`, `["health","geo"]`)
	c.text(`["5","10","extensions","health:attached",{}]`)
	c.pushed("extensions", "health:check", "{}")
	c.text(`["5","11","extensions","geo:attached",{}]`)
	c.pushed("extensions", "geo:location:request", "{}")
	// pass lets time go by, a heartbeat at a time, and returns what the device
	// was asked meanwhile.
	pass := func(d time.Duration) (asked []string) {
		t.Helper()
		for step := 2 * time.Minute; d > 0; d -= step {
			p.ahead.Add(int64(min(step, d)))
			asked = append(asked, c.untilBeat()...)
			p.gateway.sweep(p.now())
			asked = append(asked, c.untilBeat()...)
		}
		return asked
	}
	if asked := pass(8 * time.Minute); len(asked) != 0 { // not yet, whatever the jitter
		t.Errorf("asked %v", asked)
	}
	if asked := pass(4 * time.Minute); len(asked) != 1 || !strings.Contains(asked[0], "health:check") {
		t.Errorf("asked %v", asked)
	}
	p.except("sn-1", fleet.ExtensionHealth)
	c.pushed("extensions", "detach", `{"extensions":["health"]}`)
	if asked := pass(11 * time.Minute); len(asked) != 1 || !strings.Contains(asked[0], "geo:location:request") {
		t.Errorf("asked %v", asked)
	}
}

// untilBeat sends a heartbeat, and returns what comes before its answer.
func (c *client) untilBeat() (frames []string) {
	c.t.Helper()
	c.text(`[null,"99","phoenix","heartbeat",{}]`)
	for {
		f, err := c.next()
		must(c.t, err)
		if strings.HasPrefix(string(f.Payload), `[null,"99","phoenix"`) {
			return frames
		}
		frames = append(frames, string(f.Payload))
	}
}
