package fwup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// packedArchive makes an archive of a meta.conf and other members: names, each with
// its content behind it.
func packedArchive(tb testing.TB, metaConf string, members ...string) []byte {
	tb.Helper()
	var b bytes.Buffer
	z := newZipWriter(&b, 9)
	members = append([]string{metaConfName, metaConf}, members...)
	for i := 0; i < len(members); i += 2 {
		if err := z.add(members[i], methodDeflate, int64(len(members[i+1])), time.Time{}, strings.NewReader(members[i+1])); err != nil {
			tb.Fatal(err)
		}
	}
	if err := z.close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// withResource is a meta.conf with the empty resource x, and a task.
const withResource = "file-resource \"x\" {\nblake2b-256=0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8\n}\ntask \"t\" {\n}\n"

func TestStrictMetaConf(t *testing.T) {
	for text, ok := range map[string]bool{
		"task \"t\" {\n}\n":                     true,
		"task \"t\" {\n} # comment":             true,
		"task \"t\" {\n} /* comment */":         true,
		"meta-product=\"\\${NAME}\"\n":          true,
		"task \"t\" {\n":                        false,
		"task \"t\" {\non-init {\n}\n":          false,
		"task \"t\" {\n} /* comment":            false,
		"meta-product=x \"and more":             false,
		"meta-product=x\x00meta-product=hidden": false,
		"meta-product=\"x\"\ntask t { on-error": false,
	} {
		b := packedArchive(t, text)
		_, err := Verify(t.Context(), bytes.NewReader(b), VerifyOptions{})
		_, strict := Verify(t.Context(), bytes.NewReader(b), VerifyOptions{Strict: true})
		switch {
		case strings.HasSuffix(text, "on-error"):
			if classOf(err) != ClassMetaParse || classOf(strict) != ClassMetaParse {
				t.Errorf("%q: %v, strictly %v", text, err, strict)
			}
		case err != nil, ok && strict != nil, !ok && classOf(strict) != ClassStrict:
			t.Errorf("%q: %v, strictly %v", text, err, strict)
		}
	}
}

func TestStrictMembers(t *testing.T) {
	for name, c := range map[string]struct {
		b             []byte
		class, strict string
	}{
		"good":                {packedArchive(t, withResource, "data/x", ""), "ok", "ok"},
		"a directory":         {packedArchive(t, withResource, "data/", "", "data/x", ""), "ok", "ok"},
		"two directories":     {packedArchive(t, withResource, "data/", "", "data/x", "", "data/", ""), "ok", ClassStrict},
		"twice":               {packedArchive(t, withResource, "data/x", "", "data/x", ""), ClassDuplicateFile, ClassDuplicateFile},
		"a second meta.conf":  {packedArchive(t, withResource, "data/x", "", metaConfName, withResource), ClassUnknownFile, ClassUnknownFile},
		"unknown":             {packedArchive(t, withResource, "data/x", "", "data/y", ""), ClassUnknownFile, ClassUnknownFile},
		"missing":             {packedArchive(t, withResource), ClassResourceMissing, ClassResourceMissing},
		"out of its place":    {packedArchive(t, strings.ReplaceAll(withResource, "\"x\"", "\"../x\""), "data/../x", ""), "ok", ClassStrict},
		"an absolute name":    {packedArchive(t, strings.ReplaceAll(withResource, "\"x\"", "\"//x\""), "/x", ""), "ok", ClassStrict},
		"of another system":   {packedArchive(t, strings.ReplaceAll(withResource, "\"x\"", "\"a\\\\x\""), "data/a\\x", ""), "ok", ClassStrict},
		"a second local name": {secondName(t, false), "ok", ClassStrict},
		"a second name":       {secondName(t, true), "ok", ClassStrict},
	} {
		_, err := Verify(t.Context(), bytes.NewReader(c.b), VerifyOptions{})
		_, strict := Verify(t.Context(), bytes.NewReader(c.b), VerifyOptions{Strict: true})
		if classOf(err) != c.class || classOf(strict) != c.strict {
			t.Errorf("%s: %v, strictly %v; want %s and %s", name, err, strict, c.class, c.strict)
		}
	}
}

// TestStrictHead sees that the members before the resources are held to the
// same rules.
func TestStrictHead(t *testing.T) {
	for _, name := range []string{"meta.conf", "meta.conf.ed25519"} {
		b := bytes.Clone(recordedArchive(t, "signed-a"))
		at := bytes.Index(b, []byte("PK\x03\x04"))
		for string(b[at+30:at+30+len(name)]) != name || b[at+26] != byte(len(name)) {
			at += 4 + bytes.Index(b[at+4:], []byte("PK\x03\x04"))
		}
		if _, err := Verify(t.Context(), bytes.NewReader(b), VerifyOptions{Strict: true}); err != nil {
			t.Fatal(err)
		}
		binary.LittleEndian.PutUint16(b[at+bytes.Index(b[at:], []byte("ux\v\x00")):], extraUnicodePath)
		if _, err := Verify(t.Context(), bytes.NewReader(b), VerifyOptions{Strict: true}); classOf(err) != ClassStrict {
			t.Errorf("%s has a second name: %v", name, err)
		}
	}
}

// secondName turns the owner of a resource into a name that some programs
// prefer, in its local header or in the central directory.
func secondName(t *testing.T, central bool) []byte {
	b := packedArchive(t, withResource, "data/x", "")
	at := bytes.LastIndex(b, []byte("ux\v\x00"))
	if !central {
		at = bytes.Index(b[bytes.Index(b, []byte("data/x")):], []byte("ux\v\x00")) + bytes.Index(b, []byte("data/x"))
	}
	binary.LittleEndian.PutUint16(b[at:], extraUnicodePath)
	return b
}

// TestVariablesOfMetaConf tells which variables of a device an archive asks
// for, and fills them in only for those who give an environment.
func TestVariablesOfMetaConf(t *testing.T) {
	b := packedArchive(t, `meta-product="${PRODUCT:-none}" meta-author="${FWUP_META_UUID}${OWN}" define(OWN, x) meta-misc="${OWN} ${HOME}" meta-version="\${NOT}"`)
	env := func(name string) (string, bool) { return "secret " + name, name == "PRODUCT" }
	info, err := ReadMetadata(bytes.NewReader(b), nil)
	if err != nil {
		t.Fatal(err)
	}
	if info.Product != "none" || info.Author != info.UUID || info.Misc != "x " || info.Version != "${NOT}" {
		t.Errorf("without an environment: %+v", info)
	}
	if want := []string{"HOME", "OWN", "PRODUCT"}; !slices.Equal(info.Variables, want) {
		t.Errorf("variables %q, want %q", info.Variables, want)
	}
	if info, err = ReadHead(bytes.NewReader(b), ReadOptions{LookupEnv: env}); err != nil || info.Product != "secret PRODUCT" {
		t.Errorf("with an environment: %+v, %v", info, err)
	}
	if info, err = Verify(t.Context(), bytes.NewReader(b), VerifyOptions{LookupEnv: env}); err != nil || info.Product != "secret PRODUCT" {
		t.Errorf("verified with an environment: %+v, %v", info, err)
	}
	if info, err = Verify(t.Context(), bytes.NewReader(b), VerifyOptions{Strict: true}); err != nil || info.Product != "none" {
		t.Errorf("verified: %+v, %v", info, err)
	}
}

// TestCreationDateInAZone reads the date of an archive that has only the time
// of some clock.
func TestCreationDateInAZone(t *testing.T) {
	b := packedArchive(t, "meta-product=x\n")
	b[10], b[11], b[12], b[13] = 0, 12<<3, 1<<5|1, 44<<1 // 2024-01-01 12:00
	for zone, want := range map[*time.Location]string{
		nil: "2024-01-01T12:00:00Z", time.FixedZone("", 2*3600): "2024-01-01T10:00:00Z",
	} {
		info, err := ReadHead(bytes.NewReader(b), ReadOptions{Location: zone})
		if err != nil || info.CreationDate != want {
			t.Errorf("%v: %v, %v", zone, info, err)
		}
	}
}

// TestErrorsTellWhere sees that every error about an archive says how far it
// was read: up to the place that is wrong and not much further.
func TestErrorsTellWhere(t *testing.T) {
	keys := []PublicKey{publicKey(t, "a")}
	told := 0
	for _, o := range outcomes {
		b := recordedArchive(t, o.name)
		for _, opts := range []VerifyOptions{{}, {PublicKeys: keys}, {PublicKeys: keys, Strict: true}} {
			_, err := Verify(t.Context(), bytes.NewReader(b), opts)
			if err == nil {
				continue
			}
			var e *Error
			if !errors.As(err, &e) || e.Class == "" || e.Msg == "" || e.Offset < 0 || e.Offset > int64(len(b)) {
				t.Fatalf("%s: %#v", o.name, err)
			}
			if e.Offset == 0 && e.Class != ClassZip {
				t.Errorf("%s: %v is nowhere", o.name, err)
			}
			told++
		}
	}
	if told < 100 {
		t.Errorf("only %d errors", told)
	}
	b := recordedArchive(t, "two")
	second := bytes.LastIndex(b[:bytes.Index(b, []byte("PK\x01\x02"))], []byte("PK\x03\x04"))
	b[second+len("PK\x03\x04")+80]++ // in its data
	_, err := Verify(t.Context(), bytes.NewReader(b), VerifyOptions{})
	var e *Error
	if !errors.As(err, &e) || e.Offset < int64(second) || e.Offset >= int64(len(b)) {
		t.Errorf("the second resource from %d on: %v at %d", second, err, e.Offset)
	}
	b = recordedArchive(t, "bad-hash")
	if _, err = Apply(t.Context(), bytes.NewReader(b), new(MemoryDevice), ApplyOptions{Task: "complete"}); !errors.As(err, &e) ||
		e.Class != ClassHash || e.Resource == "" || e.Offset == 0 || e.Offset > int64(len(b)) {
		t.Errorf("applied: %#v", err)
	}
	_, err = ReadMetadata(io.LimitReader(bytes.NewReader(b), 40), nil)
	if !errors.As(err, &e) || e.Offset == 0 || e.Offset > 40 {
		t.Errorf("cut off: %v", err)
	}
}
