package link

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ganglion-iot/ganglion/fwup"
)

// What is in the cache ends with one of these: the names come from the server,
// and must not be those of other things in the directory.
const (
	partial  = ".fw.partial" // a file
	partsDir = ".fw.parts"   // a directory with parts
)

// viaCache downloads the whole file, verifies everything and only then touches
// the device.
//
// Of what is in the cache after a power cut nothing is trusted: parts are
// verified again before they are used, and a file as a whole before it is
// applied. So it is made durable for the sake of not downloading it again, and
// not for being right.
func (j *job) viaCache(ctx context.Context) error {
	if err := os.MkdirAll(j.opts.CacheDir, 0o700); err != nil {
		return ofCache(fmt.Errorf("make the directory: %w", err))
	}
	name := filepath.Join(j.opts.CacheDir, cacheName(j.offer.Firmware.UUID))
	parts := j.opts.Strategy != Caching && j.hasParts()
	keep := name + partial
	if parts {
		keep = name + partsDir
	}
	if err := clearCache(j.opts.CacheDir, keep); err != nil {
		return ofCache(err)
	}
	if parts {
		return j.inParts(ctx, keep)
	}
	return j.cached(ctx, name+partial)
}

// cached downloads into one file. What an earlier run left may be damaged, by
// a power cut or as another file of the same name: then one fresh download
// decides.
func (j *job) cached(ctx context.Context, name string) error {
	for again := false; ; again = true {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return ofCache(err)
		}
		resumed, good, err := j.fetchAndApply(ctx, f)
		f.Close()
		if err != nil && (good || ctx.Err() != nil) {
			return err // the next run goes on with the file
		}
		// Applied, or not worth keeping: the next try starts from nothing.
		if rmErr := os.Remove(name); rmErr != nil {
			j.opts.Logger.Warn("could not clear the cache", "error", rmErr)
		}
		damaged := errors.Is(err, errChecksum) || err != nil && j.offer.Checksum == "" && !useless(err)
		if !damaged || !resumed || again {
			return err
		}
		j.opts.Logger.Warn("the file in the cache is damaged; downloading it again", "firmware.uuid", j.offer.Firmware.UUID, "error", err)
	}
}

// fetchAndApply completes the file and applies it. It reports whether a part
// of the file was there before, and after an error whether the file is good to
// go on with.
func (j *job) fetchAndApply(ctx context.Context, f *os.File) (resumed, good bool, err error) {
	fetch := fileDownload{
		url: j.offer.URL, size: j.offer.Size, opts: j.opts.Download, log: j.opts.Logger, started: j.downloadStarted,
		tell: func(percent int) { j.progress(j.offer, Downloading, percent) },
	}
	if resumed, err = fetch.into(ctx, f); err != nil {
		return false, !useless(err), err
	}
	if err := checkSum(ctx, f, j.offer.Checksum); err != nil {
		return resumed, false, err
	}
	good, err = j.applyFile(ctx, f)
	return resumed, good, err
}

// applyFile verifies a complete download and writes it. After an error it
// reports whether the file is good all the same: the target is broken.
func (j *job) applyFile(ctx context.Context, f io.ReadSeeker) (good bool, err error) {
	if err := rewind(f); err != nil {
		return false, err
	}
	info, err := fwup.ReadMetadata(bufio.NewReaderSize(f, 64<<10), j.keys)
	if err != nil {
		return false, err
	}
	if err := fits(info.Metadata, j.offer.Firmware, j.running); err != nil {
		return false, err
	}
	if err := rewind(f); err != nil {
		return false, err
	}
	return j.write(ctx, f, true)
}

// clearCache removes what earlier offers left in the cache, except the entry
// keep. Entries that are not of a download stay: somebody may have named a
// directory that has more in it.
func clearCache(dir, keep string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("clear: %w", err)
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		ours := strings.HasSuffix(name, partial)
		if e.IsDir() {
			ours = strings.HasSuffix(name, partsDir) && isPartsDir(name)
		}
		if name == keep || !ours {
			continue
		}
		if err := os.RemoveAll(name); err != nil {
			return fmt.Errorf("clear: %w", err)
		}
	}
	return nil
}

// cacheName makes a file name of a uuid that came over the wire.
func cacheName(uuid string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '_'
	}, uuid[:min(len(uuid), maxUUID)])
}
