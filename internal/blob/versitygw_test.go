package blob

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ganglion-iot/ganglion/internal/blob/blobtest"
)

var buckets atomic.Int64

// The gateway is started by the first test that needs it.
var gateway struct {
	once sync.Once
	*blobtest.Gateway
	err error
}

// TestMain ends the S3 server that the tests share.
func TestMain(m *testing.M) {
	code := m.Run()
	if gateway.Gateway != nil {
		if err := gateway.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// openTestS3 returns a store in a new bucket.
func openTestS3(t testing.TB) *S3 {
	t.Helper()
	gateway.once.Do(func() { gateway.Gateway, gateway.err = blobtest.Open() })
	if gateway.err != nil {
		blobtest.Skip(t, gateway.err)
	}
	s, err := OpenS3(t.Context(), testS3(t, gateway.Endpoint, fmt.Sprintf("test-%d", buckets.Add(1))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func testS3(t testing.TB, endpoint, bucket string) S3Options {
	return S3Options{
		Endpoint: endpoint, Region: blobtest.Region, Bucket: bucket, AccessKey: blobtest.AccessKey, SecretKey: blobtest.SecretKey, StageDir: t.TempDir(),
	}
}
