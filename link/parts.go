package link

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// partPrefix begins the name of each file in the directory of a download in
// parts.
const partPrefix = "part-"

// part is the size of all parts but the last, in bytes.
func (d Download) part() int64 { return orDefault(d.partSize, DefaultPartSize) }

// hasParts reports whether the checksums of an offer are those of its file.
func (j *job) hasParts() bool {
	n := int64(len(j.offer.Parts))
	size := j.opts.Download.part()
	return n > 0 && (j.offer.Size == 0 || n == (j.offer.Size+size-1)/size)
}

// inParts downloads part by part into a directory, each verified, and applies
// them when all are there. Parts that are there from an earlier try are
// verified again.
func (j *job) inParts(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return ofCache(err)
	}
	good, err := j.fetchParts(ctx, dir)
	if err != nil && (good || ctx.Err() != nil) {
		return err // the next run goes on with the parts
	}
	if rmErr := os.RemoveAll(dir); rmErr != nil {
		j.opts.Logger.Warn("could not clear the cache", "error", rmErr)
	}
	return err
}

// fetchParts completes the parts and applies them. After an error it reports
// whether they are good to go on with.
func (j *job) fetchParts(ctx context.Context, dir string) (good bool, err error) {
	p := &parts{job: j, dir: dir, size: j.offer.Size, have: make([]bool, len(j.offer.Parts)), attempts: make([]int, len(j.offer.Parts))}
	if err := p.complete(ctx); err != nil {
		return !useless(err) && !errors.Is(err, errChecksum), err
	}
	r := &partsReader{dir: dir, size: p.size, part: j.opts.Download.part()}
	defer r.Close()
	return j.applyFile(ctx, r)
}

// parts is a download in parts.
type parts struct {
	*job
	dir      string
	size     int64  // of the whole file
	have     []bool // which parts are there and verified
	attempts []int  // how often each part was fetched and was wrong

	mu      sync.Mutex // guards what follows, have and attempts, and orders calls of the Client
	done    int64      // bytes that are there
	percent int        // told last
}

// complete fetches all parts that are missing.
func (p *parts) complete(ctx context.Context) error {
	ctx, cancel := p.opts.Download.limited(ctx)
	defer cancel()
	if p.size == 0 {
		if err := p.learnSize(ctx); err != nil {
			return err
		}
	}
	if err := p.look(ctx); err != nil {
		return err
	}
	p.count(0)
	for restarts := 0; ; {
		missing := p.missing()
		if len(missing) == 0 {
			return ofCache(syncDir(p.dir))
		}
		err := p.round(ctx, missing, restarts > 0)
		if errors.Is(err, errRestart) && restarts < maxRestarts {
			// It may be a server that always sends whole files.
			restarts++
			continue
		}
		if err != nil {
			return err
		}
	}
}

// learnSize asks the server how large the file is, with the shortest request
// there is.
func (p *parts) learnSize(ctx context.Context) error {
	d := newDownload(ctx, p.offer.URL, 0, p.opts.Download, p.opts.Logger, nil)
	d.limit = 1
	defer d.Close()
	if _, err := d.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	size := p.opts.Download.part()
	if int64(len(p.have)) != (d.size+size-1)/size {
		return fmt.Errorf("%w: %d bytes for %d parts", errSize, d.size, len(p.have))
	}
	p.size = d.size
	return nil
}

// name is the file of a part.
func (p *parts) name(i int) string { return partName(p.dir, i) }

func partName(dir string, i int) string {
	return filepath.Join(dir, fmt.Sprintf("%s%05d", partPrefix, i))
}

// length is the size of a part in bytes.
func (p *parts) length(i int) int64 {
	size := p.opts.Download.part()
	return min(size, p.size-int64(i)*size)
}

// look finds the parts that are there and good, and removes those that are
// not. What is too short may be the beginning of a part and stays.
func (p *parts) look(ctx context.Context) error {
	for i := range p.have {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		f, err := os.Open(p.name(i))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return ofCache(err)
		}
		h := sha256.New()
		n, err := io.Copy(h, io.LimitReader(f, p.length(i)+1))
		f.Close()
		switch {
		case err == nil && n == p.length(i) && p.offer.Parts[i] == sum(h):
			p.have[i] = true
			p.done += n
		case err == nil && n < p.length(i):
		default:
			if err := os.Remove(p.name(i)); err != nil {
				return ofCache(err)
			}
		}
	}
	return nil
}

func sum(h hash.Hash) (s [sha256.Size]byte) {
	h.Sum(s[:0])
	return s
}

func (p *parts) missing() []int {
	var m []int
	for i, have := range p.have {
		if !have {
			m = append(m, i)
		}
	}
	return m
}

// round fetches the missing parts once, over as many connections as allowed.
// With whole it fetches the file from its first byte on and drops what is
// there already.
func (p *parts) round(ctx context.Context, missing []int, whole bool) error {
	shares := split(missing, p.opts.Download.ConcurrentParts)
	if whole {
		shares = [][]span{{{0, len(p.have) - 1}}}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	for _, share := range shares {
		work.Go(func() {
			for _, s := range share {
				if err := p.fetch(ctx, s, whole); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	work.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// span is parts in a row, the last counted in.
type span struct{ first, last int }

// split shares parts out evenly, in rows.
func split(missing []int, connections int) [][]span {
	var shares [][]span
	for n := min(connections, len(missing)); n > 0; n-- {
		size := (len(missing) + n - 1) / n
		var share []span
		for _, i := range missing[:size] {
			if len(share) > 0 && share[len(share)-1].last == i-1 {
				share[len(share)-1].last = i
				continue
			}
			share = append(share, span{i, i})
		}
		shares, missing = append(shares, share), missing[size:]
	}
	return shares
}

// fetch downloads parts in a row over one connection at a time.
func (p *parts) fetch(ctx context.Context, s span, whole bool) error {
	f, err := p.begin(s.first, !whole)
	if err != nil {
		return err
	}
	defer func() { f.Close() }()
	size := p.opts.Download.part()
	d := newDownload(ctx, p.offer.URL, int64(s.first)*size+f.at, p.opts.Download, p.opts.Logger, p.downloadStarted)
	defer d.Close()
	if s.last < len(p.have)-1 {
		d.limit = int64(s.last+1) * size
	}
	buf := make([]byte, 32<<10)
	for i := s.first; ; i++ {
		if err := p.fill(f, d, buf, p.length(i)); err != nil {
			if !f.drop {
				p.count(-f.at) // counted again when the part is taken up again
			}
			return err
		}
		if err := p.finish(f, i); err != nil {
			return err
		}
		if i == s.last {
			return nil
		}
		if f, err = p.begin(i+1, false); err != nil {
			return err
		}
	}
}

// partFile is a part while it arrives.
type partFile struct {
	*os.File
	sum  hash.Hash
	at   int64 // bytes that are there
	drop bool  // what arrives is there already
}

// Close closes the file, if there is one.
func (f *partFile) Close() error {
	if f.File == nil {
		return nil
	}
	return f.File.Close()
}

// begin opens a part, going on with what is there if it may.
func (p *parts) begin(i int, resume bool) (*partFile, error) {
	f := &partFile{sum: sha256.New(), drop: p.verified(i)}
	if f.drop {
		return f, nil
	}
	mode := os.O_RDWR | os.O_CREATE
	if !resume {
		mode |= os.O_TRUNC
	}
	file, err := os.OpenFile(p.name(i), mode, 0o600)
	if err != nil {
		return &partFile{}, ofCache(err)
	}
	f.File = file
	if !resume {
		return f, nil
	}
	if f.at, err = io.Copy(f.sum, io.LimitReader(file, p.length(i))); err != nil {
		return f, ofCache(err)
	}
	p.count(f.at)
	return f, nil
}

func (p *parts) verified(i int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.have[i]
}

// fill reads the rest of a part.
func (p *parts) fill(f *partFile, d *download, buf []byte, length int64) error {
	for f.at < length {
		n, err := d.Read(buf[:min(int64(len(buf)), length-f.at)])
		if d.size >= 0 && d.size != p.size {
			return fmt.Errorf("%w: %d bytes instead of %d", errSize, d.size, p.size)
		}
		if err != nil {
			return err
		}
		f.at += int64(n)
		if f.drop {
			continue
		}
		if _, err := f.Write(buf[:n]); err != nil {
			return ofCache(err)
		}
		f.sum.Write(buf[:n])
		p.count(int64(n))
	}
	return nil
}

// finish verifies a part that has arrived and makes it durable. One that is
// wrong is fetched again in the next round, unless that was tried enough.
func (p *parts) finish(f *partFile, i int) error {
	if f.drop {
		return nil
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return ofCache(err)
	}
	if p.offer.Parts[i] == sum(f.sum) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.have[i] = true
		return nil
	}
	if err := os.Remove(p.name(i)); err != nil {
		return ofCache(err)
	}
	p.count(-f.at)
	p.attempts[i]++ // each part is with one connection at a time
	p.opts.Logger.Warn("a part of the update arrived damaged", "part", i, "attempt", p.attempts[i])
	if p.attempts[i] >= p.opts.Download.PartAttempts {
		return fmt.Errorf("%w: part %d was damaged %d times", errChecksum, i, p.attempts[i])
	}
	return nil
}

// count notes bytes that are there now and tells the percents they make.
func (p *parts) count(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	if p.size == 0 {
		return
	}
	if percent := int(p.done * 100 / p.size); percent > p.percent {
		p.percent = percent
		p.progress(p.offer, Downloading, percent)
	}
}

// isPartsDir reports whether a directory holds parts and nothing else.
func isPartsDir(dir string) bool {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		return false
	}
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), partPrefix)
		if !ok || len(digits) < 5 || strings.Trim(digits, "0123456789") != "" {
			return false
		}
	}
	return true
}

// partsReader reads verified parts as the file they are of.
type partsReader struct {
	dir        string
	size, part int64
	at         int64
	f          *os.File // the part of index, nil when none is open
	index      int64
}

// Read implements io.Reader.
func (r *partsReader) Read(b []byte) (int, error) {
	if r.at >= r.size {
		return 0, io.EOF
	}
	i := r.at / r.part
	if r.f == nil || r.index != i {
		r.Close()
		f, err := os.Open(partName(r.dir, int(i)))
		if err != nil {
			return 0, err
		}
		r.f, r.index = f, i
	}
	left := min(r.size, (i+1)*r.part) - r.at
	n, err := r.f.ReadAt(b[:min(int64(len(b)), left)], r.at-i*r.part)
	r.at += int64(n)
	switch {
	case n > 0:
		err = nil
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Seek implements io.Seeker.
func (r *partsReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the start")
	}
	r.at = offset
	return offset, nil
}

// Close closes the part that is open.
func (r *partsReader) Close() error {
	if r.f == nil {
		return nil
	}
	err := r.f.Close()
	r.f = nil
	return err
}
