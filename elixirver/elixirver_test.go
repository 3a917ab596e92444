package elixirver

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Version{
		"1.2.3":                             {1, 2, 3, "", ""},
		"0.0.0":                             {0, 0, 0, "", ""},
		"1.4.5+ignore":                      {1, 4, 5, "", "ignore"},
		"1.4.5-6-g3318bd5":                  {1, 4, 5, "6-g3318bd5", ""},
		"1.4.5-6.7.eight":                   {1, 4, 5, "6.7.eight", ""},
		"1.4.5-6-g3318bd5+ignore.0-1":       {1, 4, 5, "6-g3318bd5", "ignore.0-1"},
		"1.0.0--":                           {1, 0, 0, "-", ""},
		"1.0.0-0a":                          {1, 0, 0, "0a", ""},
		"1.0.0+01":                          {1, 0, 0, "", "01"},
		"99999999999999.0.0":                {99999999999999, 0, 0, "", ""},
		"1.0.0-20240101120000123456789.00a": {1, 0, 0, "20240101120000123456789.00a", ""},
	} {
		got, err := Parse(text)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
		if got.String() != text {
			t.Errorf("%q prints as %q", text, got.String())
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"", "1", "2.3", "1.2.3.4", "foobar", "v1.2.3", " 1.2.3", "1.2.3 ", "1.2.x", "1..3", "01.2.3", "1.02.3",
		"1.2.03", "2.3.0-01", "1.2.3-", "1.2.3+", "1.2.3-a..b", "1.2.3-a_b", "1.2.3+a+b", "-1.2.3", "+1.2.3", "1.2.-3", "2.0-alpha1",
		"100000000000000.0.0", "1.2.3-é", "1.2.3\n", strings.Repeat("1", 300) + ".0.0", "1.2.3-" + strings.Repeat("a", 300)} {
		if v, err := Parse(text); err == nil {
			t.Errorf("%q accepted as %+v", text, v)
		} else if e := (*Error)(nil); !errors.As(err, &e) || e.Reason == "" {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// ranks is in ascending order, equal ranks on one line.
var ranks = [][]string{
	{"0.1.2"},
	{"1.0.0-0"},
	{"1.0.0-2", "1.0.0-2+x"},
	{"1.0.0-10"},
	{"1.0.0-99999999999999999999"},
	{"1.0.0-a"},
	{"1.0.0-a.0"},
	{"1.0.0-a.a"},
	{"1.0.0-a.b"},
	{"1.0.0-b"},
	{"1.0.0-beta"},
	{"1.0.0-dev", "1.0.0-dev+1"},
	{"1.0.0-rc1"},
	{"1.0.0", "1.0.0+a", "1.0.0+b.2"},
	{"1.0.1"},
	{"1.1.0"},
	{"1.2.2"},
	{"1.10.0"},
	{"2.1.1"},
	{"10.0.0"},
}

func TestCompare(t *testing.T) {
	for i, lows := range ranks {
		for j, highs := range ranks {
			for _, a := range lows {
				for _, b := range highs {
					want := 0
					if i < j {
						want = -1
					} else if i > j {
						want = 1
					}
					if got := mustVersion(t, a).Compare(mustVersion(t, b)); got != want {
						t.Errorf("%s against %s: %d, want %d", a, b, got, want)
					}
				}
			}
		}
	}
}

func mustVersion(t interface{ Fatal(...any) }, s string) Version {
	v, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func mustRequirement(t interface{ Fatal(...any) }, s string) Requirement {
	r, err := ParseRequirement(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The documented table of Elixir's Version, with pre-releases allowed as they
// are by default, and the rules around it.
var matches = []struct {
	requirement, version string
	want                 bool
}{
	{"~> 2.0", "2.1.0", true},
	{"~> 2.0", "3.0.0", false},
	{"~> 2.0.0", "2.0.5", true},
	{"~> 2.0.0", "2.1.0", false},
	{"~> 2.1.2", "2.1.6-dev", true},
	{"~> 2.1-dev", "2.2.0-dev", true},
	{"~> 2.1-dev", "2.1.0-dev", true},
	{"~> 2.1-dev", "2.1.0-a", false},
	{"~> 2.1.2-dev", "2.1.6-dev", true},
	{">= 2.1.0", "2.2.0-dev", true},
	{">= 2.1.0-dev", "2.2.6-dev", true},
	{"< 2.2.0", "2.1.0-dev", true},
	{"< 1.0.0 or >= 2.0.0", "2.5.0", true},
	{"< 1.0.0 or >= 2.0.0", "1.5.0", false},

	{"2.3.0", "2.3.0", true},
	{"2.3.0", "2.4.0", false},
	{"== 2.3.0", "2.3.0", true},
	{"==2.3.0", "2.3.0", true},
	{"== 0.9.3+dev", "0.9.3", true},
	{"1.2.3-alpha", "1.2.3-alpha", true},
	{"!2.3.0", "2.4.0", true},
	{"!2.3.0", "2.3.0", false},
	{"!= 2.3.0", "2.4.0", true},
	{"!= 2.3.0", "2.3.0", false},
	{"> 2.3.0", "2.4.0", true},
	{"> 2.3.0", "2.3.0", false},
	{"> 1.2.3-alpha", "1.2.3", true},
	{"> 1.2.3-alpha", "1.2.3-alpha.1", true},
	{"< 1.2.3-alpha.1", "1.2.3-alpha.10", false},
	{"> 0.10.2", "0.10.2-dev", false},
	{">= 2.3.0", "2.3.0", true},
	{">= 2.3.0", "2.2.0", false},
	{"< 2.3.0", "2.2.0", true},
	{"< 2.3.0", "2.3.0", false},
	{"< 0.10.2", "0.10.2-dev", true},
	{"< 1.0.0-dev", "1.0.0", false},
	{"<= 2.3.0", "2.3.0", true},
	{"<= 2.3.0", "2.4.0", false},
	{"~> 3.5", "3.5.0", true},
	{"~> 3.5", "3.6.0", true},
	{"~> 3.5", "4.0.0", false},
	{"~> 3.5.0", "3.5.4", true},
	{"~> 3.5.0", "3.6.0", false},
	{"~> 0.9.3-dev", "0.9.3", true},
	{"~> 0.9.3-dev", "0.10.0", false},

	// no pre-releases of the upper bound of ~>
	{"~> 0.2.0", "0.3.0-dev", false},
	{"~> 1.2.0", "1.3.0-rc.1", false},
	{"~> 1.2", "2.0.0-rc.1", false},
	{"~> 1.2", "2.0.0-0", false},
	{"~> 1.2", "1.99.0-rc.1", true},
	// pre-releases elsewhere go by rank
	{">= 1.0.0", "2.0.0-rc.1", true},
	{"< 2.0.0", "2.0.0-rc.1", true},
	{"!= 1.0.0", "1.0.0-rc.1", true},
	{"== 1.0.0", "1.0.0-rc.1", false},

	{"> 0.9.0 and < 0.10.0", "0.9.3", true},
	{"> 0.9.0 and < 0.10.0", "0.10.2", false},
	{"0.9.1 or 0.9.3 or 0.9.5", "0.9.3", true},
	{"0.9.1 or 0.9.3 or 0.9.5", "0.9.6", false},
	// and binds tighter than or, wherever it stands
	{"1.0.0 or > 2.0.0 and < 3.0.0", "1.0.0", true},
	{"1.0.0 or > 2.0.0 and < 3.0.0", "2.5.0", true},
	{"1.0.0 or > 2.0.0 and < 3.0.0", "3.5.0", false},
	{"> 2.0.0 and < 3.0.0 or 1.0.0", "1.0.0", true},
	{"> 2.0.0 and < 3.0.0 or 1.0.0", "3.5.0", false},
	{"~> 1.2 and != 1.2.7", "1.2.7", false},
	// spaces
	{"  >=1.0.0   and   <2.0.0  ", "1.5.0", true},
	{"~>1.0", "1.5.0", true},
}

func TestMatch(t *testing.T) {
	for _, c := range matches {
		if got := mustRequirement(t, c.requirement).Match(mustVersion(t, c.version)); got != c.want {
			t.Errorf("%s meets %q: %v, want %v", c.version, c.requirement, got, c.want)
		}
	}
}

func TestParseRequirementRefuses(t *testing.T) {
	for _, text := range []string{"", " ", "foo", "2.3", "> 2.3", "== 2.3", "~> 3", "~> ", "~>", "== == 1.0.0", ">>= 1.0.0", "> = 1.0.0", "=1.0.0",
		"1.0.0 2.0.0", ">= 1.0.0, < 2.0.0", ">= 1.0.0 AND < 2.0.0", "1.0.0 OR 2.0.0", "1.0.0 and", "and 1.0.0", "1.0.0 or ", " or 1.0.0",
		"1.0.0 and or 2.0.0", "1.0.0 or or 2.0.0", "(1.0.0)", "v1.0.0", "~> v1.0", "1.0.0and 2.0.0", "1.0.0 and2.0.0", "~> 01.2", "1.0.0\tand 2.0.0",
		"&& 1.0.0", "=> 1.0.0", "~= 1.0.0", "^1.0.0", "*", strings.Repeat("1.0.0 or ", 200) + "1.0.0"} {
		if r, err := ParseRequirement(text); err == nil {
			t.Errorf("%q accepted: %+v", text, r)
		} else if e := (*Error)(nil); !errors.As(err, &e) || e.Reason == "" || len(e.Error()) > 400 {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestZeroRequirement(t *testing.T) {
	if !(Requirement{}).Match(Version{}) {
		t.Error("the zero requirement refuses a version")
	}
}

// small versions make equal and neighbouring ones likely.
var anyVersion = rapid.Custom(func(t *rapid.T) Version {
	n := rapid.Uint64Range(0, 3)
	return Version{
		Major: n.Draw(t, "major"), Minor: n.Draw(t, "minor"), Patch: n.Draw(t, "patch"),
		Pre:   rapid.SampledFrom([]string{"", "", "0", "1", "10", "a", "a.1", "a.b", "b", "rc.1"}).Draw(t, "pre"),
		Build: rapid.SampledFrom([]string{"", "", "b1"}).Draw(t, "build"),
	}
})

func TestOrderIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := anyVersion.Draw(t, "a"), anyVersion.Draw(t, "b"), anyVersion.Draw(t, "c")
		if a.Compare(b) != -b.Compare(a) || a.Compare(a) != 0 {
			t.Fatalf("%s and %s are not antisymmetric", a, b)
		}
		if a.Compare(b) <= 0 && b.Compare(c) <= 0 && a.Compare(c) > 0 {
			t.Fatalf("%s, %s, %s are not transitive", a, b, c)
		}
	})
}

func TestTextRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyVersion.Draw(t, "v")
		if got := mustVersion(t, v.String()); got != v {
			t.Fatalf("%s came back as %s", v, got)
		}
	})
}

func TestOperatorsAgreeWithCompare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v, w := anyVersion.Draw(t, "v"), anyVersion.Draw(t, "w")
		n := v.Compare(w)
		for op, want := range map[string]bool{"==": n == 0, "!=": n != 0, "!": n != 0, ">": n > 0, ">=": n >= 0, "<": n < 0, "<=": n <= 0, "": n == 0} {
			if got := mustRequirement(t, op+" "+w.String()).Match(v); got != want {
				t.Fatalf("%s meets %s %s: %v", v, op, w, got)
			}
		}
		approx := n >= 0 && v.Major == w.Major && v.Minor == w.Minor
		if got := mustRequirement(t, "~> "+w.String()).Match(v); got != approx {
			t.Fatalf("%s meets ~> %s: %v", v, w, got)
		}
	})
}

func TestAndOrAgreeWithLogic(t *testing.T) {
	term := rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom([]string{"", "== ", "!= ", "> ", ">= ", "< ", "<= ", "~> "}).Draw(t, "op") + anyVersion.Draw(t, "version").String()
	})
	rapid.Check(t, func(t *rapid.T) {
		v := anyVersion.Draw(t, "v")
		terms := rapid.SliceOfN(term, 1, 5).Draw(t, "terms")
		text, alternative, want := terms[0], mustRequirement(t, terms[0]).Match(v), false
		for _, next := range terms[1:] {
			met := mustRequirement(t, next).Match(v)
			if rapid.Bool().Draw(t, "and") {
				text, alternative = text+" and "+next, alternative && met
			} else {
				text, want, alternative = text+" or "+next, want || alternative, met
			}
		}
		want = want || alternative
		if got := mustRequirement(t, text).Match(v); got != want {
			t.Fatalf("%s meets %q: %v", v, text, got)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, line := range ranks {
		f.Add(line[0])
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := Parse(s)
		if err == nil && v.String() != s {
			t.Errorf("%q prints as %q", s, v)
		}
	})
}

func FuzzParseRequirement(f *testing.F) {
	for _, c := range matches {
		f.Add(c.requirement)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRequirement(s)
		if err != nil {
			return
		}
		if len(r.any) == 0 || r.String() != s {
			t.Errorf("%q became %+v", s, r)
		}
		r.Match(Version{Major: 1})
	})
}

func BenchmarkMatch(b *testing.B) {
	r := mustRequirement(b, "~> 1.2 and != 1.2.7 or > 3.0.0-rc.1")
	v := mustVersion(b, "1.2.7-rc.2")
	b.ReportAllocs()
	for b.Loop() {
		r.Match(v)
	}
}
