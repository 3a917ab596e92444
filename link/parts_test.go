package link

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// sums are the checksums of the parts of content.
func sums(content []byte, size int) [][sha256.Size]byte {
	var s [][sha256.Size]byte
	for part := range slices.Chunk(content, size) {
		s = append(s, sha256.Sum256(part))
	}
	return s
}

// kib is the size of the parts of these tests.
const kib = 1 << 10

// newParts is a download in parts of 1 KiB, from a server without a network.
func newParts(t *testing.T, dir string, content []byte, answer answering, change func(*Options, *Update)) (*parts, *transport) {
	t.Helper()
	net := &transport{answer: answer}
	o := Options{Client: newWitness(), Logger: quiet(), CacheDir: dir, Download: limits(func(d *Download) {
		d.Client, d.partSize = &http.Client{Transport: net}, kib
	})}
	offer := Update{URL: "http://files/f", Size: int64(len(content)), Parts: sums(content, kib), Firmware: Firmware{UUID: "u-1"}}
	if change != nil {
		change(&o, &offer)
	}
	j := &job{updater: &updater{opts: o, report: nobody{}}, offer: offer}
	return &parts{job: j, dir: dir, size: offer.Size, have: make([]bool, len(offer.Parts)), attempts: make([]int, len(offer.Parts))}, net
}

// whole reads what a download in parts left.
func whole(t *testing.T, p *parts) []byte {
	t.Helper()
	r := &partsReader{dir: p.dir, size: p.size, part: kib}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Error(err)
	}
	return b
}

func TestParts(t *testing.T) {
	content := testContent(5*kib + 100)
	good := func(_ int, r *http.Request) *http.Response { return serve(content, r, nil) }
	damage := func(part, times int) answering { // the first times that the part is sent
		var done atomic.Int32
		return func(_ int, r *http.Request) *http.Response {
			spoilt := content
			from := 0
			fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
			if from <= part*kib && int(done.Load()) < times {
				done.Add(1)
				spoilt = bytes.Clone(content)
				spoilt[part*kib+7]++
			}
			return serve(spoilt, r, nil)
		}
	}
	put := func(files map[int][]byte) func(dir string) {
		return func(dir string) {
			for i, b := range files {
				if err := os.WriteFile(partName(dir, i), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	part := func(i int) []byte { return content[i*kib : min(len(content), (i+1)*kib)] }
	for _, c := range []struct {
		name    string
		answer  answering
		before  func(dir string)
		change  func(*Options, *Update)
		want    string // of the error; "" for success
		ranges  []string
		anyways bool // the order of the ranges does not matter
	}{
		{name: "nothing there", answer: good, ranges: []string{""}},
		{name: "all there", answer: good, before: put(map[int][]byte{0: part(0), 1: part(1), 2: part(2), 3: part(3), 4: part(4), 5: part(5)})},
		{name: "the last is missing", answer: good, before: put(map[int][]byte{0: part(0), 1: part(1), 2: part(2), 3: part(3), 4: part(4)}), ranges: []string{"bytes=5120-"}},
		{name: "two gaps", answer: good, before: put(map[int][]byte{1: part(1), 4: part(4)}), ranges: []string{"bytes=0-1023", "bytes=2048-4095", "bytes=5120-"}},
		{name: "a part is half there", answer: good, before: put(map[int][]byte{0: part(0), 1: part(1)[:500]}), ranges: []string{"bytes=1524-"}},
		{name: "half a part behind the first of a range", answer: good, before: put(map[int][]byte{0: part(0), 3: part(3)[:500]}), ranges: []string{"bytes=1024-"}},
		{name: "a part of zeros", answer: good, before: put(map[int][]byte{0: part(0), 1: make([]byte, kib), 2: part(2)}), ranges: []string{"bytes=1024-2047", "bytes=3072-"}},
		{name: "half a part of zeros", answer: good, before: put(map[int][]byte{0: part(0), 1: make([]byte, 10)}), ranges: []string{"bytes=1034-", "bytes=1024-2047"}},
		{name: "a part is too long", answer: good, before: put(map[int][]byte{0: append(bytes.Clone(part(0)), 1)}), ranges: []string{""}},
		{name: "damaged twice", answer: damage(2, 2), ranges: []string{"", "bytes=2048-3071", "bytes=2048-3071"}},
		{name: "damaged three times", answer: damage(2, 3), ranges: []string{"", "bytes=2048-3071", "bytes=2048-3071"},
			want: "the download is not the file that was offered: part 2 was damaged 3 times"},
		{name: "three connections", answer: good, change: func(o *Options, _ *Update) { o.Download.ConcurrentParts = 3 },
			ranges: []string{"bytes=0-2047", "bytes=2048-4095", "bytes=4096-"}, anyways: true},
		{name: "more connections than parts", answer: good, change: func(o *Options, _ *Update) { o.Download.ConcurrentParts = 16 },
			ranges: []string{"bytes=0-1023", "bytes=1024-2047", "bytes=2048-3071", "bytes=3072-4095", "bytes=4096-5119", "bytes=5120-"}, anyways: true},
		{name: "size unknown", answer: good, change: func(_ *Options, u *Update) { u.Size = 0 }, ranges: []string{"bytes=0-0", ""}},
		{name: "size unknown, other number", answer: func(_ int, r *http.Request) *http.Response { return serve(content[:2000], r, nil) },
			change: func(_ *Options, u *Update) { u.Size = 0 }, ranges: []string{"bytes=0-0"},
			want: "Download failed : the file has the wrong size: 2000 bytes for 6 parts"},
		{name: "another size", answer: func(_ int, r *http.Request) *http.Response { return serve(content[:5*kib], r, nil) }, ranges: []string{""},
			want: "Download failed : the file has the wrong size: 5120 bytes instead of 5220"},
		{name: "a server without ranges", answer: func(_ int, _ *http.Request) *http.Response {
			return reply(200, nil, int64(len(content)), bytes.NewReader(content))
		}, before: put(map[int][]byte{0: part(0), 2: part(2), 4: part(4)[:3]}), ranges: []string{"bytes=1024-2047", ""}},
		{name: "a server without ranges that breaks off", answer: func(n int, _ *http.Request) *http.Response {
			var body io.Reader = bytes.NewReader(content)
			if n < 2 {
				body = io.LimitReader(body, int64(2500*(n+1)))
			}
			return reply(200, nil, int64(len(content)), body)
		}, ranges: []string{"", "bytes=2500-", "", "bytes=5220-"}[:3]},
		{name: "more than the range", answer: func(n int, r *http.Request) *http.Response {
			resp := serve(content, r, nil)
			resp.Header.Set("Content-Range", "bytes 0-2047/5220")
			resp.ContentLength, resp.Body = 2048, io.NopCloser(bytes.NewReader(content[:2048]))
			return resp
		}, before: put(map[int][]byte{1: part(1)}), ranges: []string{"bytes=0-1023"}, want: "Download failed : the server sends more than was asked for"},
		{name: "gone", answer: func(int, *http.Request) *http.Response { return reply(404, nil, 0, http.NoBody) }, ranges: []string{""},
			want: "Download failed : HTTP status 404"},
		{name: "too late", answer: func(int, *http.Request) *http.Response { return reply(403, nil, 0, http.NoBody) },
			before: put(map[int][]byte{0: part(0)}), ranges: []string{"bytes=1024-"}, want: "Download failed : HTTP status 403 at byte 1024: the address may have expired"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if c.before != nil {
				c.before(dir)
			}
			p, net := newParts(t, dir, content, c.answer, c.change)
			err := p.complete(t.Context())
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(whole(t, p), content) {
					t.Error("not what the server has")
				}
				stages := p.opts.Client.(*witness).stages
				if len(stages) == 0 || stages[len(stages)-1] != "downloading 100" {
					t.Errorf("progress %v", stages)
				}
			} else if err == nil || err.Error() != c.want {
				t.Errorf("error %v, want %s", err, c.want)
			}
			var ranges []string
			for _, r := range net.seen() {
				ranges = append(ranges, r.Header.Get("Range"))
			}
			if c.anyways {
				slices.Sort(ranges)
			}
			if fmt.Sprintf("%q", ranges) != fmt.Sprintf("%q", c.ranges) {
				t.Errorf("asked for %q, want %q", ranges, c.ranges)
			}
		})
	}
}

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		missing     []int
		connections int
		want        string
	}{
		{nil, 3, "[]"},
		{[]int{4}, 3, "[[{4 4}]]"},
		{[]int{0, 1, 2, 3, 4, 5, 6}, 1, "[[{0 6}]]"},
		{[]int{0, 1, 2, 3, 4, 5, 6}, 3, "[[{0 2}] [{3 4}] [{5 6}]]"},
		{[]int{0, 2, 3, 7, 8, 9}, 2, "[[{0 0} {2 3}] [{7 9}]]"},
	} {
		if got := fmt.Sprint(split(c.missing, c.connections)); got != c.want {
			t.Errorf("%v over %d: %s, want %s", c.missing, c.connections, got, c.want)
		}
	}
}

func TestPartsAreUsedWhenTheyFit(t *testing.T) {
	three := make([][sha256.Size]byte, 3)
	for _, c := range []struct {
		parts [][sha256.Size]byte
		size  int64
		want  bool
	}{{nil, 3000, false}, {three, 0, true}, {three, 2048, false}, {three, 2049, true}, {three, 3072, true}, {three, 3073, false}} {
		j := &job{updater: &updater{opts: Options{Download: Download{partSize: kib}}}, offer: Update{Size: c.size, Parts: c.parts}}
		if j.hasParts() != c.want {
			t.Errorf("%d bytes, %d parts: %v", c.size, len(c.parts), !c.want)
		}
	}
}

func TestOnlyOwnEntriesLeaveTheCache(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{
		"keep.fw.partial", "old.fw.partial", "notes.txt", "old.fw.parts/part-00000", "old.fw.parts/part-123456",
		"home/part-00000", "mixed.fw.parts/part-00000", "mixed.fw.parts/letter", "short.fw.parts/part-1", "odd.fw.parts/part-0000x",
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := clearCache(dir, filepath.Join(dir, "keep.fw.partial")); err != nil {
		t.Fatal(err)
	}
	var left []string
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := "home keep.fw.partial lost+found mixed.fw.parts notes.txt odd.fw.parts short.fw.parts"; err != nil || strings.Join(left, " ") != want {
		t.Errorf("left are %v, want %s (%v)", left, want, err)
	}
}

// TestPartsOfAServersName: a server names the firmware, and must not be able to
// name a directory of somebody else that way.
func TestPartsOfAServersName(t *testing.T) {
	content := testContent(2 * kib)
	dir := t.TempDir()
	photo := filepath.Join(dir, "home", "photo")
	if err := errors.Join(os.Mkdir(filepath.Dir(photo), 0o700), os.WriteFile(photo, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	p, _ := newParts(t, dir, content, func(_ int, r *http.Request) *http.Response { return serve(make([]byte, 2*kib), r, nil) },
		func(o *Options, u *Update) { o.Strategy, u.Firmware.UUID = Parts, "home" })
	if err := p.viaCache(t.Context()); !errors.Is(err, errChecksum) {
		t.Errorf("%v", err)
	}
	entries, err := os.ReadDir(dir)
	if _, gone := os.Stat(photo); gone != nil || err != nil || len(entries) != 1 {
		t.Errorf("%v; left are %v, %v", gone, entries, err)
	}
}

// unreliable answers as servers and networks do on bad days, by chance.
func unreliable(content []byte, rng *rand.Rand) answering {
	days := func(_ int, r *http.Request) *http.Response {
		switch rng.IntN(12) {
		case 0:
			return reply([]int{500, 503, 429, 408}[rng.IntN(4)], nil, 0, http.NoBody)
		case 1: // all of it, whatever was asked
			return reply(200, nil, int64(len(content)), bytes.NewReader(content))
		case 2: // another range
			resp := serve(content, r, nil)
			resp.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", 1, len(content)-1, len(content)))
			return resp
		case 3: // damaged
			spoilt := bytes.Clone(content)
			spoilt[rng.IntN(len(spoilt))]++
			return serve(spoilt, r, nil)
		case 4: // another file
			resp := serve(content, r, nil)
			resp.Header.Set("ETag", `"v2"`)
			return resp
		case 5:
			return reply(302, map[string]string{"Location": fmt.Sprintf("/%d", rng.IntN(100))}, 0, http.NoBody)
		case 6: // shorter than said
			return serve(content, r, func(body io.Reader) io.Reader { return io.LimitReader(body, rng.Int64N(3000)) })
		case 7:
			return nil
		case 8: // stalls
			return serve(content, r, func(body io.Reader) io.Reader {
				return io.MultiReader(io.LimitReader(body, rng.Int64N(3000)), silent{r.Context()})
			})
		case 9: // a chunked answer
			resp := serve(content, r, nil)
			resp.ContentLength = -1
			return resp
		case 10:
			return reply(404, nil, 0, http.NoBody)
		}
		return serve(content, r, nil)
	}
	return days
}

// TestNothingButTheFileArrives: whatever a server does, a download ends with
// the exact bytes or a clear failure; what it left never harms the next one.
func TestNothingButTheFileArrives(t *testing.T) {
	content := testContent(5*kib + 100)
	total := sha256.Sum256(content)
	clearly := func(err error) bool {
		return strings.HasPrefix(err.Error(), "Download failed : ") || errors.Is(err, errChecksum)
	}
	var succeeded, failed int
	for seed := range uint64(150) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			dir := t.TempDir()
			inParts := seed%2 == 0
			once := func(ctx context.Context, answer answering) error {
				p, _ := newParts(t, dir, content, answer, func(o *Options, _ *Update) { o.Download.MaxRetries = 10 })
				if inParts {
					if err := p.complete(ctx); err != nil {
						return err
					}
					if !bytes.Equal(whole(t, p), content) {
						t.Errorf("seed %d: other bytes", seed)
					}
					return nil
				}
				return fetchWhole(ctx, p, filepath.Join(dir, "file"), fmt.Sprintf("%x", total), content)
			}
			switch err := once(t.Context(), unreliable(content, rng)); {
			case err == nil:
				succeeded++
			case !clearly(err):
				t.Errorf("seed %d: unclear: %v", seed, err)
			default:
				failed++
			}
			// A good day follows, with what the bad one left. Damage inside a single
			// file is found at its end, and cleared by one more download.
			err := once(t.Context(), func(_ int, r *http.Request) *http.Response { return serve(content, r, nil) })
			if errors.Is(err, errChecksum) && !inParts {
				err = once(t.Context(), func(_ int, r *http.Request) *http.Response { return serve(content, r, nil) })
			}
			if err != nil {
				t.Errorf("seed %d: after it: %v", seed, err)
			}
		})
	}
	if succeeded < 15 || failed < 15 {
		t.Errorf("%d downloads succeeded, %d failed: the test has lost its meaning", succeeded, failed)
	}
}

// fetchWhole downloads into one file and checks it, as Caching does.
func fetchWhole(ctx context.Context, p *parts, name, checksum string, content []byte) error {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	fetch := fileDownload{url: p.offer.URL, size: p.offer.Size, opts: p.opts.Download, log: quiet()}
	_, err = fetch.into(ctx, f)
	if err == nil {
		err = checkSum(ctx, f, checksum)
	}
	if err != nil {
		if useless(err) || errors.Is(err, errChecksum) {
			return errors.Join(err, os.Remove(name))
		}
		return err
	}
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, content) {
		return fmt.Errorf("other bytes (%w)", err)
	}
	return nil
}

func FuzzParseParts(f *testing.F) {
	for _, s := range []string{`[]`, `null`, `["` + strings.Repeat("aB", 32) + `"]`, `["xx"]`, `[1]`, `{}`, `["` + strings.Repeat("g", 64) + `"]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, list []byte) {
		if got := parseParts(list); len(got)*(2*sha256.Size+2) > len(list) {
			t.Errorf("%d sums of %d bytes", len(got), len(list))
		}
	})
}
