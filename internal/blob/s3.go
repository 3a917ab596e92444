package blob

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/ganglion-iot/ganglion/fleet"
)

// s3Retries is how often a request to S3 is tried; then the caller hears that
// the backend is out of reach.
const s3Retries = 3

// S3Options say where the bucket is and who asks.
type S3Options struct {
	Endpoint  string // host or host:port
	Region    string
	Bucket    string // made if it does not exist
	AccessKey string
	SecretKey string
	Secure    bool   // TLS
	StageDir  string // local directory for uploads under way
}

// S3 keeps objects in a bucket. Uploads are staged on the local disk, for
// their key is known only at the end.
type S3 struct {
	staging
	core   minio.Core
	bucket string
	region string
}

// OpenS3 connects and makes the bucket if it does not exist.
func OpenS3(ctx context.Context, o S3Options) (*S3, error) {
	if o.Endpoint == "" || o.Bucket == "" || o.StageDir == "" {
		return nil, fleet.InvalidField("blob", "S3 needs an endpoint, a bucket and a directory for uploads under way")
	}
	client, err := minio.NewCore(o.Endpoint, &minio.Options{
		Creds:      credentials.NewStaticV4(o.AccessKey, o.SecretKey, ""),
		Secure:     o.Secure,
		Region:     o.Region,
		MaxRetries: s3Retries,
	})
	if err != nil {
		return nil, fleet.Errorf(fleet.Invalid, "S3 endpoint %q: %w", o.Endpoint, err)
	}
	s := &S3{core: *client, bucket: o.Bucket, region: o.Region}
	found, err := client.BucketExists(ctx, o.Bucket)
	if err == nil && !found {
		err = client.MakeBucket(ctx, o.Bucket, minio.MakeBucketOptions{Region: o.Region})
	}
	if err != nil {
		return nil, s.mapError(err, "bucket "+o.Bucket+" at "+o.Endpoint)
	}
	if s.staging, err = openStaging(o.StageDir); err != nil {
		return nil, err
	}
	return s, nil
}

// Close lets go of the staging directory.
func (s *S3) Close() error { return s.root.Close() }

// Stage implements Store.
func (s *S3) Stage(ctx context.Context) (Staged, error) {
	f, err := s.create(ctx)
	if err != nil {
		return nil, err
	}
	return s3Staged{f, s}, nil
}

// Open implements Store. The bytes are asked for at the first read, from
// where the reader then stands.
func (s *S3) Open(ctx context.Context, key string) (io.ReadSeekCloser, Object, error) {
	o, err := s.Stat(ctx, key)
	if err != nil {
		return nil, Object{}, err
	}
	return &s3Reader{ctx: ctx, s3: s, object: o}, o, nil
}

// Stat implements Store.
func (s *S3) Stat(ctx context.Context, key string) (Object, error) {
	if err := CheckKey(key); err != nil {
		return Object{}, err
	}
	info, err := s.core.StatObject(ctx, s.bucket, key, minio.StatObjectOptions{})
	if err != nil {
		return Object{}, s.mapError(err, "look at a file")
	}
	return Object{Key: key, Size: info.Size, ModTime: info.LastModified}, nil
}

// Delete implements Store.
func (s *S3) Delete(ctx context.Context, key string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	err := s.mapError(s.core.RemoveObject(ctx, s.bucket, key, minio.RemoveObjectOptions{}), "remove a file")
	if isMissing(err) {
		return nil
	}
	return err
}

// DeleteStagedBefore implements Store.
func (s *S3) DeleteStagedBefore(ctx context.Context, t time.Time) (int, error) {
	return s.deleteBefore(ctx, t)
}

// Ping implements Store: the bucket is there, and uploads can be staged.
func (s *S3) Ping(ctx context.Context) error {
	found, err := s.core.BucketExists(ctx, s.bucket)
	if err != nil {
		return s.mapError(err, "bucket "+s.bucket)
	}
	if !found {
		return fleet.Errorf(fleet.Unavailable, "the bucket %s is gone", s.bucket)
	}
	return s.probe(ctx)
}

func (s *S3) mapError(err error, doing string) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	response := minio.ToErrorResponse(err)
	switch {
	case response.Code == minio.NoSuchKey, response.StatusCode == http.StatusNotFound && response.Code != minio.NoSuchBucket:
		return &fleet.Error{Kind: fleet.NotFound, Message: "file not found", Err: err}
	case response.StatusCode == http.StatusForbidden:
		return &fleet.Error{Kind: fleet.Unavailable, Message: doing + ": S3 refuses us", Hint: "check the access key, its rights and this machine's clock", Err: err}
	}
	return &fleet.Error{Kind: fleet.Unavailable, Message: doing + ": S3 is out of reach or refuses", Err: err}
}

func isMissing(err error) bool { return fleet.KindOf(err) == fleet.NotFound }

type s3Staged struct {
	*stagedFile
	s3 *S3
}

// Commit uploads the staged file; S3 shows an object only when it is whole.
func (s s3Staged) Commit(ctx context.Context, key string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if s.file == nil {
		return fs.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return mapError(err, "read a staged file")
	}
	_, err := s.s3.core.Client.PutObject(ctx, s.s3.bucket, key, s.file, s.size, minio.PutObjectOptions{ContentType: "application/octet-stream"})
	if err != nil {
		return s.s3.mapError(err, "upload")
	}
	return s.Abort() // the local copy has served
}

// s3Reader reads an object from any position with one request per stretch.
type s3Reader struct {
	ctx    context.Context
	s3     *S3
	object Object
	pos    int64
	body   io.ReadCloser // from pos on; nil before the first read and after a seek
}

func (r *s3Reader) Read(p []byte) (int, error) {
	if r.pos >= r.object.Size {
		return 0, io.EOF
	}
	if r.body == nil {
		var o minio.GetObjectOptions
		if r.pos > 0 {
			if err := o.SetRange(r.pos, 0); err != nil {
				return 0, err
			}
		}
		body, _, _, err := r.s3.core.GetObject(r.ctx, r.s3.bucket, r.object.Key, o)
		if err != nil {
			return 0, r.s3.mapError(err, "download")
		}
		r.body = body
	}
	n, err := r.body.Read(p)
	r.pos += int64(n)
	switch {
	case errors.Is(err, io.EOF) && r.pos < r.object.Size:
		err = io.ErrUnexpectedEOF
	case errors.Is(err, io.EOF) && n > 0:
		err = nil
	}
	return n, err
}

func (r *s3Reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.object.Size
	}
	if offset < 0 {
		return 0, fs.ErrInvalid
	}
	if offset != r.pos {
		r.drop()
	}
	r.pos = offset
	return offset, nil
}

func (r *s3Reader) drop() {
	if r.body != nil {
		r.body.Close()
		r.body = nil
	}
}

func (r *s3Reader) Close() error {
	r.drop()
	return nil
}
