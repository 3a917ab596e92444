package fwupcli

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// runWith runs the program and returns its exit status and output.
func runWith(stdin string, args ...string) (exit int, stdout, stderr string) {
	var out, errs bytes.Buffer
	exit = Main(context.Background(), args, strings.NewReader(stdin), &out, &errs)
	return exit, out.String(), errs.String()
}

// runOK runs the program, which has to succeed, and returns its output.
func runOK(t *testing.T, args ...string) string {
	t.Helper()
	exit, stdout, stderr := runWith("", args...)
	if exit != 0 || stderr != "" {
		t.Fatalf("fwup %s: exit status %d\n%s%s", strings.Join(args, " "), exit, stdout, stderr)
	}
	return stdout
}

// copyTo copies a file to a folder of its own.
func copyTo(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), filepath.Base(path))
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

// compareArchive compares an archive with a recorded one.
func compareArchive(t *testing.T, v *vector, path string) {
	t.Helper()
	got := runOK(t, "-m", "-i", path)
	size, lines := 0, false
	for name, value := range v.Metadata {
		line := name + "=" + value + "\n"
		size += len(line)
		// Of a value of several lines only the first one is recorded.
		lines = lines || strings.HasPrefix(value, `"`) && !strings.HasSuffix(value, `"`)
		if !strings.Contains(got, line) {
			t.Errorf("no line %q in the metadata\n%s", line, got)
		}
	}
	if size != len(got) && !lines {
		t.Errorf("more metadata than expected:\n%s", got)
	}
	members := readZip(t, path)
	var names []string
	for _, m := range members {
		names = append(names, m.name)
		switch m.name {
		case "meta.conf":
			if imageHash(m.data) != v.MetaConf {
				t.Errorf("meta.conf differs:\n%s", m.data)
			}
		case "meta.conf.ed25519":
			if hex.EncodeToString(m.data) != v.Sig {
				t.Errorf("signature %x, expected %s", m.data, v.Sig)
			}
		}
	}
	if !slices.Equal(names, v.Entries) {
		t.Errorf("members %v, expected %v", names, v.Entries)
	}
	runOK(t, "-V", "-i", path)
}

type zipMember struct {
	name string
	data []byte
}

func readZip(t *testing.T, path string) []zipMember {
	t.Helper()
	r, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var members []zipMember
	for _, f := range r.File {
		m, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(m)
		if err != nil {
			t.Fatal(err)
		}
		m.Close()
		members = append(members, zipMember{f.Name, data})
	}
	return members
}
