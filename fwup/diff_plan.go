package fwup

import (
	"fmt"
	"strings"
)

const (
	// minDeltaTarget is the shortest resource that is worth a delta: nothing
	// shorter has one that is shorter still.
	minDeltaTarget = 22 // bytes
	// maxDeltaBlocks is where the length of a raw delta source stops being
	// understood by fwup 1.16, at 2 GiB.
	maxDeltaBlocks = 1<<31/blockSize - 1
)

// diffPlan says what may become of the resources of the target.
type diffPlan struct {
	tasks    []*section // those that devices run to upgrade
	upgrades bool       // they are named so; if not, any may be run as well
	old      map[string]*writes
}

func planDiff(source, target *section) *diffPlan {
	p := &diffPlan{old: writesOf(source)}
	var sources []*section
	for _, t := range target.sections("task") {
		if strings.HasPrefix(t.title, "upgrade") {
			p.tasks = append(p.tasks, t)
		}
		for _, on := range t.sections("on-resource") {
			var w writes
			if w.add(on); w.anySource {
				sources = append(sources, t)
				break
			}
		}
	}
	if p.upgrades = len(p.tasks) > 0; !p.upgrades {
		p.tasks = sources
	}
	return p
}

// wants reports whether devices need a resource to upgrade.
func (p *diffPlan) wants(name string) bool {
	return !p.upgrades || len(p.uses(name)) > 0
}

// uses returns what the tasks do with a resource.
func (p *diffPlan) uses(name string) []*section {
	var uses []*section
	for _, t := range p.tasks {
		if on := t.section("on-resource", name); on != nil {
			uses = append(uses, on)
		}
	}
	return uses
}

// isCandidate reports whether a task names a delta source for a resource.
func (p *diffPlan) isCandidate(name string) bool {
	for _, on := range p.uses(name) {
		var w writes
		if w.add(on); w.anySource {
			return true
		}
	}
	return false
}

// sourceLimit returns how many bytes of the old content every device can read
// that makes a resource of size bytes of a delta, or why some cannot make it. invalid says
// that this is a mistake in the target, or that the firmwares do not fit.
func (p *diffPlan) sourceLimit(name string, size int64, old *resource) (limit int64, reason string, invalid bool) {
	// Of a resource with holes devices have the data up to the first of them;
	// what is in the holes is anyone's guess.
	if len(old.layout) > 0 {
		limit = old.layout[0]
	}
	was := p.old[name]
	if was == nil {
		was = &writes{}
	}
	for _, on := range p.uses(name) {
		var w writes
		w.add(on)
		count, err := on.integer("delta-source-raw-count")
		switch {
		case err == nil && w.rawOffset && count > 0:
			if count > maxDeltaBlocks {
				return 0, fmt.Sprintf("a delta source of %d blocks is more than fwup can take", count), false
			}
			if reason := was.unlikeRaw(&w); reason != "" {
				return 0, reason, true
			}
			limit = min(limit, count*blockSize)
			if overwritesRaw(on, limit, size) {
				return 0, overwritten, true
			}
		case w.fatOffset && w.fatPath && on.str("delta-source-fat-path") != "":
			if !was.fatWrite {
				return 0, "the source firmware does not write it to a FAT file system", true
			}
			if overwritesFAT(on) {
				return 0, overwritten, true
			}
		case w.anySource:
			return 0, "a delta source lacks some of its options", true
		default:
			return 0, "a task that takes it has no delta source", false
		}
	}
	return limit, "", false
}

// unlikeRaw says why a raw delta source cannot hold what was written, "" when
// it can.
func (w *writes) unlikeRaw(source *writes) string {
	switch {
	case !w.rawWrite:
		return "the source firmware does not write it raw"
	case w.rawCipher && !source.encryptedSource():
		return "the source firmware writes it encrypted, and the delta source has no cipher and secret"
	case !w.rawCipher && (source.optCipher || source.optSecret):
		return "the delta source is encrypted, and the source firmware writes it plain"
	}
	return ""
}

const overwritten = "a task overwrites the old content while it reads it"

// overwritesRaw reports whether the resource is written where the delta source
// is. Offsets that only the device knows are taken for others.
func overwritesRaw(on *section, limit, size int64) bool {
	from, err := on.integer("delta-source-raw-offset")
	if err != nil {
		return false
	}
	for _, at := range callsOf(on, "raw_write", 0) {
		block, err := parseCNumber(at)
		if err == nil && block <= maxBlock && from >= 0 && from <= maxBlock &&
			int64(block) < from+blocksOf(limit) && from < int64(block)+blocksOf(size) {
			return true
		}
	}
	return false
}

func blocksOf(size int64) int64 { return size/blockSize + min(1, size%blockSize) }

// overwritesFAT reports whether the file that a resource is written to is the
// delta source.
func overwritesFAT(on *section) bool {
	offsets, names := callsOf(on, "fat_write", 0), callsOf(on, "fat_write", 1)
	for i, at := range offsets {
		block, err := parseCNumber(at)
		from, err2 := on.integer("delta-source-fat-offset")
		if err == nil && err2 == nil && block <= maxBlock && int64(block) == from &&
			strings.EqualFold(strings.Trim(names[i], "/"), strings.Trim(on.str("delta-source-fat-path"), "/")) {
			return true
		}
	}
	return false
}

// callsOf returns an argument of each call of an action, "" where it lacks.
func callsOf(on *section, action string, argument int) []string {
	calls, err := parseCalls(on.list("funlist"))
	if err != nil {
		return nil
	}
	var values []string
	for _, c := range calls {
		switch {
		case c[0] != action:
		case len(c) > 1+argument:
			values = append(values, c[1+argument])
		default:
			values = append(values, "")
		}
	}
	return values
}
