package fwup

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// FuzzDiff makes deltas between firmwares of any configuration with a resource
// r, of which the content changes little. What is made has to fit what it was
// made of, whatever the tasks are.
func FuzzDiff(f *testing.F) {
	old := noise(9, 3000)
	content := map[string][]byte{"old": old, "new": lightlyChanged(old)}
	firmware := func(tb testing.TB, metaConf, which string) []byte {
		tb.Helper()
		var out bytes.Buffer
		z := newZipWriter(&out, 1)
		err := z.add(metaConfName, methodDeflate, int64(len(metaConf)), time.Time{}, strings.NewReader(metaConf))
		if err == nil {
			err = z.add("data/r", methodStore, int64(len(content[which])), time.Time{}, bytes.NewReader(content[which]))
		}
		if err == nil {
			err = z.close()
		}
		if err != nil {
			tb.Fatal(err)
		}
		return out.Bytes()
	}
	// The hashes come with the seeds.
	seed := func(which, tasks string) string {
		archive := build(f, "file-resource r { host-path = \"r\" }\n"+tasks, map[string][]byte{"r": content[which]})
		return string(contentOf(f, archive, metaConfName))
	}
	for _, tasks := range [][2]string{
		{"task complete { on-resource r { raw_write(64) } }", "task upgrade { on-resource r { " + rawSource + " raw_write(128) } }"},
		{"task complete { on-resource r { fat_write(64, old) } }", "task upgrade.a { on-resource r { " + fatSource + " fat_write(64, new) } }\ntask upgrade.b { }"},
		{"task complete { on-resource r { raw_write(64" + crypto + ") } }", "task next { on-resource r { " + rawSource + keyOption + " raw_write(128" + crypto + ") } }"},
	} {
		f.Add(seed("old", tasks[0]), seed("new", tasks[1]))
	}
	f.Fuzz(func(t *testing.T, sourceConf, targetConf string) {
		source, target := firmware(t, sourceConf, "old"), firmware(t, targetConf, "new")
		var delta bytes.Buffer
		result, err := Diff(t.Context(), bytes.NewReader(source), int64(len(source)), bytes.NewReader(target), int64(len(target)), &delta, DiffOptions{Level: 1})
		switch class := classOf(err); {
		case class == "ok":
			checkDelta(t, source, target, delta.Bytes(), result)
		case class == ClassNoDelta && result == nil, strings.HasPrefix(class, "not an"):
			t.Errorf("%v, result %+v", err, result)
		case delta.Len() > 0:
			t.Errorf("%d bytes, and %v", delta.Len(), err)
		}
	})
}
