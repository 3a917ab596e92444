package fwup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// DiffOptions says how Diff works. The zero value is good.
type DiffOptions struct {
	// PublicKeys are the keys that are trusted. When there are any, both
	// archives have to be signed with one of them.
	PublicKeys []PublicKey
	// Level is how hard to compress, 1 to 9; 0 is 9.
	Level int
	// TempDir is where temporary files go, "" for the usual place. They hold up
	// to the largest resource of the source that is compressed, and the deltas.
	TempDir string
	// Progress is called with rising percentages, in the goroutine of Diff; nil
	// is allowed.
	Progress func(Progress)
}

// DiffResult says what Diff made, or why it made nothing.
type DiffResult struct {
	// Size is the length of the delta archive in bytes, 0 when there is none.
	Size                   int64
	SourceSize, TargetSize int64 // of the archives
	SourceUUID, TargetUUID string
	// Support says what the target needs of those who apply it.
	Support DeltaSupport
	// Resources are those of the target in the order of the archive.
	Resources []DiffResource
}

// DiffAction is what Diff did with a resource.
type DiffAction string

// The actions of Diff.
const (
	DiffKept    DiffAction = "kept"    // it is there in full
	DiffPatched DiffAction = "patched" // a delta is in its place
	DiffRemoved DiffAction = "removed" // no upgrade takes it
)

// DiffResource says what became of a resource of the target. All sizes are in
// bytes.
type DiffResource struct {
	Name   string
	Action DiffAction
	// Reason says why a resource with a delta source is there in full.
	Reason string
	// Size is that of the content, SourceSize the same in the source, -1 when
	// it is not there. PatchSize is that of the delta, 0 for none.
	Size, SourceSize, PatchSize int64
	// Full and Delta are what the resource takes in the target and in the delta
	// archive, packed.
	Full, Delta int64

	invalid bool // Reason is about a delta source that cannot work
}

// Diff writes an archive that upgrades devices from the source firmware to the
// target firmware, and to nothing else. It is the target with deltas in place
// of resources that devices can make of what they have. Signature, meta.conf
// and everything else that is kept stay as they are to the last bit, so that
// the delta has the identity of the target and is as much to be trusted.
//
// A resource becomes a delta when every upgrade task that takes it names a
// delta source, the source firmware writes what is read there, and the archive
// gets smaller by it. Upgrade tasks are those whose names begin with "upgrade",
// as programs ask for them; resources that none of them takes are left out, so
// other tasks need the full archive. Without such tasks all that name a delta
// source count, and nothing is left out.
//
// Both archives are verified first, and must be complete. The source is read
// with random access: what it holds compressed is unpacked to memory or, when
// it is large, to a temporary file. Memory is bounded whatever the size of the
// archives, see package vcdiff. The same archives and options give the same
// bytes. Nothing is written to w before all deltas are made; when writing
// fails, w holds part of an archive that is of no use.
//
// When no delta is possible or worth it the error is an *Error of
// ClassNoDelta, with a Reason, and the result still tells about the resources.
// With any other error there is no result.
func Diff(ctx context.Context, source io.ReaderAt, sourceSize int64, target io.ReaderAt, targetSize int64, w io.Writer, o DiffOptions) (*DiffResult, error) {
	level, err := compression(o.Level)
	if err != nil {
		return nil, err
	}
	d := &differ{
		ctx: ctx, level: level,
		source: &diffArchive{what: "source", r: source, size: sourceSize},
		target: &diffArchive{what: "target", r: target, size: targetSize},
		old:    scratch{dir: o.TempDir}, patches: scratch{dir: o.TempDir},
		meter: newProgressMeter(o.Progress, 0, 0, &countingReader{}),
	}
	result, err := d.run(o, w)
	if closeErr := errors.Join(d.old.close(), d.patches.close()); err == nil && closeErr != nil {
		return nil, closeErr
	}
	return result, err
}

// differ makes one delta archive.
type differ struct {
	ctx            context.Context
	level          int
	source, target *diffArchive
	old            scratch // the resource of the source that is being compared with
	patches        scratch // all deltas, packed, one after the other
	meter          *progressMeter
	entries        []diffEntry
	result         *DiffResult
}

// diffEntry is a member of the archive to be written.
type diffEntry struct {
	member writtenMember
	header []byte // what comes before body
	body   *io.SectionReader
}

func (e *diffEntry) size() int64 { return int64(len(e.header)) + e.body.Size() }

func (d *differ) run(o DiffOptions, w io.Writer) (*DiffResult, error) {
	for _, a := range []*diffArchive{d.source, d.target} {
		if err := a.open(d.ctx, o.PublicKeys, d.meter); err != nil {
			return nil, err
		}
	}
	d.result = &DiffResult{
		SourceSize: d.source.size, TargetSize: d.target.size,
		SourceUUID: d.source.info.UUID, TargetUUID: d.target.info.UUID,
		Support: deltaSupportOf(d.target.conf),
	}
	if len(d.result.Support.Resources) == 0 {
		return d.result, noDelta(ReasonNoSupport, "no task of the target firmware has a delta source")
	}
	p := planDiff(d.source.conf, d.target.conf)
	d.meter.total = d.work(p)
	for _, a := range []*diffArchive{d.source, d.target} {
		if err := a.verify(); err != nil {
			return nil, err
		}
	}
	for i := range d.target.members {
		if err := d.member(&d.target.members[i], p); err != nil {
			return nil, err
		}
	}
	if err := d.judge(); err != nil {
		return d.result, err
	}
	if err := d.write(w); err != nil {
		return nil, err
	}
	d.meter.finish()
	return d.result, nil
}

// work estimates the bytes to read.
func (d *differ) work(p *diffPlan) int64 {
	n := d.source.size + d.target.size
	for _, name := range d.target.names {
		if p.isCandidate(name) {
			n += min(d.target.resources[name].layout.dataSize(), 1<<40)
		}
	}
	return n
}

// member decides about a member of the target.
func (d *differ) member(m *diffMember, p *diffPlan) error {
	if m.name == signatureName || m.name == metaConfName {
		return d.keep(m)
	}
	res := d.target.resources[m.resource()]
	if res == nil {
		return nil // the directory data/, which nothing needs
	}
	r := DiffResource{Name: res.name, Action: DiffRemoved, Size: res.layout.dataSize(), SourceSize: -1, Full: m.comp}
	if old := d.source.resources[res.name]; old != nil {
		r.SourceSize = old.layout.dataSize()
	}
	var err error
	if p.wants(res.name) {
		r.Action, r.Delta = DiffKept, m.comp
		if p.isCandidate(res.name) {
			err = d.candidate(m, res, p, &r)
		}
		if r.Action == DiffKept && err == nil {
			err = d.keep(m)
		}
	}
	d.result.Resources = append(d.result.Resources, r)
	return err
}

// keep takes a member over as it is.
func (d *differ) keep(m *diffMember) error {
	copied, err := d.target.copyOf(d.ctx, m)
	if err != nil {
		return err
	}
	d.entries = append(d.entries, diffEntry{member: copied, body: io.NewSectionReader(d.target.r, m.offset, m.end-m.offset)})
	return nil
}

// judge tells whether the delta is worth it, and how long it will be.
func (d *differ) judge() error {
	patched, problem := false, ""
	for _, r := range d.result.Resources {
		patched = patched || r.Action == DiffPatched
		if r.invalid && problem == "" {
			problem = fmt.Sprintf("'%s' cannot be a delta: %s", r.Name, r.Reason)
		}
	}
	switch {
	case !patched && problem != "":
		return noDelta(ReasonInvalid, "%s", problem)
	case !patched:
		return noDelta(ReasonNoChanges, "no resource gets smaller as a delta")
	}
	z := newZipWriter(io.Discard, d.level)
	for i := range d.entries {
		z.skip(d.entries[i].member, d.entries[i].size())
	}
	if err := z.close(); err != nil {
		return err
	}
	if z.off >= d.target.size {
		return noDelta(ReasonTooLarge, "the delta has %d bytes, the target firmware %d", z.off, d.target.size)
	}
	d.result.Size = z.off
	return nil
}

func noDelta(reason, format string, args ...any) *Error {
	e := errorf(ClassNoDelta, format, args...)
	e.Reason, e.Hint = reason, reason
	return e
}

func (d *differ) write(w io.Writer) error {
	z := newZipWriter(w, d.level)
	for i := range d.entries {
		e := &d.entries[i]
		body := &contextReader{d.ctx, io.MultiReader(bytes.NewReader(e.header), e.body)}
		if err := z.put(e.member, body, e.size()); err != nil {
			return err
		}
	}
	return z.close()
}
