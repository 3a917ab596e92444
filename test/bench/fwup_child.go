package main

import (
	"archive/zip"
	"bufio"
	"compress/flate"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/crypto/blake2b"

	"github.com/ganglion-iot/ganglion/fwup/vcdiff"
)

// bareDeflate hashes a file and then packs it, as much as anyone has to do who
// makes an archive.
func bareDeflate(path, level string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h, err := blake2b.New256(nil)
	if err != nil {
		return err
	}
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	out, err := os.Create(path + ".deflate")
	if err != nil {
		return err
	}
	defer out.Close()
	n, err := strconv.Atoi(level)
	if err != nil {
		return err
	}
	w, err := flate.NewWriter(out, n)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, f); err != nil {
		return err
	}
	return w.Close()
}

// bareInflate unpacks and hashes every member of an archive.
func bareInflate(path string) error {
	in, err := zip.OpenReader(path)
	if err != nil {
		return err
	}
	defer in.Close()
	for _, f := range in.File {
		r, err := f.Open()
		if err != nil {
			return err
		}
		h, err := blake2b.New256(nil)
		if err != nil {
			return err
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{h}, r, make([]byte, 128<<10)); err != nil {
			return errors.Join(err, r.Close())
		}
		if err := r.Close(); err != nil {
			return err
		}
	}
	return nil
}

// encodeChild makes ours.vcdiff of old and new in dir.
func encodeChild(ctx context.Context, dir string) error {
	return withFiles(dir, "new", "ours.vcdiff", func(source *os.File, size int64, in io.Reader, out io.Writer) error {
		return vcdiff.Encode(ctx, out, source, size, in, vcdiff.EncodeOptions{})
	})
}

// decodeChild makes ours.new of old and theirs.vcdiff in dir.
func decodeChild(dir string) error {
	return withFiles(dir, "theirs.vcdiff", "ours.new", func(source *os.File, size int64, in io.Reader, out io.Writer) error {
		_, err := io.Copy(out, vcdiff.NewReader(in, source, size, vcdiff.ReaderOptions{}))
		return err
	})
}

func withFiles(dir, in, out string, fn func(source *os.File, size int64, in io.Reader, out io.Writer) error) error {
	source, err := os.Open(filepath.Join(dir, "old"))
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	r, err := os.Open(filepath.Join(dir, in))
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := os.Create(filepath.Join(dir, out))
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 128<<10)
	return errors.Join(fn(source, info.Size(), r, w), w.Flush(), f.Close())
}

// fileChild runs one of the kinds of child that work on files; ok tells whether
// kind is one.
func fileChild(ctx context.Context, kind, data string) (ok bool, err error) {
	if level, is := strings.CutPrefix(kind, "deflate-"); is {
		return true, bareDeflate(data, level)
	}
	switch kind {
	case "inflate":
		return true, bareInflate(data)
	case "encode":
		return true, encodeChild(ctx, data)
	case "decode":
		return true, decodeChild(data)
	}
	return false, nil
}
