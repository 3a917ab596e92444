package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/ganglion-iot/ganglion/nh1"
	"github.com/ganglion-iot/ganglion/phx"
)

const (
	dialTimeout  = 30 * time.Second
	writeTimeout = 15 * time.Second
	maxMessage   = 1 << 20 // bytes of one message from the server
)

// session is one connection to the server.
type session struct {
	ctx  context.Context // ends with the connection
	conn *websocket.Conn

	mu     sync.Mutex // guards client and the order of writes
	client *phx.Client
}

// connect runs one connection from the upgrade to its end and tells why it
// ended.
func (l *Link) connect(ctx context.Context, endpoint string, unproven <-chan time.Time) error {
	running, err := l.opts.Slots.Running(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := l.dial(ctx, endpoint)
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	s := &session{ctx: ctx, conn: conn, client: phx.NewClient(l.opts.Heartbeat, time.Now())}
	if err := s.join(l.joinParams(running)); err != nil {
		return err
	}
	defer l.left()
	frames := make(chan []byte)
	ended := make(chan error, 1)
	go func() { ended <- s.read(frames) }()
	return l.serve(ctx, s, running, frames, ended, unproven)
}

// serve handles what happens on a connection until it ends.
func (l *Link) serve(ctx context.Context, s *session, running Running, frames <-chan []byte, ended <-chan error, unproven <-chan time.Time) error {
	heartbeat := time.NewTimer(l.opts.Heartbeat)
	defer heartbeat.Stop()
	rejoin := time.NewTimer(time.Hour)
	rejoin.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			return err
		case frame := <-frames:
			if again := l.receive(ctx, s, running, frame); again {
				rejoin.Reset(l.opts.Rejoin)
			}
		case <-rejoin.C:
			fresh, err := l.opts.Slots.Running(ctx)
			if err != nil {
				return err
			}
			running = fresh
			if err := s.join(l.joinParams(running)); err != nil {
				return err
			}
		case <-heartbeat.C:
			if err := s.beat(); err != nil {
				return err
			}
			heartbeat.Reset(l.opts.Heartbeat)
		case <-l.reboot:
			if err := l.restart(ctx); err != nil {
				return err
			}
		case <-unproven:
			if err := l.giveUpProof(ctx); err != nil {
				return err
			}
		}
	}
}

// receive handles one frame and reports whether the device topic must be
// joined again after a pause.
func (l *Link) receive(ctx context.Context, s *session, running Running, frame []byte) (rejoin bool) {
	s.mu.Lock()
	in, err := s.client.Receive(frame)
	s.mu.Unlock()
	if err != nil {
		l.opts.Logger.Warn("message not understood", "error", err)
		return false
	}
	if in.Message.Topic != phx.TopicDevice {
		return false
	}
	switch in.Kind {
	case phx.Joined:
		l.joined(ctx, s, running)
	case phx.JoinFailed, phx.TopicClosed:
		l.left()
		l.opts.Logger.Warn("the server refused the device topic", "response", string(in.Response))
		return true
	case phx.Event:
		l.event(ctx, s, running, in.Message)
	}
	return false
}

// event handles an order of the server. Events unknown here are ignored.
func (l *Link) event(ctx context.Context, s *session, running Running, m phx.Message) {
	switch m.Event {
	case phx.EventUpdate:
		l.startUpdate(m.Payload, running.Firmware)
	case phx.EventFwupPublicKeys:
		l.setKeys(m.Payload)
	case phx.EventIdentify:
		l.opts.Client.Identify(ctx)
	case phx.EventReboot:
		_ = s.push(phx.EventRebooting, struct{}{}) // a courtesy; the order stands without it
		select {
		case l.reboot <- struct{}{}:
		default:
		}
	}
}

// read passes text frames on until the connection ends.
func (s *session) read(frames chan<- []byte) error {
	for {
		kind, data, err := s.conn.Read(s.ctx)
		if err != nil {
			return fmt.Errorf("connection lost: %w", err)
		}
		if kind != websocket.MessageText {
			continue
		}
		select {
		case frames <- data:
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}

func (s *session) join(params map[string]any) error {
	body, err := json.Marshal(params)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	frame, err := s.client.AppendJoin(nil, phx.TopicDevice, body)
	if err != nil {
		return err
	}
	return s.write(frame)
}

func (s *session) push(event string, payload any) error {
	body, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	frame, _, err := s.client.AppendPush(nil, phx.TopicDevice, event, body)
	if err != nil {
		return err
	}
	return s.write(frame)
}

func (s *session) beat() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	frame, err := s.client.AppendHeartbeat(nil, time.Now())
	if err != nil {
		return err
	}
	return s.write(frame)
}

// write sends a frame; s.mu is held.
func (s *session) write(frame []byte) error {
	ctx, cancel := context.WithTimeout(s.ctx, writeTimeout)
	defer cancel()
	return s.conn.Write(ctx, websocket.MessageText, frame)
}

// dial upgrades. A refusal that carries the server's time teaches a device
// whose clock is behind when to sign for.
func (l *Link) dial(ctx context.Context, endpoint string) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	header := l.opts.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if s := l.opts.Secret; s != nil && l.opts.Certificate == nil {
		for k, v := range nh1.SignNH1(s.Key, s.Secret, l.opts.Identifier, l.opts.Now().Add(l.clock)) {
			header[k] = v
		}
	}
	conn, resp, err := websocket.Dial(ctx, endpoint, &websocket.DialOptions{
		HTTPClient: &http.Client{
			Transport: &http.Transport{
				Proxy:           http.ProxyFromEnvironment,
				DialContext:     (&net.Dialer{Timeout: dialTimeout}).DialContext,
				TLSClientConfig: l.opts.tlsConfig(),
			},
			CheckRedirect: limitRedirects,
		},
		HTTPHeader:      header,
		CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, l.refused(resp, err)
	}
	conn.SetReadLimit(maxMessage)
	return conn, nil
}

// limitRedirects follows two redirects in a row, as devices of the original.
func limitRedirects(_ *http.Request, via []*http.Request) error {
	if len(via) > 2 {
		return errors.New("stopped after two redirects")
	}
	return nil
}

func (l *Link) refused(resp *http.Response, err error) error {
	if resp == nil {
		return err
	}
	if at, perr := http.ParseTime(resp.Header.Get("Date")); perr == nil && resp.StatusCode == http.StatusUnauthorized {
		if ahead := at.Sub(l.opts.Now()); ahead > time.Second {
			l.clock = ahead
		}
	}
	if why := resp.Header.Get("nh-connection-error-reason"); why != "" {
		return fmt.Errorf("refused with status %d: %s", resp.StatusCode, why)
	}
	return fmt.Errorf("refused with status %d: %w", resp.StatusCode, err)
}

// hostPort is the address to connect to.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "443"
		if u.Scheme == "ws" {
			port = "80"
		}
	}
	return net.JoinHostPort(u.Hostname(), port)
}
