package link

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ganglion-iot/ganglion/fwup"
)

// librarian is a Client that takes archives.
type librarian struct {
	*witness
	decide func(Archive) Decision // nil: download
	refuse error                  // of ArchiveReady
	told   chan string
}

func newLibrarian() *librarian { return &librarian{witness: newWitness(), told: make(chan string, 64)} }

func (l *librarian) ArchiveAvailable(_ context.Context, a Archive) Decision {
	l.told <- "asked " + a.URL
	if l.decide != nil {
		return l.decide(a)
	}
	return Decision{Verdict: Apply}
}

func (l *librarian) ArchiveReady(_ context.Context, _ Archive, path string) error {
	l.told <- "ready " + filepath.Base(path)
	return l.refuse
}

func (l *librarian) ArchiveFailed(_ Archive, err error) { l.told <- "failed " + err.Error() }

// archiveEvent is the payload of an archive event.
func archiveEvent(fw built, url string) []byte {
	b, err := json.Marshal(map[string]any{
		"uuid": fw.uuid, "url": url, "version": "1.1.0", "size": fw.size, "platform": "board", "architecture": "arm",
		"description": nil, "uploaded_at": "2026-03-01T12:30:00",
	})
	if err != nil {
		panic(err)
	}
	return b
}

// library is an archiver in a bubble of synctest.
type library struct {
	*archiver
	client *librarian
	net    *transport
	dir    string
}

// newLibrary runs an archiver until the test ends.
func newLibrary(t *testing.T, f *factory, answer answering, change func(*Options)) *library {
	t.Helper()
	l := &library{client: newLibrarian(), net: &transport{answer: answer}, dir: filepath.Join(t.TempDir(), "archives")}
	o := Options{
		Client: l.client, Logger: quiet(), PublicKeys: []fwup.PublicKey{f.public}, Archives: &Archives{Dir: l.dir},
		Download: limits(func(d *Download) { d.Client = &http.Client{Transport: l.net} }),
	}
	if change != nil {
		change(&o)
	}
	l.archiver = newArchiver(o)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); l.run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return l
}

// story is what the client was told since it was asked last, in short form.
func (l *library) story() string {
	synctest.Wait()
	var s []string
	for {
		select {
		case told := <-l.client.told:
			s = append(s, told)
		default:
			return strings.Join(s, ", ")
		}
	}
}

func (l *library) files(t *testing.T) string {
	t.Helper()
	entries, err := os.ReadDir(l.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func TestArchives(t *testing.T) {
	f := newFactory(t)
	one, two := f.build(t, "1.1.0", nil), f.build(t, "1.2.0", nil)
	foreign := newFactory(t).build(t, "1.1.0", nil)
	files := func(_ int, r *http.Request) *http.Response {
		switch filepath.Base(r.URL.Path) {
		case "one.fw":
			return serve(one.data, r, nil)
		case "two.fw":
			return serve(two.data, r, nil)
		case "foreign.fw":
			return serve(foreign.data, r, nil)
		}
		return reply(404, nil, 0, http.NoBody)
	}
	run := func(name string, answer answering, change func(*Options), test func(*testing.T, *library)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, newLibrary(t, f, answer, change)) })
		})
	}
	expect := func(t *testing.T, l *library, want, files string, requests int) {
		t.Helper()
		if got := l.story(); got != want {
			t.Errorf("told %q, want %q", got, want)
		}
		if got := l.files(t); got != files {
			t.Errorf("there are %q, want %q", got, files)
		}
		if got := len(l.net.seen()); got != requests {
			t.Errorf("%d requests, want %d", got, requests)
		}
	}
	run("offered again and again", files, nil, func(t *testing.T, l *library) {
		l.offer(archiveEvent(one, "http://files/a/one.fw?x=1"))
		expect(t, l, "asked http://files/a/one.fw?x=1, ready one.fw", "one.fw", 1)
		if got, err := os.ReadFile(filepath.Join(l.dir, "one.fw")); err != nil || !bytes.Equal(got, one.data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		l.offer(archiveEvent(one, "http://files/a/one.fw?x=2"))
		expect(t, l, "", "one.fw", 1)
		l.offer(archiveEvent(two, "http://files/two.fw"))
		expect(t, l, "asked http://files/two.fw, ready two.fw", "one.fw two.fw", 2)
		l.offer(archiveEvent(one, "http://files/one.fw")) // it was verified; it is only handed over
		expect(t, l, "ready one.fw", "one.fw two.fw", 2)
	})
	run("others were never finished", files, nil, func(t *testing.T, l *library) {
		putArchive(t, l, "zero.bin"+unfinished, nil)
		putArchive(t, l, "zero.fw"+unfinished, nil)
		putArchive(t, l, "zero.bin", nil)
		l.offer(archiveEvent(one, "http://files/one.fw"))
		expect(t, l, "asked http://files/one.fw, ready one.fw", "one.fw zero.bin", 1)
	})
	run("there from an earlier run", files, nil, func(t *testing.T, l *library) {
		putArchive(t, l, "one.fw", one.data)
		l.offer(archiveEvent(one, "http://files/one.fw"))
		expect(t, l, "ready one.fw", "one.fw", 0)
	})
	run("another of the same name is there", files, nil, func(t *testing.T, l *library) {
		putArchive(t, l, "one.fw", two.data)
		l.offer(archiveEvent(one, "http://files/one.fw"))
		expect(t, l, "asked http://files/one.fw, ready one.fw", "one.fw", 1)
	})
	run("half there", files, nil, func(t *testing.T, l *library) {
		putArchive(t, l, "one.fw.download", one.data[:1000])
		putArchive(t, l, "two.fw.download", one.data[:1000])
		l.offer(archiveEvent(one, "http://files/one.fw"))
		expect(t, l, "asked http://files/one.fw, ready one.fw", "one.fw", 1)
		if got := l.net.seen()[0].Header.Get("Range"); got != "bytes=1000-" {
			t.Errorf("asked for %q", got)
		}
	})
	run("half there and damaged", files, nil, func(t *testing.T, l *library) {
		putArchive(t, l, "one.fw.download", make([]byte, 1000))
		l.offer(archiveEvent(one, "http://files/one.fw"))
		expect(t, l, "asked http://files/one.fw, ready one.fw", "one.fw", 2)
	})
	run("ignored", files, func(o *Options) {
		o.Client.(*librarian).decide = func(Archive) Decision { return Decision{Verdict: Ignore} }
	}, func(t *testing.T, l *library) {
		l.offer(archiveEvent(one, "http://files/one.fw"))
		expect(t, l, "asked http://files/one.fw", "", 0)
	})
	run("rescheduled", files, func(o *Options) {
		began := time.Now()
		o.Client.(*librarian).decide = func(Archive) Decision {
			if time.Since(began) < time.Hour {
				return Decision{Verdict: Reschedule, Delay: time.Hour}
			}
			return Decision{Verdict: Apply}
		}
	}, func(t *testing.T, l *library) {
		l.offer(archiveEvent(one, "http://files/one.fw?old"))
		expect(t, l, "asked http://files/one.fw?old", "", 0)
		time.Sleep(59 * time.Minute)
		l.offer(archiveEvent(one, "http://files/one.fw?new"))
		expect(t, l, "", "", 0)
		time.Sleep(2 * time.Minute)
		expect(t, l, "asked http://files/one.fw?new, ready one.fw", "one.fw", 1)
	})
	run("rescheduled, then another came", files, func(o *Options) {
		o.Client.(*librarian).decide = func(a Archive) Decision {
			if a.UUID == one.uuid {
				return Decision{Verdict: Reschedule, Delay: time.Hour}
			}
			return Decision{Verdict: Apply}
		}
	}, func(t *testing.T, l *library) {
		l.offer(archiveEvent(one, "http://files/one.fw"))
		synctest.Wait()
		l.offer(archiveEvent(two, "http://files/two.fw"))
		time.Sleep(2 * time.Hour)
		expect(t, l, "asked http://files/one.fw, asked http://files/two.fw, ready two.fw", "two.fw", 1)
	})
	run("signed by a stranger", files, nil, func(t *testing.T, l *library) {
		l.offer(archiveEvent(foreign, "http://files/foreign.fw"))
		got := l.story()
		if !strings.HasPrefix(got, "asked http://files/foreign.fw, failed ") || !strings.Contains(got, "signature") || l.files(t) != "" {
			t.Errorf("told %q, left %q", got, l.files(t))
		}
	})
	run("another than offered", files, nil, func(t *testing.T, l *library) {
		other := one
		other.uuid = "11111111-2222-3333-4444-555555555555"
		l.offer(archiveEvent(other, "http://files/one.fw"))
		expect(t, l, "asked http://files/one.fw, failed the file is archive "+one.uuid+", not the "+other.uuid+" that was offered", "", 1)
	})
	run("gone, then there", func(n int, r *http.Request) *http.Response {
		if n == 0 {
			return reply(404, nil, 0, http.NoBody)
		}
		return files(n, r)
	}, nil, func(t *testing.T, l *library) {
		l.offer(archiveEvent(one, "http://files/one.fw"))
		expect(t, l, "asked http://files/one.fw, failed Download failed : HTTP status 404", "", 1)
		l.offer(archiveEvent(one, "http://files/one.fw"))
		expect(t, l, "asked http://files/one.fw, ready one.fw", "one.fw", 2)
	})
	run("no network, then one", func(n int, r *http.Request) *http.Response {
		if n < 4 {
			return serve(one.data, r, func(body io.Reader) io.Reader { return io.LimitReader(body, 500) })
		}
		return files(n, r)
	}, nil, func(t *testing.T, l *library) {
		l.offer(archiveEvent(one, "http://files/one.fw"))
		time.Sleep(time.Minute)
		expect(t, l, "asked http://files/one.fw, failed Download failed : gave up after 3 retries: unexpected EOF", "one.fw.download", 4)
		l.offer(archiveEvent(one, "http://files/one.fw"))
		expect(t, l, "asked http://files/one.fw, ready one.fw", "one.fw", 5)
		if got := l.net.seen()[4].Header.Get("Range"); got != "bytes=2000-" {
			t.Errorf("went on with %q", got)
		}
	})
	run("not taken at first", files, func(o *Options) { o.Client.(*librarian).refuse = errors.New("busy") }, func(t *testing.T, l *library) {
		l.offer(archiveEvent(one, "http://files/one.fw"))
		expect(t, l, "asked http://files/one.fw, ready one.fw", "one.fw", 1)
		l.client.refuse = nil
		l.offer(archiveEvent(one, "http://files/one.fw"))
		expect(t, l, "ready one.fw", "one.fw", 1)
	})
	run("too large", files, func(o *Options) { o.Download.MaxSize = 100 }, func(t *testing.T, l *library) {
		l.offer(archiveEvent(one, "http://files/one.fw"))
		expect(t, l, fmt.Sprintf("asked http://files/one.fw, failed Download failed : the file has %d bytes; at most 100 are taken", one.size), "", 0)
	})
	run("keys of the server", files, func(o *Options) { o.PublicKeys = nil }, func(t *testing.T, l *library) {
		l.offer(archiveEvent(one, "http://files/one.fw"))
		expect(t, l, "failed refusing an unverified archive: no public keys available", "", 0)
		l.setKeys([]byte(`{"keys":[]}`))
		l.setKeys([]byte(`nonsense`))
		l.setKeys([]byte(`{"keys":[7,"x","` + fwup.FormatPublicKey(f.public) + `"]}`))
		l.setKeys([]byte(`{"keys":[]}`)) // changes nothing
		l.offer(archiveEvent(one, "http://files/one.fw"))
		expect(t, l, "asked http://files/one.fw, ready one.fw", "one.fw", 1)
	})
	run("pinned keys stay", files, nil, func(t *testing.T, l *library) {
		stranger := newFactory(t)
		l.setKeys([]byte(`{"keys":["` + fwup.FormatPublicKey(stranger.public) + `"]}`))
		if keys := l.publicKeys(); len(keys) != 1 || !keys[0].Equal(f.public) {
			t.Errorf("keys %v", keys)
		}
	})
	run("no directory", files, func(o *Options) { o.Archives.Dir = filepath.Join(os.Args[0], "archives") }, func(t *testing.T, l *library) {
		l.offer(archiveEvent(one, "http://files/one.fw"))
		if got := l.story(); !strings.Contains(got, "failed make the directory of archives: ") {
			t.Errorf("told %q", got)
		}
	})
}

// putArchive puts a file into the directory of archives.
func putArchive(t *testing.T, l *library, name string, data []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(l.dir, 0o700), os.WriteFile(filepath.Join(l.dir, name), data, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// TestArchiveOnTheWire: a device asks for keys, takes an archive, and tells the
// server nothing of it.
func TestArchiveOnTheWire(t *testing.T) {
	client := newLibrarian()
	r := newRig(t, func(r *rig) {
		r.options.Client = client
		r.options.Archives = &Archives{Dir: t.TempDir(), RequestKeys: true}
	})
	fw := r.factory.build(t, "1.1.0", nil)
	files := newFileServer(t, fw.data, nil)
	client.witness.decide = func(Update) Decision { return Decision{Verdict: Ignore} }
	c := r.start()
	if params := c.join(); params["archive_public_keys"] != "on_connect" {
		t.Errorf("joined with %v", params)
	}
	c.send(`[null,null,"device","archive_public_keys",{"keys":["` + fwup.FormatPublicKey(r.factory.public) + `"]}]`)
	c.send(`[null,null,"device","archive",` + string(archiveEvent(fw, files.URL+"/"+fw.uuid+".fw")) + `]`)
	await(t, "the question", client.told)
	if got := await(t, "the archive", client.told); got != "ready "+fw.uuid+".fw" {
		t.Errorf("the client was told %q", got)
	}
	c.send(r.offer(built{uuid: "some-uuid"}, "http://localhost/x"))
	if m, _ := c.next(); !strings.Contains(string(m.Payload), "ignored") {
		t.Errorf("the device told %s %s", m.Event, m.Payload)
	}
}

func TestArchiveKeysAreAskedFor(t *testing.T) {
	f := newFactory(t)
	key := []fwup.PublicKey{f.public}
	for _, c := range []struct {
		firmware []fwup.PublicKey
		archives *Archives
		want     bool
	}{
		{nil, nil, false},
		{nil, &Archives{Dir: "x"}, true},
		{key, &Archives{Dir: "x"}, false},
		{nil, &Archives{Dir: "x", PublicKeys: key}, false},
		{key, &Archives{Dir: "x", PublicKeys: key, RequestKeys: true}, true},
	} {
		if got := newArchiver(Options{PublicKeys: c.firmware, Archives: c.archives}).asksForKeys(); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestParseArchive(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC)
	a, err := parseArchive([]byte(`{"uuid":"u","url":"http://h/a.fw","version":"1.0.0","size":-3,"platform":"p","architecture":"a","description":null,"uploaded_at":"2026-03-01T12:30:00"}`))
	if want := (Archive{UUID: "u", URL: "http://h/a.fw", Version: "1.0.0", Platform: "p", Architecture: "a", UploadedAt: at}); err != nil || a != want {
		t.Errorf("%+v, %v", a, err)
	}
	for _, zone := range []string{"2026-03-01T14:30:00+02:00", "2026-03-01T12:30:00Z", "2026-03-01T12:30:00.000"} {
		if a, err := parseArchive([]byte(`{"uuid":"u","url":"x","uploaded_at":"` + zone + `"}`)); err != nil || !a.UploadedAt.Equal(at) {
			t.Errorf("%s: %v, %v", zone, a.UploadedAt, err)
		}
	}
	for _, bad := range []string{``, `null`, `[]`, `{"uuid":"u"}`, `{"url":"x"}`, `{"uuid":7,"url":"x"}`, `{"uuid":"` + strings.Repeat("u", 65) + `","url":"x"}`} {
		if a, err := parseArchive([]byte(bad)); err == nil {
			t.Errorf("%s: %+v", bad, a)
		}
	}
}

func TestArchiveNames(t *testing.T) {
	for url, want := range map[string]string{
		"http://h/uploads/archives/0b6c.fw":    "0b6c.fw",
		"http://h/a/b.fw?X-Amz=1":              "b.fw",
		"http://h":                             "u-1.fw",
		"http://h/":                            "u-1.fw",
		"http://h/..":                          "u-1.fw",
		"http://h/.hidden":                     "u-1.fw",
		"http://h/a%2Fb":                       "b",
		"http://h/a%20b.fw":                    "u-1.fw",
		"http://h/x.fw.download":               "u-1.fw",
		"http://h/" + strings.Repeat("x", 200): "u-1.fw",
		"::":                                   "u-1.fw",
	} {
		if got := archiveName(Archive{UUID: "u-1", URL: url}); got != want {
			t.Errorf("%s: %q, want %q", url, got, want)
		}
	}
}

func FuzzParseArchive(f *testing.F) {
	f.Add([]byte(`{"uuid":"u","url":"http://h/a.fw","version":"1.0.0","size":10,"platform":"p","architecture":"a","description":"","uploaded_at":"2026-03-01T12:30:00"}`))
	f.Add([]byte(`{"uuid":"../..","url":"http://h/../%2e%2e/%2f.."}`))
	f.Add([]byte(`{"uuid":"u","url":"::","size":1e99}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		a, err := parseArchive(payload)
		if err != nil {
			return
		}
		name := archiveName(a)
		if a.UUID == "" || a.URL == "" || a.Size < 0 || name == "" || name[0] == '.' || filepath.Base(name) != name || len(name) > maxArchiveName {
			t.Errorf("%+v is named %q", a, name)
		}
	})
}
