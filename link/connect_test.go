package link

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestConfigureChangesTheOptions(t *testing.T) {
	calls := 0
	r := newRig(t, func(r *rig) {
		good := r.options
		r.options = Options{Logger: quiet(), Configure: func(_ context.Context, o *Options) error {
			calls++
			*o = good
			o.Header = http.Header{"X-Board": {"7"}}
			return nil
		}}
	})
	c := r.start()
	c.join()
	if got := c.request.Header.Get("X-Board"); got != "7" {
		t.Errorf("X-Board is %q", got)
	}
	_ = c.ws.Close(1001, "")
	r.connection().join()
	if r.stop(); !errors.Is(await(t, "the end", r.done), context.Canceled) || calls != 1 {
		t.Errorf("asked %d times", calls)
	}
}

func TestConfigureFails(t *testing.T) {
	broken := errors.New("the chip is silent")
	for name, c := range map[string]struct {
		configure func(context.Context, *Options) error
		want      string
	}{
		"error":   {func(context.Context, *Options) error { return broken }, "link: configure: the chip is silent"},
		"invalid": {func(_ context.Context, o *Options) error { o.Identifier = ""; return nil }, "link: identifier"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(r *rig) { r.options.Configure = c.configure })
			r.run()
			if err := await(t, "the end", r.done); err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("Run returned %v", err)
			}
			if len(r.peer.conns) > 0 {
				t.Error("connected")
			}
		})
	}
}

func TestStaysOfflineUntilConnect(t *testing.T) {
	r := newRig(t, func(r *rig) {
		setVars(t, r.image, map[string]string{"a.nerves_fw_validated": "0"})
		r.client.reboot = func() error { return errors.New("not now") }
		r.options.StayOffline, r.options.ValidateWithin = true, 20*time.Millisecond
	})
	l, err := New(r.options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	// What falls back does so without a connection: so much of Run is at work.
	await(t, "a reboot", r.client.rebooted)
	if len(r.peer.conns) > 0 {
		t.Error("connected by itself")
	}
	if _, set := l.Alarms().Current()[AlarmDisconnected]; !set {
		t.Error("no alarm while offline")
	}
	l.Connect()
	l.Connect()
	r.connection().join()
	cancel()
	if err := await(t, "the end", done); !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
}

// TestConnectCutsAPauseShort: with an hour to the next try, Connect tries now.
func TestConnectCutsAPauseShort(t *testing.T) {
	attempts := make(chan int, 16)
	errs := make(chan error, 16)
	var refuse bool
	r := newRig(t, func(r *rig) {
		r.peer.before = func(w http.ResponseWriter, _ *http.Request) bool {
			if refuse {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return refuse
		}
		r.options.BackoffFunc = func(attempt int) time.Duration { attempts <- attempt; return time.Hour }
		r.options.OnError = func(err error) { errs <- err }
	})
	refuse = true
	l, err := New(r.options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	defer func() { cancel(); await(t, "the end", done) }()
	for want := range 3 {
		if got := await(t, "a failure", attempts); got != want {
			t.Errorf("attempt %d, want %d", got, want)
		}
		var refused *RefusedError
		if err := await(t, "an error", errs); !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable {
			t.Errorf("told %v", err)
		}
		// The hook is called just before the pause begins: an earlier Connect
		// would be forgotten.
		for len(attempts) == 0 && want < 2 {
			l.Connect()
			select {
			case a := <-attempts:
				attempts <- a
			case <-time.After(time.Millisecond):
			}
		}
	}
}

func TestBackoffHook(t *testing.T) {
	b := backoff{base: DefaultBackoff, custom: func(attempt int) time.Duration { return time.Duration(attempt) * time.Second }}
	for round := range 2 {
		for i := range 3 {
			if got, want := b.next(), max(time.Duration(i)*time.Second, leastPause); got != want {
				t.Errorf("round %d: pause %d is %s, want %s", round, i, got, want)
			}
		}
		b.reset()
	}
}

func TestRetryAfterOfARefusal(t *testing.T) {
	for asks, want := range map[time.Duration]time.Duration{0: 0, time.Minute: time.Minute, time.Hour: maxAsked} {
		if got := asked(explain(&RefusedError{Status: 503, RetryAfter: asks}, circumstances{})); got != want {
			t.Errorf("%s: %s, want %s", asks, got, want)
		}
	}
	if got := asked(errTopicLeft); got != 0 {
		t.Errorf("nothing asked for, waits %s", got)
	}
}

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"0": 0, "30": 30 * time.Second, "86400": maxRetryAfter, "99999999999999": maxRetryAfter,
		"Fri, 01 May 2026 12:01:00 GMT": time.Minute, "Fri, 01 May 2026 11:00:00 GMT": 0, "Fri, 01 May 2037 11:00:00 GMT": maxRetryAfter,
	} {
		if got, ok := parseRetryAfter(text, now); !ok || got != want {
			t.Errorf("%q: %s, %v, want %s", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "-1", "soon", "1.5", "1s"} {
		if got, ok := parseRetryAfter(text, now); ok {
			t.Errorf("%q: %s", text, got)
		}
	}
}

func FuzzParseRetryAfter(f *testing.F) {
	f.Add("30")
	f.Add("Fri, 01 May 2026 12:01:00 GMT")
	f.Fuzz(func(t *testing.T, text string) {
		if d, ok := parseRetryAfter(text, time.Unix(1e9, 0)); d < 0 || d > maxRetryAfter || !ok && d != 0 {
			t.Fatalf("%s, %v", d, ok)
		}
	})
}

// TestTLSOptions: the server name and the versions of the base configuration
// hold, and the chain is sent whole.
func TestTLSOptions(t *testing.T) {
	a := newAuthority(t, "authority")
	hellos := make(chan *tls.ClientHelloInfo, 8)
	r := newRig(t, nil)
	p := newTLSPeer(t, a.issue(t, "server", nil), func(c *tls.Config) {
		c.MinVersion = tls.VersionTLS12
		c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) { hellos <- h; return nil, nil }
	})
	r.options.Host = p.URL
	r.options.TLS = &tls.Config{RootCAs: a.pool(), ServerName: "localhost", MaxVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1", "x-nh"}}
	r.run()
	c := await(t, "a connection", p.conns)
	c.join()
	hello := await(t, "a hello", hellos)
	if hello.ServerName != "localhost" || len(hello.SupportedProtos) != 2 || c.request.TLS.Version != tls.VersionTLS12 {
		t.Errorf("asked for %q by %v, version %x", hello.ServerName, hello.SupportedProtos, c.request.TLS.Version)
	}
}

// TestCompression: messages are compressed if both sides want it, and only
// then.
func TestCompression(t *testing.T) {
	for _, wanted := range []bool{true, false} {
		t.Run(strconv.FormatBool(wanted), func(t *testing.T) {
			r := newRig(t, func(r *rig) { r.options.Compression = wanted })
			c := r.start()
			c.join()
			if offer := c.request.Header.Get("Sec-WebSocket-Extensions"); strings.Contains(offer, "permessage-deflate") != wanted {
				t.Errorf("offers %q", offer)
			}
			c.send(`[null,null,"device","identify",{"padding":"` + strings.Repeat("compress me ", 500) + `"}]`)
			await(t, "the order", r.client.identified)
		})
	}
}
