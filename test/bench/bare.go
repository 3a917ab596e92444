package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/gobwas/ws"

	"github.com/ganglion-iot/ganglion/internal/pki"
)

// bareChild is the counterpart: TLS and a WebSocket upgrade with the listener
// settings of the gateway, and nothing else.
func bareChild(ctx context.Context, data string) error {
	cert, ca, err := pki.LoadOrCreateServerCertificate(filepath.Join(data, "tls"), nil)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b := &bare{}
	server := &http.Server{
		Handler: http.HandlerFunc(b.upgrade), TLSConfig: pki.DeviceTLSConfig(cert),
		TLSNextProto: noHTTP2, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 32 << 10,
	}
	go func() { _ = server.ServeTLS(l, "", "") }() // ends with Close below
	defer server.Close()
	if err := say(hello{Device: l.Addr().String(), CA: ca}); err != nil {
		return err
	}
	return commands(func(words []string) (any, error) {
		switch {
		case words[0] == "rss":
			return residentKiB(true)
		case words[0] == "cpu":
			return cpuSeconds()
		case words[0] == "send" && len(words) == 2:
			n, err := strconv.Atoi(words[1])
			if err != nil {
				return nil, err
			}
			return b.send(n)
		}
		return nil, fmt.Errorf("unknown command %q", words[0])
	})
}

// bare holds the upgraded connections.
type bare struct {
	mu    sync.Mutex
	conns []net.Conn
}

func (b *bare) upgrade(w http.ResponseWriter, r *http.Request) {
	conn, _, _, err := ws.UpgradeHTTP(r, w)
	if err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns = append(b.conns, conn)
}

// send writes one text frame with n bytes to each connection directly.
func (b *bare) send(n int) (sent, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	frame, err := ws.CompileFrame(ws.NewTextFrame(make([]byte, n)))
	if err != nil {
		return sent{}, err
	}
	start := time.Now()
	for _, c := range b.conns {
		if _, err := c.Write(frame); err != nil {
			return sent{}, err
		}
	}
	return sent{Start: start, Bytes: n}, nil
}
