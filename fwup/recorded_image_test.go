package fwup

import (
	"compress/gzip"
	"io"
	"os"
	"testing"
)

// recordedImage returns an image that fwup 1.16 wrote.
func recordedImage(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open("fwupcli/testdata/img/" + name + ".img.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
