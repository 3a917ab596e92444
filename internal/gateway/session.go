package gateway

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"
	"github.com/google/uuid"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/phx"
)

// Codes of close frames that devices see.
const (
	closeNormal   = 1000
	closeAway     = 1001 // a newer connection, or an operator
	closeProtocol = 1002 // also silence
	closeInvalid  = 1007 // not UTF-8, not JSON, not MessagePack, not a message
	closeTooBig   = 1009
	closeRestart  = 1012
)

// youth is how long a connection is new. A device that has not spoken on a new
// connection may not survive a frame, not even one that closes it.
const youth = 5 * time.Second

// session is one connection of one device. There are as many as devices, so
// it is small and owns nothing that costs while idle.
type session struct {
	g    *Gateway
	conn net.Conn

	deviceID, orgID, productID int64
	identifier                 string
	uuid                       uuid.UUID // of the connection
	address                    string
	opened                     int64 // Unix microseconds

	group     atomic.Int64  // its deployment group; 0: none
	heard     atomic.Int64  // Unix seconds of the latest frame
	healthDue atomic.Uint32 // Unix seconds when its health is to be asked for; 0: never
	geoDue    atomic.Uint32 // the same for its place
	spoken    atomic.Bool

	serializer phx.Serializer

	// Of the reader, and of whom it waits for.
	head      [2]byte // of the frame that is being read
	refresh   int64   // Unix seconds when the time last seen is to be written
	arrival   int64   // Unix nanoseconds by which frames so far are allowed
	reports   budget
	logs      budget
	validated bool // the device said so since it connected

	mu      sync.Mutex
	writing bool       // somebody writes to the connection
	closing bool       // no frames are taken any more
	rival   bool       // it was alive when it was displaced
	queue   []outgoing // frames that wait for it
	queued  int        // bytes in queue
	reason  string     // why it is closing
	status  fleet.ConnectionStatus
	network string // wifi, ethernet, cellular, unknown, "" if not told

	// References of joins; "" while a topic is not joined.
	joinRef, consoleRef, extensionsRef string

	code       string  // to run when the device has joined, or to type when its console has
	archive    uint64  // digest of the archive it was last told of; 0: none
	api        version // of the device API; 0 before it joined
	identifies bool    // it knows that event
	files      bool    // its console takes files
	archives   bool    // it may have archives: its updates are on, and it is not in the penalty box
	ungrouped  bool    // it joined without a deployment group, and is new in none since

	extensions extensionState
}

func (g *Gateway) newSession(conn net.Conn, d fleet.Device, address string, serializer phx.Serializer) *session {
	now := g.clock.Now()
	id, err := uuid.NewV7()
	if err != nil {
		id = uuid.New() // which never fails; its order in time is not relied on
	}
	s := &session{
		g: g, conn: conn,
		deviceID: d.ID, orgID: d.OrgID, productID: d.ProductID, identifier: d.Identifier,
		uuid: id, address: address, serializer: serializer, opened: now.UnixMicro(), status: fleet.Connecting,
		code: d.ConnectingCode, archives: d.UpdatesEnabled && !d.Blocked(now), extensions: extensionState{off: d.ExtensionsOff},
	}
	s.group.Store(d.GroupID)
	s.heard.Store(now.Unix())
	s.refresh = nextRefresh(now)
	return s
}

// open makes s the device's session, and ends the one before.
func (s *session) open() {
	if before := s.g.registry.add(s); before != nil {
		before.displace()
	}
	s.g.writer.note(s, note{opened: true, presence: true})
}

// end forgets the session. Only if it was still the device's, the device is
// gone now.
func (s *session) end(reason string) {
	_ = s.conn.Close() // it may have been closed by whoever lost patience
	s.mu.Lock()
	s.closing, s.queue = true, nil
	s.joinRef, s.consoleRef, s.extensionsRef = "", "", ""
	s.healthDue.Store(0)
	s.geoDue.Store(0)
	s.status = fleet.Disconnected
	if s.reason == "" {
		s.reason = reason
	}
	s.mu.Unlock()
	s.g.terminals.leave(s)
	s.remember()
	if s.g.registry.remove(s) {
		s.g.writer.note(s, note{presence: true, urgent: true, report: &fleet.DeviceReport{Kind: fleet.ReportDisconnected}})
	}
}

// connection is the session as it is stored.
func (s *session) connection(now time.Time) fleet.Connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := fleet.Connection{
		DeviceID: s.deviceID, OrgID: s.orgID, ProductID: s.productID, UUID: s.uuid.String(), Node: s.g.node, Status: s.status, Address: s.address,
		EstablishedAt: time.UnixMicro(s.opened).UTC(), LastSeenAt: time.Unix(s.heard.Load(), 0).UTC(), NetworkInterface: s.network,
	}
	if s.status == fleet.Disconnected {
		c.DisconnectedAt, c.Reason = now, s.reason
	}
	return c
}

// setStatus changes the status, unless the session is ending.
func (s *session) setStatus(status fleet.ConnectionStatus, joinRef string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.status, s.joinRef = status, joinRef
	}
}

// currentJoin returns the reference of the device topic's join, "" when it is
// not joined.
func (s *session) currentJoin() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.joinRef
}

// close says goodbye and hangs up. It does not wait. The first reason counts.
func (s *session) close(code ws.StatusCode, reason string) {
	age := s.g.clock.Now().Sub(time.UnixMicro(s.opened))
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return
	}
	s.closing, s.reason = true, reason
	s.g.metrics.closes.WithLabelValues(codeLabel(code)).Inc()
	if !s.spoken.Load() && age < youth {
		s.mu.Unlock()
		_ = s.conn.Close() // the reader notices
		return
	}
	s.append(outgoing{frame: compile(ws.NewCloseFrame(ws.NewCloseFrameBody(code, "")))})
	start := !s.writing
	s.writing = true
	s.mu.Unlock()
	if start {
		s.g.flush(s)
	}
}

// cut hangs up without a word.
func (s *session) cut() {
	s.mu.Lock()
	s.closing = true
	if s.reason == "" {
		s.reason = "the server stops"
	}
	s.mu.Unlock()
	_ = s.conn.Close()
}
