package fwup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// noise returns bytes that do not compress, the same for the same seed.
func noise(seed uint64, n int) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return b
}

// lightlyChanged returns a copy with a few bytes changed and some inserted.
func lightlyChanged(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/3] ^= 1
	at := len(b) / 2
	return append(append(bytes.Clone(b[:at]), "inserted"...), b[at:]...)
}

const (
	rawSource = "delta-source-raw-offset = 64\ndelta-source-raw-count = 64\n"
	fatSource = "delta-source-fat-offset = 64\ndelta-source-fat-path = \"old\"\n"
	crypto    = `, "cipher=aes-cbc-plain", "secret=\${KEY}"`
	keyOption = "delta-source-raw-options = \"cipher=aes-cbc-plain,secret=\\${KEY}\"\n"
)

// TestDiffPlan makes deltas between firmwares of one resource, r, of which the
// content changes little. A resource z changes like it where there are two.
func TestDiffPlan(t *testing.T) {
	old := noise(1, 20<<10)
	files := map[string][]byte{"old": old, "new": lightlyChanged(old), "other": noise(2, 20<<10), "small": []byte("twenty-one bytes long"), "none": nil}
	resource := func(name, file string) string {
		return fmt.Sprintf("file-resource %s { host-path = %q }\n", name, file)
	}
	task := func(name, inside string) string { return "task " + name + " {\n" + inside + "\n}\n" }
	on := func(name, inside string) string { return "on-resource " + name + " {\n" + inside + "\n}\n" }
	plain := resource("r", "old") + task("complete", on("r", "raw_write(64)"))
	upgrade := task("upgrade", on("r", rawSource+"raw_write(128)"))
	for _, c := range []struct {
		name, source, target string
		want                 string // action and reason of r, or the reason of the error
	}{
		{"raw", plain, resource("r", "new") + upgrade, "patched"},
		{"FAT", resource("r", "old") + task("complete", on("r", "fat_write(64, old)")), resource("r", "new") + task("upgrade", on("r", fatSource+"fat_write(64, new)")), "patched"},
		{"at the top", strings.ReplaceAll(plain, " r ", " /r "), strings.ReplaceAll(resource("r", "new")+upgrade, " r ", " /r "), "patched"},
		{"not changed", plain, resource("r", "old") + upgrade, "patched"},
		{"encrypted", strings.ReplaceAll(plain, "(64)", "(64"+crypto+")"), resource("r", "new") + task("upgrade", on("r", rawSource+keyOption+"raw_write(128"+crypto+")")), "patched"},
		{"encrypted, in one argument", strings.ReplaceAll(plain, "(64)", `(64, "cipher=aes-cbc-plain,secret=\${KEY}")`), resource("r", "new") + task("upgrade", on("r", rawSource+keyOption+"raw_write(128"+crypto+")")), "patched"},
		{"two slots", plain, resource("r", "new") + task("upgrade.a", on("r", rawSource+"raw_write(128)")) + task("upgrade.b", on("r", strings.ReplaceAll(rawSource, "= 64", "= 128")+"raw_write(64)")), "patched"},
		{"tasks that are not called upgrade", plain, resource("r", "new") + task("complete", on("r", "raw_write(64)")) + task("next", on("r", rawSource+"raw_write(128)")), "patched"},

		{"no delta source", plain, resource("r", "new") + task("upgrade", on("r", "raw_write(128)")), ReasonNoSupport},
		{"not in the source", resource("q", "old") + task("complete", on("q", "raw_write(64)")), resource("r", "new") + upgrade, ReasonNoChanges + " it is not in the source firmware"},
		{"nothing in common", plain, resource("r", "other") + upgrade, ReasonNoChanges + " not smaller than the full resource"},
		{"short", plain, resource("r", "small") + upgrade, ReasonNoChanges + " it is too short"},
		{"empty", plain, resource("r", "none") + upgrade, ReasonNoChanges + " it is too short"},
		{"empty in the source", strings.ReplaceAll(plain, `"old"`, `"none"`), resource("r", "new") + upgrade, ReasonNoChanges + " it is empty in the source firmware"},
		{"no upgrade takes it", plain, resource("r", "new") + task("next", on("r", rawSource+"raw_write(128)")) + task("upgrade", ""), ReasonNoChanges},
		{"a slot without", plain, resource("r", "new") + task("upgrade.a", on("r", rawSource+"raw_write(128)")) + task("upgrade.b", on("r", "raw_write(64)")), ReasonNoChanges + " a task that takes it has no delta source"},
		{"2 GiB", plain, resource("r", "new") + strings.ReplaceAll(upgrade, "count = 64", "count = 4194304"), ReasonNoChanges + " a delta source of 4194304 blocks is more than fwup can take"},
		{"a block less", plain, resource("r", "new") + strings.ReplaceAll(upgrade, "count = 64", "count = 4194303"), "patched"},

		{"written to FAT, read raw", resource("r", "old") + task("complete", on("r", "fat_write(64, old)")), resource("r", "new") + upgrade, ReasonInvalid + " the source firmware does not write it raw"},
		{"written raw, read from FAT", plain, resource("r", "new") + task("upgrade", on("r", fatSource+"fat_write(64, new)")), ReasonInvalid + " the source firmware does not write it to a FAT file system"},
		{"encrypted, and no key", strings.ReplaceAll(plain, "(64)", "(64"+crypto+")"), resource("r", "new") + upgrade, ReasonInvalid + " the source firmware writes it encrypted, and the delta source has no cipher and secret"},
		{"plain, and a key", plain, resource("r", "new") + task("upgrade", on("r", rawSource+keyOption+"raw_write(128"+crypto+")")), ReasonInvalid + " the delta source is encrypted, and the source firmware writes it plain"},
		{"over itself", plain, resource("r", "new") + task("upgrade", on("r", rawSource+"raw_write(64)")), ReasonInvalid + " " + overwritten},
		{"over its last block", plain, resource("r", "new") + task("upgrade", on("r", rawSource+"raw_write(103)")), ReasonInvalid + " " + overwritten},
		{"behind its last block", plain, resource("r", "new") + task("upgrade", on("r", rawSource+"raw_write(104)")), "patched"},
		{"from the block before", plain, resource("r", "new") + task("upgrade", on("r", rawSource+"raw_write(24)")), ReasonInvalid + " " + overwritten},
		{"up to the block before", plain, resource("r", "new") + task("upgrade", on("r", rawSource+"raw_write(23)")), "patched"},
		{"over its own file", resource("r", "old") + task("complete", on("r", "fat_write(64, old)")), resource("r", "new") + task("upgrade", on("r", fatSource+"fat_write(64, \"/OLD\")")), ReasonInvalid + " " + overwritten},
		{"half a source", plain, resource("r", "new") + task("upgrade", on("r", "delta-source-raw-count = 64\nraw_write(128)")), ReasonInvalid + " a delta source lacks some of its options"},
	} {
		t.Run(c.name, func(t *testing.T) {
			source, target := build(t, c.source, files), build(t, c.target, files)
			delta, result, err := diff(t, source, target, DiffOptions{})
			var e *Error
			switch {
			case errors.As(err, &e) && e.Class == ClassNoDelta:
				if len(delta) > 0 || result == nil || result.Size != 0 {
					t.Errorf("%d bytes were written, result %+v", len(delta), result)
				}
				got := e.Reason
				if len(result.Resources) == 1 {
					got = strings.TrimSpace(got + " " + result.Resources[0].Reason)
				}
				if got != c.want {
					t.Errorf("%s: %v, want %s", got, err, c.want)
				}
			case err != nil:
				t.Fatal(err)
			default:
				if got := string(result.Resources[0].Action); got != c.want {
					t.Errorf("%s (%s), want %s", got, result.Resources[0].Reason, c.want)
				}
				checkDelta(t, source, target, delta, result)
			}
		})
	}
}

// checkDelta compares a delta archive with what it is made of.
func checkDelta(tb testing.TB, source, target, delta []byte, result *DiffResult) {
	tb.Helper()
	if len(delta) >= len(target) || result.Size != int64(len(delta)) {
		tb.Errorf("%d bytes, result %d, the target has %d", len(delta), result.Size, len(target))
	}
	was, is := membersOf(tb, target), membersOf(tb, delta)
	left := len(is)
	for _, name := range []string{signatureName, metaConfName} {
		if was[name] != is[name] {
			tb.Errorf("%s is not as it was", name)
		}
		if is[name] != "" {
			left--
		}
	}
	for _, r := range result.Resources {
		name := memberName(r.Name)
		switch r.Action {
		case DiffRemoved:
			if is[name] != "" {
				tb.Errorf("%s was not removed", name)
			}
			continue
		case DiffKept:
			if is[name] != was[name] {
				tb.Errorf("%s is not as it was", name)
			}
		case DiffPatched:
			patch := contentOf(tb, delta, name)
			if int64(len(patch)) != r.PatchSize || len(is[name]) >= len(was[name]) {
				tb.Errorf("%s: the delta has %d bytes, the result says %d", name, len(patch), r.PatchSize)
			}
			if got := patched(tb, contentOf(tb, source, name), patch); !bytes.Equal(got, contentOf(tb, target, name)) {
				tb.Errorf("%s: the delta makes something else", name)
			}
		}
		left--
	}
	if left != 0 {
		tb.Errorf("%d members more than resources", left)
	}
}
