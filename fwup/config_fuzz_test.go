package fwup

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// FuzzParseConfig reads any text as a configuration to create from: it is
// refused as one, or what is made of it reads the same again.
func FuzzParseConfig(f *testing.F) {
	for conf := range recordedArchives {
		f.Add(string(recordedFile(f, "conf", conf+".conf")))
	}
	f.Add("define-eval(A, \"-2^2\") meta-product = \"${A:-x}\\x41\\101\" /* */ // #\n task 'a' { reqlist += {a,} }")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "include") || strings.Contains(text, "host-path") {
			t.Skip("looks at files")
		}
		s, err := readConfig(t, text, configOptions{})
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Class != ClassConfig {
				t.Fatalf("%v is not of class %s", err, ClassConfig)
			}
			return
		}
		made := s.metaConf()
		if strings.Contains(string(made), "$") || strings.Count(text, `"`)+strings.Count(text, `'`) > 0 {
			return // a title may hold quotes, and variables are filled in again
		}
		again, err := parseMetaConf(made)
		if err != nil {
			if len(made) >= minMetaConf && len(made) <= maxMetaConf {
				t.Fatalf("%q is not read again: %v", made, errors.Unwrap(err))
			}
			return
		}
		if got := again.metaConf(); string(got) != string(made) {
			t.Fatalf("%q is read as %q", made, got)
		}
	})
}

// FuzzParseMetaConf reads any text as the meta.conf of an archive, and all
// that is made of it.
func FuzzParseMetaConf(f *testing.F) {
	for _, archive := range recordedArchives {
		f.Add(recordedMetaConf(f, archive))
	}
	for _, archive := range []string{"meta-unknown-keys", "meta-unknown-fun", "meta-bad-funlist", "bad-meta-syntax", "sparse"} {
		f.Add(recordedMetaConf(f, archive))
	}
	f.Add([]byte("define!(A, \"${A}${A}\") mbr m { partition 4 { } } \"\\8\" 'x"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseMetaConf(text)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Class != ClassMetaParse && e.Class != ClassMetaSize && e.Class != ClassUUIDOverride {
				t.Fatalf("%v has no class of its own", err)
			}
			return
		}
		metadataOf(s, text, time.Unix(1700000000, 0)).Text()
		if tasks, err := tasksOf(s); err == nil {
			for _, task := range tasks {
				_, _ = parseCalls(task.onInit)
			}
		}
		if resources, err := resourcesOf(s); err == nil {
			for _, r := range resources {
				if r.layout.size() < 0 || r.layout.dataSize() > r.layout.size() || r.layout.endingHole() < 0 {
					t.Fatalf("the layout %v makes no sense", r.layout)
				}
			}
		}
		for _, m := range s.sections("mbr") {
			if table, err := mbrTableOf(m); err == nil {
				table.fit(1 << 40)
				_ = table.checkOverlap()
				table.extendedBootRecords()
			}
		}
		for _, u := range s.sections("uboot-environment") {
			if loc, err := ubootEnvOf(u); err == nil && loc.check() != nil {
				t.Fatalf("%+v is no place for an environment", loc)
			}
		}
	})
}
