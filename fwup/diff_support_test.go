package fwup

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// build makes an archive of a configuration and its files.
func build(tb testing.TB, conf string, files map[string][]byte) []byte {
	tb.Helper()
	dir := tb.TempDir()
	path := filepath.Join(dir, "fwup.conf")
	err := os.WriteFile(path, []byte(conf), 0o600)
	for name, content := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	if err != nil {
		tb.Fatal(err)
	}
	return create(tb, CreateOptions{ConfigPath: path, Time: recordedTime, Level: 1})
}

func TestDeltaSupport(t *testing.T) {
	const head = "file-resource r { contents = \"content\" }\nfile-resource s { contents = \"content\" }\n"
	const raw, fat = "delta-source-raw-offset = 9 delta-source-raw-count = 8\n", "delta-source-fat-offset = 9 delta-source-fat-path = \"r\"\n"
	const options, cipher = "delta-source-raw-options = \"cipher=aes-cbc-plain,secret=\\${KEY}\"\n", `, "cipher=aes-cbc-plain", "secret=\${KEY}"`
	on := func(name, inside string) string { return "on-resource " + name + " {\n" + inside + "\n}\n" }
	for _, c := range []struct {
		name, conf string
		want       DeltaSupport
	}{
		{"nothing", "task t {\n" + on("r", "raw_write(1)") + "}", DeltaSupport{CompleteVersion: "0.2.0", DeltaVersion: "1.6.0"}},
		{"raw", "task t {\n" + on("r", raw+"raw_write(1)") + "}", DeltaSupport{RawDeltas: true, CompleteVersion: "0.2.0", DeltaVersion: "1.6.0", Resources: []string{"r"}}},
		{"raw, not the first call", "task t {\n" + on("r", raw+"info(x)\nraw_write(1)") + "}", DeltaSupport{RawDeltas: true, CompleteVersion: "0.2.0", DeltaVersion: "1.6.0", Resources: []string{"r"}}},
		{"raw without a count", "task t {\n" + on("r", "delta-source-raw-offset = 9\nraw_write(1)") + "}", DeltaSupport{CompleteVersion: "0.2.0", DeltaVersion: "1.6.0", Resources: []string{"r"}}},
		{"raw over two tasks", "task t {\n" + on("r", raw) + "}\ntask u {\n" + on("r", "raw_write(1)") + "}", DeltaSupport{RawDeltas: true, CompleteVersion: "0.2.0", DeltaVersion: "1.6.0", Resources: []string{"r"}}},
		{"FAT", "task t {\n" + on("s", fat+"fat_write(1, \"s\")") + "}", DeltaSupport{FATDeltas: true, CompleteVersion: "0.2.0", DeltaVersion: "1.10.0", Resources: []string{"s"}}},
		{"FAT among others", "task t {\n" + on("s", fat+"fat_rm(1, \"x\")\nfat_write(1, \"s\")\nfat_touch(1, \"y\")") + "}", DeltaSupport{FATDeltas: true, CompleteVersion: "0.2.0", DeltaVersion: "1.10.0", Resources: []string{"s"}}},
		{"both", "task t {\n" + on("s", fat+"fat_write(1, \"s\")") + on("r", raw+"raw_write(1)") + "}", DeltaSupport{RawDeltas: true, FATDeltas: true, CompleteVersion: "0.2.0", DeltaVersion: "1.10.0", Resources: []string{"r", "s"}}},
		{"encrypted", "task t {\n" + on("r", raw+options+"raw_write(1"+cipher+")") + "}", DeltaSupport{RawDeltas: true, Encryption: true, EncryptedDeltas: true, CompleteVersion: "1.5.0", DeltaVersion: "1.13.0", Resources: []string{"r"}}},
		{"encrypted without the key of the source", "task t {\n" + on("r", raw+"raw_write(1"+cipher+")") + "}", DeltaSupport{Encryption: true, CompleteVersion: "1.5.0", DeltaVersion: "1.6.0", Resources: []string{"r"}}},
		{"encrypted, and another raw", "task t {\n" + on("s", "raw_write(1"+cipher+")") + on("r", raw+"raw_write(1)") + "}", DeltaSupport{RawDeltas: true, Encryption: true, CompleteVersion: "1.5.0", DeltaVersion: "1.6.0", Resources: []string{"r"}}},
		{"a version", "require-fwup-version = 1.12\nblock-cache-size-mb = 3\ntask t {\n" + on("r", raw+"raw_write(1)") + "}", DeltaSupport{RawDeltas: true, RequiredVersion: "1.12", CompleteVersion: "1.12.0", DeltaVersion: "1.12.0", BlockCacheSize: 3, Resources: []string{"r"}}},
	} {
		archive := build(t, head+c.conf, nil)
		// The head is enough.
		got, err := ReadDeltaSupport(bytes.NewReader(archive[:bytes.Index(archive, []byte("data/r"))]), nil)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !slices.Equal(got.Resources, c.want.Resources) {
			t.Errorf("%s: resources %q, want %q", c.name, got.Resources, c.want.Resources)
		}
		if got.Updatable() != (c.want.RawDeltas || c.want.FATDeltas) {
			t.Errorf("%s: updatable is %v", c.name, got.Updatable())
		}
		g, w := *got, c.want
		g.Resources, w.Resources = nil, nil
		if !equalSupport(g, w) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, g, w)
		}
	}
	if _, err := ReadDeltaSupport(strings.NewReader("no archive at all"), nil); classOf(err) != ClassZip {
		t.Error(err)
	}
	if _, err := ReadDeltaSupport(bytes.NewReader(recordedArchive(t, "ab-v2")), []PublicKey{publicKey(t, "a")}); classOf(err) != ClassSignatureMissing {
		t.Error(err)
	}
}

// equalSupport compares all but the resources.
func equalSupport(a, b DeltaSupport) bool {
	return a.RawDeltas == b.RawDeltas && a.FATDeltas == b.FATDeltas && a.Encryption == b.Encryption && a.EncryptedDeltas == b.EncryptedDeltas &&
		a.RequiredVersion == b.RequiredVersion && a.CompleteVersion == b.CompleteVersion && a.DeltaVersion == b.DeltaVersion && a.BlockCacheSize == b.BlockCacheSize
}
