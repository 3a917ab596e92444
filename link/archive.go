package link

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ganglion-iot/ganglion/fwup"
)

// Archives says where archives go and who must have signed them.
type Archives struct {
	// Dir takes the files. It is made when it is missing. A file has the name
	// that the server gives it; while it arrives ".download" is added. Only such
	// unfinished files are ever removed: the others are the Client's.
	Dir string
	// PublicKeys are pinned: only archives signed by one of them are taken.
	// Without any, those of Options.PublicKeys are. With RequestKeys, or when
	// there is no key at all, the keys of the server count as well.
	PublicKeys  []fwup.PublicKey
	RequestKeys bool
}

// unfinished ends the name of an archive that is not complete.
const unfinished = ".download"

// minArchiveDelay is the least time a Client can put an archive off.
const minArchiveDelay = time.Second

// errNoArchiveKeys is the refusal of an archive that could not be verified.
var errNoArchiveKeys = errors.New("refusing an unverified archive: no public keys available")

// archiver takes archives, one after the other. Offers may come at any time
// and as often as the server likes; of those that wait the newest counts.
type archiver struct {
	opts   Options
	offers chan Archive
	taken  string // uuid of the archive that ArchiveReady took last; of run

	mu   sync.Mutex
	keys []fwup.PublicKey
}

// newArchiver returns nil when no archives are wanted.
func newArchiver(o Options) *archiver {
	if o.Archives == nil {
		return nil
	}
	a := &archiver{opts: o, offers: make(chan Archive, 1)}
	a.keys = append(a.keys, a.pinned()...)
	return a
}

// pinned are the keys that need no server.
func (a *archiver) pinned() []fwup.PublicKey {
	if own := a.opts.Archives.PublicKeys; len(own) > 0 {
		return own
	}
	return a.opts.PublicKeys
}

// asksForKeys reports whether the keys of the server are wanted.
func (a *archiver) asksForKeys() bool {
	return a != nil && (a.opts.Archives.RequestKeys || len(a.pinned()) == 0)
}

// setKeys takes the archive keys of the server, if it was asked for them. An
// empty list changes nothing.
func (a *archiver) setKeys(payload []byte) {
	if !a.asksForKeys() {
		return
	}
	keys, err := parseKeys(payload)
	if err != nil {
		a.opts.Logger.Warn("archive keys not understood", "error", err)
	}
	if len(keys) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys = append(keys, a.pinned()...)
}

func (a *archiver) publicKeys() []fwup.PublicKey {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.keys
}

// offer takes the payload of an archive event. It does not block.
func (a *archiver) offer(payload []byte) {
	if a == nil {
		return
	}
	o, err := parseArchive(payload)
	if err != nil {
		a.opts.Logger.Warn("archive not understood", "error", err)
		return
	}
	for {
		select {
		case a.offers <- o:
			return
		default:
		}
		select {
		case <-a.offers: // an older one that nobody took up yet
		default:
		}
	}
}

// parseArchive reads the payload of an archive event.
func parseArchive(payload []byte) (Archive, error) {
	var p struct {
		UUID         string `json:"uuid"`
		URL          string `json:"url"`
		Version      string `json:"version"`
		Platform     string `json:"platform"`
		Architecture string `json:"architecture"`
		Description  string `json:"description"`
		Size         int64  `json:"size"`
		UploadedAt   string `json:"uploaded_at"`
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		return Archive{}, fmt.Errorf("archive: %w", err)
	}
	if p.UUID == "" || p.URL == "" {
		return Archive{}, errors.New("archive: uuid and url are needed")
	}
	if len(p.UUID) > maxUUID {
		return Archive{}, fmt.Errorf("archive: a uuid of %d bytes", len(p.UUID))
	}
	a := Archive{
		UUID: p.UUID, URL: p.URL, Version: p.Version, Platform: p.Platform, Architecture: p.Architecture,
		Description: p.Description, Size: max(p.Size, 0),
	}
	// Without a zone, as a rule; then it is UTC.
	for _, layout := range []string{"2006-01-02T15:04:05", time.RFC3339} {
		if at, err := time.Parse(layout, p.UploadedAt); err == nil {
			a.UploadedAt = at.UTC()
			break
		}
	}
	return a, nil
}

// run handles offers until ctx ends.
func (a *archiver) run(ctx context.Context) {
	var waiting Archive // until its time has come
	timer := time.NewTimer(0)
	timer.Stop()
	defer timer.Stop()
	for {
		var offer Archive
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			offer, waiting = waiting, Archive{}
		case offer = <-a.offers:
			if offer.UUID == a.taken {
				continue
			}
			if offer.UUID == waiting.UUID {
				waiting = offer // its address is fresher
				continue
			}
			timer.Stop()
			waiting = Archive{}
		}
		if delay := a.handle(ctx, offer); delay > 0 {
			waiting = offer
			timer.Reset(delay)
		}
	}
}

// handle asks about one archive, gets it and hands it over. It returns the time
// to ask again after, or 0.
func (a *archiver) handle(ctx context.Context, offer Archive) time.Duration {
	file := filepath.Join(a.opts.Archives.Dir, archiveName(offer))
	keys := a.publicKeys()
	if len(keys) == 0 {
		a.opts.Client.ArchiveFailed(offer, errNoArchiveKeys)
		return 0
	}
	if checkArchive(ctx, file, offer.UUID, keys) != nil {
		decision := a.opts.Client.ArchiveAvailable(ctx, offer)
		switch decision.Verdict {
		case Ignore:
			return 0
		case Reschedule:
			return max(minArchiveDelay, decision.Delay)
		}
		if err := a.get(ctx, offer, file, keys); err != nil {
			if ctx.Err() == nil {
				a.opts.Client.ArchiveFailed(offer, err)
			}
			return 0
		}
	}
	if err := a.opts.Client.ArchiveReady(ctx, offer, file); err != nil {
		a.opts.Logger.Error("the archive was not taken", "archive.uuid", offer.UUID, "error", err)
		return 0
	}
	a.taken = offer.UUID
	return 0
}

// get downloads an archive. The file has its name only when it is complete,
// verified and durable. What an earlier try left may be damaged: then one fresh
// download decides.
func (a *archiver) get(ctx context.Context, offer Archive, file string, keys []fwup.PublicKey) error {
	if limit := a.opts.Download.MaxSize; offer.Size > limit {
		return refusedDownload(fmt.Sprintf("the file has %d bytes; at most %d are taken", offer.Size, limit))
	}
	if err := a.prepareDir(file); err != nil {
		return err
	}
	for again := false; ; again = true {
		resumed, err := a.download(ctx, offer, file+unfinished)
		if err == nil {
			err = checkArchive(ctx, file+unfinished, offer.UUID, keys)
			if err == nil {
				return errors.Join(os.Rename(file+unfinished, file), syncDir(a.opts.Archives.Dir))
			}
		} else if !useless(err) {
			return err
		} else {
			resumed = false
		}
		if ctx.Err() != nil {
			return err // the next run goes on with the file
		}
		err = errors.Join(err, os.Remove(file+unfinished))
		if !resumed || again {
			return err
		}
		a.opts.Logger.Warn("the unfinished archive is damaged; downloading it again", "archive.uuid", offer.UUID, "error", err)
	}
}

// prepareDir makes the directory and removes other archives that were never
// finished from it.
func (a *archiver) prepareDir(file string) error {
	if err := os.MkdirAll(a.opts.Archives.Dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of archives: %w", err)
	}
	entries, err := os.ReadDir(a.opts.Archives.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := filepath.Join(a.opts.Archives.Dir, e.Name())
		if name == file+unfinished || !strings.HasSuffix(name, unfinished) {
			continue
		}
		if err := os.Remove(name); err != nil {
			return fmt.Errorf("remove an unfinished archive: %w", err)
		}
	}
	return nil
}

// download completes a file. It never tells the server: to it a download is a
// sign of an update.
func (a *archiver) download(ctx context.Context, offer Archive, name string) (resumed bool, err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, err
	}
	defer f.Close()
	fetch := fileDownload{url: offer.URL, size: offer.Size, opts: a.opts.Download, log: a.opts.Logger}
	return fetch.into(ctx, f)
}

// checkArchive verifies that a file is the archive that was offered.
func checkArchive(ctx context.Context, name, uuid string, keys []fwup.PublicKey) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := fwup.Verify(ctx, bufio.NewReaderSize(f, 64<<10), fwup.VerifyOptions{PublicKeys: keys})
	if err != nil {
		return err
	}
	if info.UUID != uuid {
		return fmt.Errorf("the file is archive %s, not the %s that was offered", info.UUID, uuid)
	}
	return nil
}

// maxArchiveName bounds the name of an archive's file, in bytes.
const maxArchiveName = 128

// archiveName is the name of an archive's file: the last part of its address,
// where that is a plain name, and otherwise its uuid.
func archiveName(a Archive) string {
	if u, err := url.Parse(a.URL); err == nil {
		name := path.Base(u.Path)
		plain := strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
		if plain && name[0] != '.' && len(name) <= maxArchiveName && !strings.HasSuffix(name, unfinished) {
			return name
		}
	}
	return cacheName(a.UUID) + ".fw"
}
