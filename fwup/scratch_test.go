package fwup

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
)

func TestScratch(t *testing.T) {
	content := noise(7, 3*scratchMemory/2)
	s := scratch{dir: t.TempDir()}
	for _, size := range []int{0, 1, 1000, scratchMemory, scratchMemory + 1, len(content), 1000} {
		s.truncate(0)
		if _, err := io.CopyBuffer(&s, struct{ io.Reader }{bytes.NewReader(content[:size])}, make([]byte, 10007)); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.NewSectionReader(&s, 0, 1<<40))
		if err != nil || !bytes.Equal(got, content[:size]) {
			t.Errorf("%d bytes: read %d, %v", size, len(got), err)
		}
		if (size > scratchMemory) && s.file == nil {
			t.Errorf("%d bytes are still in memory", size)
		}
	}
	s.truncate(10)
	p := make([]byte, 20)
	for _, off := range []int64{-1, 10, 1 << 40} {
		if n, err := s.ReadAt(p, off); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("at %d: %d, %v", off, n, err)
		}
	}
	if n, err := s.ReadAt(p, 4); n != 6 || !errors.Is(err, io.EOF) || !bytes.Equal(p[:6], content[4:10]) {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := s.ReadAt(p[:6], 4); n != 6 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(s.dir); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}
