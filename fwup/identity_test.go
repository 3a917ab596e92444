package fwup

import (
	"slices"
	"testing"
	"time"
)

func TestRecordedIdentities(t *testing.T) {
	for archive, want := range map[string][2]string{
		"ab-v1":    {"25d76b8b-7318-580c-bd28-9cb6b0006648", "cabin-spy"},
		"meta":     {"9adcfd2d-2f23-5618-2955-8e6786bc60d8", "network-tag"},
		"kitchen":  {"1e820318-d5a0-5b55-a5ce-b9cfe3d87be5", "bar-key"},
		"unsigned": {"d6a42c36-d1d5-5924-3205-752491fbeb62", "slender-ostrich"},
		"signed-a": {"d6a42c36-d1d5-5924-3205-752491fbeb62", "slender-ostrich"},
	} {
		id := metaUUID(recordedMetaConf(t, archive))
		if got := [2]string{formatUUID(id), nickname(id)}; got != want {
			t.Errorf("%s is %v, want %v", archive, got, want)
		}
	}
}

func TestNicknameWords(t *testing.T) {
	if len(nicknameWords) != 256 {
		t.Fatalf("there are %d words", len(nicknameWords))
	}
	sorted := slices.Sorted(slices.Values(nicknameWords))
	if n := len(slices.Compact(sorted)); n != 256 {
		t.Errorf("only %d words differ", n)
	}
	if got := nickname([16]byte{0, 255}); got != nicknameWords[0]+"-"+nicknameWords[255] {
		t.Errorf("got %s", got)
	}
}

// TestMetadataText compares with what fwup -m printed for the archive.
func TestMetadataText(t *testing.T) {
	text := recordedMetaConf(t, "meta")
	s, err := parseMetaConf(text)
	if err != nil {
		t.Fatal(err)
	}
	m := metadataOf(s, text, time.Unix(1700000000, 0).In(time.FixedZone("", 3600)))
	want := `meta-product="Quote \" back\\slash and first"
meta-description="two
lines, tab	here, a default"
meta-version=1.2.3
meta-author="single \\ 'quoted' \\n "
meta-platform=plain_text.1
meta-architecture=two
meta-creation-date="2023-11-14T22:13:20Z"
meta-misc="sum=14 blocks=16384 pow=-1024 u00fc ünïcödé"
meta-vcs-identifier=0e919751fc38196f2486b0c98ded91013eb9baa3
meta-uuid="9adcfd2d-2f23-5618-2955-8e6786bc60d8"
meta-nickname="network-tag"
`
	if got := m.Text(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestFieldsLeaveOutWhatIsUnset(t *testing.T) {
	got := Metadata{Misc: "m", Product: "p", FwupVersion: "1"}.Fields()
	want := []MetadataField{{"meta-product", "p"}, {"meta-fwup-version", "1"}, {"meta-misc", "m"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
