package phx

import (
	"errors"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// joinedClient returns a client whose topic device is joined with reference 1.
func joinedClient(t *testing.T) *Client {
	t.Helper()
	c := NewClient(0, start)
	frame, err := c.AppendJoin(nil, TopicDevice, []byte(`{"a":1}`))
	if err != nil || string(frame) != `["1","1","device","phx_join",{"a":1}]` {
		t.Fatalf("join: %s, %v", frame, err)
	}
	receive(t, c, `["1","1","device","phx_reply",{"status":"ok","response":{}}]`, Joined)
	return c
}

func receive(t *testing.T, c *Client, frame string, want InboundKind) Inbound {
	t.Helper()
	in, err := c.Receive([]byte(frame))
	if err != nil {
		t.Fatalf("%s: %v", frame, err)
	}
	if in.Kind != want {
		t.Fatalf("%s: kind %d, want %d", frame, in.Kind, want)
	}
	return in
}

func TestClientClassifies(t *testing.T) {
	for _, tc := range []struct {
		name, frame string
		want        InboundKind
		joined      bool // afterwards
	}{
		{"event", `["1",null,"device","update",{}]`, Event, true},
		{"broadcast", `[null,null,"device","reboot",{}]`, Event, true},
		{"phx_error without reference is an event", `[null,null,"device","phx_error",{}]`, Event, true},
		{"event of an older join", `["0",null,"device","update",{}]`, Ignored, true},
		{"event of a topic never joined", `[null,null,"console","dn",{}]`, Ignored, true},
		{"heartbeat ack", `[null,"5","phoenix","phx_reply",{"status":"ok","response":{}}]`, HeartbeatAck, true},
		{"heartbeat ack with spaces", `[null,"5","phoenix","phx_reply",{"response": { }, "status":"ok"}]`, HeartbeatAck, true},
		{"ack with content is a reply", `[null,"5","phoenix","phx_reply",{"status":"ok","response":{"a":1}}]`, Reply, true},
		{"join result twice", `["1","1","device","phx_reply",{"status":"ok","response":{}}]`, Ignored, true},
		{"join result of another", `["9","9","device","phx_reply",{"status":"error","response":{}}]`, Ignored, true},
		{"reply", `["1","7","device","phx_reply",{"status":"error","response":"detach"}]`, Reply, true},
		{"unmatched topic", `[null,"9","foo","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]`, Reply, true},
		{"strange status", `["1","7","device","phx_reply",{"status":"maybe","response":{}}]`, Ignored, true},
		{"reply without response", `["1","7","device","phx_reply",{"status":"ok"}]`, Ignored, true},
		{"reply that is no object", `["1","7","device","phx_reply",[]]`, Ignored, true},
		{"crash", `["1","1","device","phx_error",{"reason":"channel_crash"}]`, TopicClosed, false},
		{"crash of an older join", `["0","0","device","phx_error",{}]`, Ignored, true},
		{"close", `["1","1","device","phx_close",{}]`, TopicLeft, false},
		{"close of an older join", `["0","0","device","phx_close",{}]`, Ignored, true},
		{"close with content", `["1","1","device","phx_close",{"a":1}]`, Ignored, true},
		{"anything else", `["1","4","device","unknown",{}]`, Ignored, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := joinedClient(t)
			receive(t, c, tc.frame, tc.want)
			if c.IsJoined(TopicDevice) != tc.joined {
				t.Errorf("joined is %v", !tc.joined)
			}
		})
	}
}

func TestClientCountsReferences(t *testing.T) {
	c := joinedClient(t)
	if _, err := c.AppendJoin(nil, TopicDevice, nil); !errors.Is(err, ErrJoining) {
		t.Errorf("second join: %v", err)
	}
	frame, ref, err := c.AppendPush(nil, TopicDevice, EventFwupProgress, []byte(`{"value":1}`))
	if err != nil || ref != "2" || string(frame) != `["1","2","device","fwup_progress",{"value":1}]` {
		t.Errorf("push: %s, %s, %v", frame, ref, err)
	}
	if frame, _, err := c.AppendPush(nil, TopicConsole, "up", nil); !errors.Is(err, ErrNotJoined) || len(frame) > 0 {
		t.Errorf("push without join: %s, %v", frame, err)
	}
	if _, err := c.AppendJoin(nil, TopicConsole, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.AppendPush(nil, TopicConsole, "up", nil); !errors.Is(err, ErrNotJoined) {
		t.Errorf("push before the join is accepted: %v", err)
	}
}

func TestClientRefusedJoinCanBeTriedAgain(t *testing.T) {
	c := NewClient(0, start)
	if _, err := c.AppendJoin(nil, TopicDevice, nil); err != nil {
		t.Fatal(err)
	}
	in := receive(t, c, `["1","1","device","phx_reply",{"status":"error","response":{"error":"could not connect"}}]`, JoinFailed)
	if in.Status != StatusError || string(in.Response) != `{"error":"could not connect"}` {
		t.Errorf("status %q, response %s", in.Status, in.Response)
	}
	frame, err := c.AppendJoin(nil, TopicDevice, nil)
	if err != nil || string(frame) != `["2","2","device","phx_join",{}]` {
		t.Errorf("%s, %v", frame, err)
	}
}

func TestClientHeartbeat(t *testing.T) {
	c := NewClient(10*time.Second, start)
	if due := c.HeartbeatDue(); !due.Equal(start.Add(10 * time.Second)) {
		t.Errorf("due %v", due)
	}
	frame, err := c.AppendHeartbeat(nil, c.HeartbeatDue())
	if err != nil || string(frame) != `[null,"1","phoenix","heartbeat",{}]` {
		t.Fatalf("%s, %v", frame, err)
	}
	receive(t, c, `[null,"1","phoenix","phx_reply",{"status":"ok","response":{}}]`, HeartbeatAck)
	if _, err := c.AppendHeartbeat(nil, c.HeartbeatDue()); err != nil {
		t.Fatal(err)
	}
	if frame, err := c.AppendHeartbeat(nil, c.HeartbeatDue()); !errors.Is(err, ErrHeartbeatLost) || len(frame) > 0 {
		t.Errorf("unacknowledged: %s, %v", frame, err)
	}
}

func TestClientSurvivesBadFrames(t *testing.T) {
	c := joinedClient(t)
	if _, err := c.Receive([]byte(`nonsense`)); kindOf(err) != KindEnvelope {
		t.Errorf("got %v", err)
	}
	if !c.IsJoined(TopicDevice) {
		t.Error("a bad frame changed the state")
	}
}
