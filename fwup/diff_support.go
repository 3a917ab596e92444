package fwup

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
)

// DeltaSupport says what the head of an archive promises about deltas that
// lead to it, and what programs need that apply them.
type DeltaSupport struct {
	// RawDeltas and FATDeltas report resources that devices can make of a part
	// of the disk, or of a file in a FAT file system.
	RawDeltas, FATDeltas bool
	// Encryption reports resources that are written encrypted, EncryptedDeltas
	// those among them that devices can make of an encrypted part of the disk.
	Encryption, EncryptedDeltas bool
	// RequiredVersion is the version of fwup that the archive itself asks for,
	// "" for none. CompleteVersion is the one that applying it takes, and
	// DeltaVersion the one that applying a delta to it takes.
	RequiredVersion, CompleteVersion, DeltaVersion string
	// BlockCacheSize is the cache the archive asks devices for, in MiB; 0 when
	// it does not.
	BlockCacheSize int64
	// Resources names what has a delta source in some task, in the order of the
	// configuration. Not every delta source can be used: see Diff.
	Resources []string
}

// Updatable reports whether a delta to the archive may be possible.
func (s *DeltaSupport) Updatable() bool { return s.RawDeltas || s.FATDeltas }

// The versions of fwup that brought what archives use.
var (
	versionAny             = fwupVersion{numbers: [3]int{0, 2, 0}}
	versionEncryption      = fwupVersion{numbers: [3]int{1, 5, 0}}
	versionRawDeltas       = fwupVersion{numbers: [3]int{1, 6, 0}}
	versionFATDeltas       = fwupVersion{numbers: [3]int{1, 10, 0}}
	versionEncryptedDeltas = fwupVersion{numbers: [3]int{1, 13, 0}}
)

// ReadDeltaSupport reads the head of an archive, as ReadMetadata does, and
// tells what it says about deltas.
func ReadDeltaSupport(r io.Reader, keys []PublicKey) (*DeltaSupport, error) {
	a, err := openArchive(context.Background(), r, archiveOptions{keys: keys, buffer: 4096})
	if err != nil {
		return nil, err
	}
	s := deltaSupportOf(a.conf)
	return &s, nil
}

func deltaSupportOf(conf *section) DeltaSupport {
	var s DeltaSupport
	all := writesOf(conf)
	for _, name := range resourceNames(conf) {
		w := all[name]
		if w == nil {
			continue
		}
		raw := w.rawDelta()
		s.RawDeltas = s.RawDeltas || raw
		s.FATDeltas = s.FATDeltas || w.fatWrite && w.fatOffset && w.fatPath
		s.Encryption = s.Encryption || w.rawCipher && w.rawSecret
		s.EncryptedDeltas = s.EncryptedDeltas || raw && w.rawCipher
		if w.anySource {
			s.Resources = append(s.Resources, name)
		}
	}
	s.versions(conf)
	if conf.has("block-cache-size-mb") {
		if n, err := conf.integer("block-cache-size-mb"); err == nil {
			s.BlockCacheSize = max(0, n)
		}
	}
	return s
}

// versions finds the versions of fwup that are needed.
func (s *DeltaSupport) versions(conf *section) {
	required := versionAny
	if conf.has("require-fwup-version") {
		s.RequiredVersion = conf.str("require-fwup-version")
		if v, ok := parseFwupVersion(s.RequiredVersion); ok {
			required = v
		}
	}
	complete := later(required, versionAny)
	if s.Encryption {
		complete = later(complete, versionEncryption)
	}
	delta := later(complete, versionRawDeltas)
	if s.FATDeltas {
		delta = later(delta, versionFATDeltas)
	}
	if s.EncryptedDeltas {
		delta = later(delta, versionEncryptedDeltas)
	}
	s.CompleteVersion, s.DeltaVersion = complete.String(), delta.String()
}

func later(v, w fwupVersion) fwupVersion {
	if v.compare(w) < 0 {
		return w
	}
	return v
}

func (v fwupVersion) String() string {
	s := fmt.Sprintf("%d.%d.%d", v.numbers[0], v.numbers[1], v.numbers[2])
	if v.prerelease != "" {
		s += "-" + v.prerelease
	}
	return s
}

// writes says how tasks write a resource and where it could be made from.
type writes struct {
	rawWrite, rawCipher, rawSecret bool // raw_write, with encryption
	fatWrite                       bool

	rawOffset, rawCount, fatOffset, fatPath bool // the options of a delta source that are set,
	optCipher, optSecret                    bool // and of its encryption
	anySource                               bool
}

// rawDelta reports whether there is all it takes to make the resource of a
// part of the disk. An encrypted one takes the key of the old content too.
func (w *writes) rawDelta() bool {
	return w.rawWrite && w.rawOffset && w.rawCount && (!w.rawCipher || w.rawSecret && w.encryptedSource())
}

func (w *writes) encryptedSource() bool { return w.optCipher && w.optSecret }

// writesOf gathers over all tasks what they do with each resource.
func writesOf(conf *section) map[string]*writes {
	all := map[string]*writes{}
	for _, t := range conf.sections("task") {
		for _, on := range t.sections("on-resource") {
			w := all[on.title]
			if w == nil {
				w = &writes{}
				all[on.title] = w
			}
			w.add(on)
		}
	}
	return all
}

// add takes an on-resource into account.
func (w *writes) add(on *section) {
	for name, found := range map[string]*bool{
		"delta-source-raw-offset": &w.rawOffset, "delta-source-raw-count": &w.rawCount,
		"delta-source-fat-offset": &w.fatOffset, "delta-source-fat-path": &w.fatPath,
	} {
		if on.has(name) {
			*found, w.anySource = true, true
		}
	}
	if on.has("delta-source-raw-options") {
		options := on.str("delta-source-raw-options")
		w.optCipher = w.optCipher || strings.Contains(options, "cipher=")
		w.optSecret = w.optSecret || strings.Contains(options, "secret=")
		w.anySource = true
	}
	// Calls that are garbled fail on the device, and only there.
	calls, err := parseCalls(on.list("funlist"))
	if err != nil {
		return
	}
	for _, c := range calls {
		switch c[0] {
		case "raw_write":
			w.rawWrite = true
			w.rawCipher = w.rawCipher || hasOption(c, "cipher=")
			w.rawSecret = w.rawSecret || hasOption(c, "secret=")
		case "fat_write":
			w.fatWrite = true
		}
	}
}

// hasOption looks for an option of a call. Several may share an argument.
func hasOption(c call, name string) bool {
	return slices.ContainsFunc(c[1:], func(arg string) bool { return strings.Contains(arg, name) })
}

func resourceNames(conf *section) []string {
	var names []string
	for _, r := range conf.sections("file-resource") {
		names = append(names, r.title)
	}
	return names
}
