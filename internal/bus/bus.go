package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/ganglion-iot/ganglion/fleet"
)

// Limits of the bus.
const (
	// MaxMessage is the largest message of the embedded server, in bytes. An
	// update for firmware of 4 GiB with its part checksums has about 300 KB.
	MaxMessage = 4 << 20

	// pendingMessages and pendingBytes bound what one subscription may have
	// waiting for its handler. Beyond them NATS drops messages and says so.
	pendingMessages = 1 << 20
	pendingBytes    = 256 << 20

	startTimeout = 5 * time.Second
	drainTimeout = 5 * time.Second
)

// Options say which NATS to use.
type Options struct {
	URL    string // "" runs a server in this process; else nats://host:port, several separated by commas
	Logger *slog.Logger
}

// Bus is a connection to NATS, and the server itself when it is embedded. Its
// methods may be called from many goroutines.
type Bus struct {
	conn   *nats.Conn
	server *server.Server // nil on an outside cluster
	closed chan struct{}
	log    *slog.Logger
}

// Open connects to the cluster at o.URL, or starts the embedded server. It
// fails with fleet.Unavailable when no server answers.
func Open(ctx context.Context, o Options) (*Bus, error) {
	b := &Bus{closed: make(chan struct{}), log: o.Logger}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	opts := []nats.Option{
		nats.Name("ganglion"),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(500 * time.Millisecond),
		nats.DrainTimeout(drainTimeout),
		nats.ErrorHandler(b.onError),
		nats.ClosedHandler(func(*nats.Conn) { close(b.closed) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				b.log.Warn("bus disconnected", "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { b.log.Info("bus reconnected") }),
	}
	if deadline, ok := ctx.Deadline(); ok {
		opts = append(opts, nats.Timeout(time.Until(deadline)))
	}
	target := o.URL
	if target == "" {
		srv, err := startEmbedded()
		if err != nil {
			return nil, err
		}
		b.server = srv
		opts = append(opts, nats.InProcessServer(srv))
	}
	conn, err := nats.Connect(target, opts...)
	if err != nil {
		b.stopServer()
		return nil, fleet.Errorf(fleet.Unavailable, "no NATS server answers at %s: %w", redact(target), err)
	}
	b.conn = conn
	return b, nil
}

func startEmbedded() (*server.Server, error) {
	srv, err := server.NewServer(&server.Options{
		ServerName: "ganglion",
		DontListen: true,
		NoSigs:     true,
		NoLog:      true,
		MaxPayload: MaxMessage,
		MaxPending: pendingBytes,
	})
	if err != nil {
		return nil, fmt.Errorf("embedded NATS server: %w", err)
	}
	srv.Start()
	if !srv.ReadyForConnections(startTimeout) {
		srv.Shutdown()
		return nil, fleet.Errorf(fleet.Unavailable, "the embedded NATS server was not ready within %s", startTimeout)
	}
	return srv, nil
}

// redact returns the server list without passwords and tokens.
func redact(servers string) string {
	list := strings.Split(servers, ",")
	for i, s := range list {
		if u, err := url.Parse(strings.TrimSpace(s)); err == nil && u.Host != "" {
			list[i] = u.Host
		} else {
			list[i] = "an unreadable address"
		}
	}
	return strings.Join(list, ", ")
}

func (b *Bus) onError(_ *nats.Conn, sub *nats.Subscription, err error) {
	subject := ""
	if sub != nil {
		subject = sub.Subject
	}
	b.log.Error("bus", "error", err, "subject", subject)
}

// Ping asks the server for an answer and waits for it.
func (b *Bus) Ping(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, startTimeout)
		defer cancel()
	}
	if err := b.conn.FlushWithContext(ctx); err != nil {
		return fleet.Errorf(fleet.Unavailable, "the message bus does not answer: %w", err)
	}
	return nil
}

// Close lets the handlers finish what has arrived, sends what was published
// and stops the embedded server. Calling it again does nothing.
func (b *Bus) Close() error {
	err := b.conn.Drain()
	if errors.Is(err, nats.ErrConnectionClosed) {
		err = nil
	} else if err != nil {
		b.conn.Close()
	}
	<-b.closed
	b.stopServer()
	if err != nil {
		return fmt.Errorf("drain the message bus: %w", err)
	}
	return nil
}

func (b *Bus) stopServer() {
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
}
