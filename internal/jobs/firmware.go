package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/blob"
)

// firmwareArgs name a firmware that was uploaded.
type firmwareArgs struct {
	FirmwareID int64 `json:"firmware_id"`
}

// Kind implements river.JobArgs.
func (firmwareArgs) Kind() string { return "firmware_uploaded" }

// InsertOpts implements river.JobArgsWithInsertOpts: a firmware waits once,
// and may be handed over again when the work on it ended.
func (firmwareArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: []rivertype.JobState{
		rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable, rivertype.JobStateRunning, rivertype.JobStateScheduled,
	}}}
}

// FirmwareUploaded implements control.Enqueuer.
func (j *Jobs) FirmwareUploaded(ctx context.Context, firmwareID int64) error {
	j.starting.RLock()
	defer j.starting.RUnlock()
	if _, err := j.client.Insert(ctx, firmwareArgs{FirmwareID: firmwareID}, nil); err != nil {
		return fleet.Errorf(fleet.Unavailable, "the job queue takes no work: %w", err)
	}
	return nil
}

type firmwareWorker struct {
	river.WorkerDefaults[firmwareArgs]
	jobs *Jobs
}

// Work implements river.Worker.
func (w *firmwareWorker) Work(ctx context.Context, job *river.Job[firmwareArgs]) error {
	return w.jobs.processFirmware(ctx, job.Args.FirmwareID)
}

// processFirmware computes the checksums of the parts of a firmware and makes
// it ready. A firmware that is ready or gone needs nothing.
func (j *Jobs) processFirmware(ctx context.Context, id int64) error {
	f, err := j.control.FirmwareToProcess(ctx, j.scope, id)
	if fleet.KindOf(err) == fleet.NotFound {
		return nil
	}
	if err != nil || f.Status == fleet.FirmwareReady {
		return err
	}
	parts, err := partChecksums(ctx, j.blob, f)
	if err != nil {
		return fmt.Errorf("firmware %s: %w", f.UUID, err)
	}
	err = j.control.FirmwareProcessed(ctx, j.scope, id, parts)
	if fleet.KindOf(err) == fleet.NotFound {
		return nil
	}
	return err
}

// partChecksums reads the bytes of a firmware once and returns the SHA-256 of
// each part. It refuses bytes that are not the ones published.
func partChecksums(ctx context.Context, blobs blob.Store, f fleet.Firmware) (parts []string, err error) {
	r, _, err := blobs.Open(ctx, f.BlobKey())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	whole, part := sha256.New(), sha256.New()
	buf := make([]byte, 64<<10)
	for {
		part.Reset()
		n, err := copyPart(ctx, io.MultiWriter(whole, part), r, buf)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			parts = append(parts, hex.EncodeToString(part.Sum(nil)))
		}
		if n < fleet.PartSize {
			break
		}
	}
	if sum := hex.EncodeToString(whole.Sum(nil)); sum != f.SHA256 {
		return nil, fleet.Errorf(fleet.Internal, "the stored bytes have the checksum %s, not %s", sum, f.SHA256)
	}
	return parts, nil
}

// copyPart copies at most one part, and less only at the end.
func copyPart(ctx context.Context, w io.Writer, r io.Reader, buf []byte) (n int64, err error) {
	r = io.LimitReader(r, fleet.PartSize)
	for {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		m, err := r.Read(buf)
		n += int64(m)
		if _, e := w.Write(buf[:m]); e != nil {
			return n, e
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
