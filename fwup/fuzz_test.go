package fwup

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"
)

// seeds are archives of every shape.
func seeds(f *testing.F) {
	f.Helper()
	for _, o := range outcomes {
		f.Add(recordedArchive(f, o.name))
	}
	f.Add(packedArchive(f, withResource, "data/", "", "data/x", ""))
	for _, s := range []zipShape{
		{deflate: true, descriptor: "bare"}, {descriptor: "signed", wide: true}, {deflate: true, known: true, wide: true},
		{descriptor: "bare", known: true}, {deflate: true, descriptor: "signed", wide: true},
	} {
		f.Add(append(s.member(metaConfName, []byte(withResource)), s.member("data/x", nil)...))
	}
}

type fuzzMember struct {
	name    string
	content []byte
}

// readMembers reads all members and returns how the archive ended.
func readMembers(tb testing.TB, r io.Reader) (members []fuzzMember, err error) {
	z := newZipReader(tb.Context(), r, 4096)
	for {
		m, err := z.next()
		if err != nil {
			return members, err
		}
		content, err := io.ReadAll(io.LimitReader(m, 1<<20))
		members = append(members, fuzzMember{m.name, content})
		if err != nil {
			return members, err
		}
	}
}

// FuzzZipReader looks for input that makes the reader panic or read other
// bytes when they arrive one by one.
func FuzzZipReader(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		members, err := readMembers(t, bytes.NewReader(b))
		again, err2 := readMembers(t, iotest.OneByteReader(bytes.NewReader(b)))
		if err.Error() != err2.Error() || !slices.EqualFunc(members, again, func(a, b fuzzMember) bool {
			return a.name == b.name && bytes.Equal(a.content, b.content)
		}) {
			t.Fatalf("%v, byte by byte %v", err, err2)
		}
		var broken *Error
		if !errors.Is(err, io.EOF) && (!errors.As(err, &broken) || broken.Class != ClassZip) {
			t.Fatalf("%v", err)
		}
	})
}

// FuzzVerify looks for archives that pass strict verification and that a
// reader of the central directory takes for something else, or that fail with
// an error that has no class.
func FuzzVerify(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var known *Error
		_, err := Verify(t.Context(), bytes.NewReader(b), VerifyOptions{})
		if err != nil && !errors.As(err, &known) {
			t.Fatalf("%v", err)
		}
		_, strict := Verify(t.Context(), bytes.NewReader(b), VerifyOptions{Strict: true})
		if strict != nil {
			if !errors.As(strict, &known) {
				t.Fatalf("strict: %v", strict)
			}
			return
		}
		if err != nil {
			t.Fatalf("passes strictly, but else: %v", err)
		}
		sameCentrally(t, b)
		if _, err := Apply(t.Context(), bytes.NewReader(b), NewFixedMemoryDevice(1<<20), ApplyOptions{Task: ""}); err != nil && !errors.As(err, &known) {
			t.Fatalf("apply: %v", err)
		}
	})
}

// sameCentrally reads the archive by its central directory and compares.
func sameCentrally(t *testing.T, b []byte) {
	members, err := readMembers(t, bytes.NewReader(b))
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		t.Fatalf("by its central directory: %v", err)
	}
	if len(r.File) != len(members) {
		t.Fatalf("%d members, %d by the central directory", len(members), len(r.File))
	}
	for i, file := range r.File {
		content, err := file.Open()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.LimitReader(content, 1<<20))
		if err != nil {
			t.Fatal(err)
		}
		if file.Name != members[i].name || !bytes.Equal(got, members[i].content) {
			t.Fatalf("member %q is %q by the central directory", members[i].name, file.Name)
		}
	}
}
