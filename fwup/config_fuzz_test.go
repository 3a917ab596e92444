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
	for _, seed := range []string{
		"define-eval(A, \"((1+2)K^2-9223372036854775808)/-1\") define!(A, \"${A}${A:-${B}}\") meta-version = ${A}",
		"file-resource r { contents = '\\'' assert-size-lte = 0x7fffffffffffffff length = {0,1,} }",
		"uboot-environment u { block-offset = 1 block-count = 1 } task t { require-uboot-variable(u, a, b) on-init { uboot_setenv(u, a, \"\\x22\") } on-init { trim(0, 1,) } }",
		"file-resource r { contents = x } task t { on-resource r { raw_write(0, \"\\${A}\") fat_write(1) delta-source-raw-offset = 2147483648 } on-error { error(\"${FWUP_META_UUID}\") } }",
		"gpt g { guid = b443fbeb-2c93-481b-88b3-0ecb0aeba911 partition 0 { block-offset = 4294967296 block-count = 2147483646 flags = 0x8000000000000000 boot = on } }",
		"mbr m { signature = 0xffffffff partition 0 { type = 0x83 block-offset = 4294967294 block-count = 1 expand = yes } }",
		"meta-product = \"", "task t { on-init { /*", "task \"a\nb\" {", "require-fwup-version = \"1.16.0-rc1+x\"",
	} {
		f.Add(seed)
	}
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
	for _, seed := range []string{
		"unknown = { a, b } unknown \"t\" { a = b c { d(e, f) } } unknown(1, 2) unknown += x meta-product=y",
		"task \"t\" {\nreqlist={3,require-path-on-device,\"/\",\"${DEV:-/dev/mmcblk0}\"}\non-init {\nfunlist={10,a",
		"file-resource \"x\" {\nlength={4294967295,4294967296,9223372036854775807}\n}\n",
		"file-resource \"x\" {\nlength={2147483647,2147483648,0,1}\nblake2b-256=00\n}\n",
		"meta-uuid=\"${FWUP_META_UUID}\" include(\"/etc/passwd\") define-eval(A, \"2^63\")",
	} {
		f.Add([]byte(seed))
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
