package app

import (
	"context"
	"encoding/binary"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
)

func quietConfig(t *testing.T) Config {
	t.Helper()
	c := DefaultConfig()
	c.Data, c.Listen, c.DeviceListen = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0", "127.0.0.1:0"
	return c
}

func open(t *testing.T, c Config) (*Server, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	return Open(ctx, c, slog.New(slog.DiscardHandler))
}

// TestStartFails takes each part away in turn: the error names it and what is
// wrong, no secret is in it, nothing is left listening, and the same data
// directory serves once the part is there.
func TestStartFails(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	for _, tc := range []struct {
		name string
		part string // the error begins with
		says string // and has in it
		make func(t *testing.T, c *Config)
	}{
		{"data directory is a file", "data directory: ", "not a directory", func(t *testing.T, c *Config) {
			write(t, c.Data, "I was here first")
		}},
		{"data directory below a file", "data directory: ", "not a directory", func(t *testing.T, c *Config) {
			write(t, c.Data, "I was here first")
			c.Data = filepath.Join(c.Data, "data")
		}},
		{"key readable by others", "data directory: ", "chmod 600", func(t *testing.T, c *Config) {
			mkdir(t, c.Data)
			write(t, filepath.Join(c.Data, "instance.key"), "x")
			if err := os.Chmod(filepath.Join(c.Data, "instance.key"), 0o644); err != nil {
				t.Fatal(err)
			}
		}},
		{"key of a wrong form", "data directory: ", "32 bytes", func(_ *testing.T, c *Config) { c.SecretKey = "hush-hush" }},
		{"database is a directory", "database: ", "out of reach", func(t *testing.T, c *Config) {
			mkdir(t, filepath.Join(c.Data, "ganglion.db"))
		}},
		{"database is something else", "database: ", "not a database", func(t *testing.T, c *Config) {
			mkdir(t, c.Data)
			write(t, filepath.Join(c.Data, "ganglion.db"), strings.Repeat("this is no database. ", 100))
		}},
		{"no such kind of database", "database: ", "must begin with", func(_ *testing.T, c *Config) { c.Database = "mysql://localhost/x" }},
		{"PostgreSQL is not there", "database: ", "out of reach", func(_ *testing.T, c *Config) {
			c.Database = "postgres://ganglion:hush-hush@127.0.0.1:1/ganglion"
		}},
		{"PostgreSQL refuses the password", "database: ", "password authentication failed", func(t *testing.T, c *Config) {
			c.Database = "postgres://ganglion:hush-hush@" + refusingPostgres(t) + "/ganglion?sslmode=disable"
		}},
		{"messages are not there", "messages: ", "", func(_ *testing.T, c *Config) { c.NATS = "nats://127.0.0.1:1" }},
		{"firmware directory is a file", "firmware storage: ", "blobs", func(t *testing.T, c *Config) {
			mkdir(t, c.Data)
			write(t, filepath.Join(c.Data, "blobs"), "I was here first")
		}},
		{"S3 is not there", "firmware storage: ", "out of reach", func(_ *testing.T, c *Config) {
			c.S3Endpoint, c.S3Bucket, c.S3AccessKey, c.S3SecretKey, c.S3Insecure = "127.0.0.1:1", "b", "a", "hush-hush", true
		}},
		{"address of the web is taken", "listeners: ", "in use", func(_ *testing.T, c *Config) { c.Listen = taken.Addr().String() }},
		{"address of devices is taken", "listeners: ", "in use", func(_ *testing.T, c *Config) { c.DeviceListen = taken.Addr().String() }},
		{"no certificate of the web", "web: ", "none.pem", func(_ *testing.T, c *Config) { c.TLSCert, c.TLSKey = "none.pem", "none.key" }},
		{"no certificate for devices", "device gateway: ", "none.pem", func(_ *testing.T, c *Config) { c.DeviceTLSCert, c.DeviceTLSKey = "none.pem", "none.key" }},
		{"weak password of the admin", "control plane: ", "password", func(_ *testing.T, c *Config) {
			c.AdminEmail, c.AdminPassword = "a@example.com", "hush-hush"
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			good := quietConfig(t)
			bad := good
			tc.make(t, &bad)
			s, err := open(t, bad)
			if err == nil {
				t.Fatal("the server started", s.Close())
			}
			if text := err.Error(); !strings.HasPrefix(text, tc.part) || !strings.Contains(text, tc.says) {
				t.Errorf("error %q does not begin with %q or does not say %q", text, tc.part, tc.says)
			}
			if strings.Contains(err.Error(), "hush") {
				t.Errorf("the error shows a secret: %v", err)
			}
			if tc.part == "data directory: " && !strings.HasSuffix(tc.name, "is a file") {
				return // nothing was made
			}
			// What stood in the way goes, what the failed start made stays.
			for _, name := range []string{"ganglion.db", "blobs", "instance.key"} {
				if strings.Contains(tc.name, "directory is a file") || tc.part == "database: " || strings.Contains(tc.name, "key") {
					_ = os.RemoveAll(filepath.Join(good.Data, name))
				}
			}
			if info, err := os.Stat(good.Data); err == nil && !info.IsDir() {
				if err := os.Remove(good.Data); err != nil {
					t.Fatal(err)
				}
			}
			s, err = open(t, good)
			if err != nil {
				t.Fatalf("start after a failed start: %v", err)
			}
			if err := s.Ready(t.Context()); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func pid() string { return strconv.Itoa(os.Getpid()) }

func mkdir(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
}

// TestOneServerPerDirectory: the second is told who has the directory, and
// gets it once the first has gone. A lock file that was left over locks
// nothing.
func TestOneServerPerDirectory(t *testing.T) {
	t.Parallel()
	c := quietConfig(t)
	mkdir(t, c.Data)
	write(t, filepath.Join(c.Data, lockFile), "12345678\n")
	first, err := open(t, c)
	if err != nil {
		t.Fatal(err)
	}
	before := tree(t, c.Data)
	second, err := open(t, c)
	if err == nil {
		t.Fatal("a second server started", second.Close())
	}
	if fleet.KindOf(err) != fleet.Conflict || !strings.Contains(err.Error(), "in use by the server with process id "+pid()) || !strings.Contains(fleet.HintOf(err), "--data") {
		t.Errorf("error %q, hint %q", err, fleet.HintOf(err))
	}
	if after := tree(t, c.Data); after != before {
		t.Errorf("the second server left\n%s\nwhere there was\n%s", after, before)
	}
	if err := first.Ready(t.Context()); err != nil {
		t.Errorf("the first server suffered: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if second, err = open(t, c); err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
}

func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		b.WriteString(path + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestStartIsGivenUp: a part that takes the connection and says nothing does
// not keep somebody from stopping the start.
func TestStartIsGivenUp(t *testing.T) {
	t.Parallel()
	for part, change := range map[string]func(c *Config, silent string){
		"database":         func(c *Config, silent string) { c.Database = "postgres://a:b@" + silent + "/x" },
		"firmware storage": func(c *Config, silent string) { c.S3Endpoint, c.S3Bucket, c.S3Insecure = silent, "b", true },
		"messages":         func(c *Config, silent string) { c.NATS = "nats://" + silent },
	} {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			silent, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				var held []net.Conn
				for {
					conn, err := silent.Accept()
					if err != nil {
						break
					}
					held = append(held, conn)
					cancel() // the server waits for an answer now
				}
				for _, conn := range held {
					conn.Close()
				}
			}()
			defer func() { silent.Close(); <-ended }()
			c := quietConfig(t)
			change(&c, silent.Addr().String())
			s, err := Open(ctx, c, slog.New(slog.DiscardHandler))
			if err == nil {
				t.Fatal("the server started", s.Close())
			}
			if !strings.HasPrefix(err.Error(), part+": ") {
				t.Errorf("error %q does not name the %s", err, part)
			}
		})
	}
}

// refusingPostgres speaks as much of PostgreSQL's protocol as it takes to ask
// for a password and to refuse it: the servers of other tests trust everybody.
func refusingPostgres(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	message := func(kind byte, body string) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4)), body...)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1024)) // who it is
			_, _ = conn.Write(message('R', "\x00\x00\x00\x03"))
			_, _ = conn.Read(make([]byte, 1024)) // its password
			_, _ = conn.Write(message('E', "SFATAL\x00C28P01\x00Mpassword authentication failed for user \"ganglion\"\x00\x00"))
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return l.Addr().String()
}
