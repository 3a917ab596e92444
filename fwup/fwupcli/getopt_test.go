package fwupcli

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestGetopt(t *testing.T) {
	t.Parallel()
	table := []option{
		{long: "apply", short: 'a'},
		{long: "public-key", value: true},
		{long: "public-key-file", short: 'p', value: true},
		{long: "progress-low", value: true},
		{short: 'n'},
		{short: 'i', value: true},
		{long: "unmount", short: 'u'},
		{long: "unsafe"},
	}
	tests := []struct {
		args  string
		found []string // name=value
		rest  []string
		err   string
	}{
		{"", nil, nil, ""},
		{"-a -n", []string{"a", "n"}, nil, ""},
		{"-an", []string{"a", "n"}, nil, ""},
		{"-ani x", []string{"a", "n", "i=x"}, nil, ""},
		{"-anix", []string{"a", "n", "i=x"}, nil, ""},
		{"-i=x", []string{"i==x"}, nil, ""},
		{"-i -a", []string{"i=-a"}, nil, ""},
		{"-i - -", []string{"i=-"}, []string{"-"}, ""},
		{"one -a two -n", []string{"a", "n"}, []string{"one", "two"}, ""},
		{"-a -- -n --apply", []string{"a"}, []string{"-n", "--apply"}, ""},
		{"--apply", []string{"apply"}, nil, ""},
		{"--app", []string{"apply"}, nil, ""},
		{"--public-key k --public-key-file f", []string{"public-key=k", "public-key-file=f"}, nil, ""},
		{"--public-key=k=", []string{"public-key=k="}, nil, ""},
		{"--public-key= x", []string{"public-key="}, []string{"x"}, ""},
		{"--public-key-f f", []string{"public-key-file=f"}, nil, ""},
		{"--public-key --apply", []string{"public-key=--apply"}, nil, ""},
		{"--pu x", nil, nil, "option '--pu' is ambiguous; possibilities: '--public-key' '--public-key-file'"},
		{"--un", nil, nil, "option '--un' is ambiguous; possibilities: '--unmount' '--unsafe'"},
		{"--nope", nil, nil, "unrecognized option '--nope'"},
		{"--=x", nil, nil, "option '--' is ambiguous; possibilities: '--apply'"},
		{"-a --apply=no", []string{"a"}, nil, "option '--apply' doesn't allow an argument"},
		{"--progress-low", nil, nil, "option '--progress-low' requires an argument"},
		{"-ax", []string{"a"}, nil, "invalid option -- 'x'"},
		{"-ai", []string{"a"}, nil, "option requires an argument -- 'i'"},
	}
	for _, tt := range tests {
		var found []string
		rest, err := getopt(strings.Fields(tt.args), table, func(o *option, value string) error {
			name := o.long
			if o.long == "" || value == string(o.short) {
				name = string(o.short)
			}
			if o.value {
				name += "=" + value
			}
			found = append(found, name)
			return nil
		})
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.err)) {
			t.Errorf("%s: error %v, expected %q", tt.args, err, tt.err)
		}
		if !slices.Equal(found, tt.found) || err == nil && !slices.Equal(rest, tt.rest) {
			t.Errorf("%s: found %v and %v, expected %v and %v", tt.args, found, rest, tt.found, tt.rest)
		}
	}
	stop := errors.New("stop")
	for _, args := range [][]string{{"-a"}, {"-nn"}, {"--apply"}, {"-ix"}} {
		if _, err := getopt(args, table, func(*option, string) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestOptionTableIsClear(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, o := range optionTable() {
		for _, name := range []string{"-" + string(rune(o.short)), "--" + o.long} {
			if seen[name] && name != "--" && name != "-\x00" {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = true
		}
		if o.do == nil || o.value && o.help != "" && o.name == "" {
			t.Errorf("option -%c --%s is incomplete", o.short, o.long)
		}
	}
	// The options that devices and build tools use.
	for _, name := range strings.Fields("-a -c -D -F -g -h -l -m -S -V -i -o -f -d -t -u -U -E -y -p -s -n -q -v -z -Z -1 -9 " +
		"--apply --create --list --metadata --gen-keys --sign --verify --detect --task --unmount --no-unmount --eject --no-eject " +
		"--max-size --enable-trim --unsafe --verify-writes --no-verify-writes --minimize-writes --no-minimize-writes " +
		"--reboot-param-path --public-key-file --public-key --private-key-file --private-key --framing --progress-low " +
		"--progress-high --exit-handshake --metadata-key --sparse-check --sparse-check-size --version --help --quiet --verbose") {
		if !seen[name] {
			t.Errorf("there is no %s", name)
		}
	}
}
