package fwupcli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeSysfs makes a folder that looks like /sys: the blocks and models of the
// disks by name.
func fakeSysfs(t *testing.T, disks map[string][2]string, root string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(path, text string) {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, d := range disks {
		write("block/"+name+"/size", d[0]+"\n")
		if d[1] != "" {
			write("block/"+name+"/device/model", d[1]+"\n")
		}
	}
	if root != "" {
		write("block/"+root+"/partition", "1\n")
		if err := os.MkdirAll(filepath.Join(dir, "dev/block"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../../block/"+root, filepath.Join(dir, "dev/block/8:1")); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestScanCards(t *testing.T) {
	t.Parallel()
	sysfs := fakeSysfs(t, map[string][2]string{
		"sda":          {"1000", "System"}, // holds the root file system
		"sdb":          {"62333952", "Card Reader"},
		"sdc":          {"0", "Empty slot"},
		"sdd":          {"3907029168", "Large disk"},
		"sde":          {"nonsense", ""},
		"mmcblk0":      {"15523840", ""},
		"mmcblk0boot0": {"8192", ""},
		"loop0":        {"100", ""},
		"nvme0n1":      {"1000", ""},
	}, "sda/sda1")
	got := scanCards(sysfs, "8:1")
	want := []card{{"/dev/mmcblk0", 15523840 * 512, ""}, {"/dev/sdb", 62333952 * 512, "Card Reader"}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("found %+v, expected %+v", got, want)
	}
	if got := scanCards(t.TempDir(), "8:1"); got != nil {
		t.Errorf("found %+v in nothing", got)
	}
}

// withCards returns a program that finds these cards.
func withCards(stdin string, cards ...card) (p *program, stdout, stderr *strings.Builder) {
	stdout, stderr = new(strings.Builder), new(strings.Builder)
	p = newProgram(strings.NewReader(stdin), stdout, stderr)
	p.findCards = func() []card { return cards }
	return p, stdout, stderr
}

func TestDetect(t *testing.T) {
	t.Parallel()
	one, two := card{"/dev/sdx", 1_000_000, "Reader"}, card{"/dev/mmcblk7", 2048, ""}
	for _, tt := range []struct {
		args  string
		cards []card
		exit  int
		want  string
	}{
		{"-D", nil, 0, ""},
		{"-F -D", nil, 0, "\x00\x00\x00\x04OK\x00\x00"},
		{"--detect", []card{one, two}, 0, "/dev/sdx,1000000\n/dev/mmcblk7,2048\n"},
		{"-z", nil, 1, "fwup: No memory cards found. Try reinserting the card.\n"},
		{"-z", []card{one}, 0, "/dev/sdx\n"},
		{"-z", []card{one, two}, 1, ""},
		{"-a -t complete -i " + unsigned, nil, 1, "fwup: No memory cards found. Try reinserting the card.\n"},
		{"-a -t complete", []card{one}, 1, "fwup: Cannot confirm use of /dev/sdx when using stdin.\nRerun with -y if location is correct.\n"},
	} {
		p, stdout, stderr := withCards("", tt.cards...)
		if exit := p.main(strings.Fields(tt.args)); exit != tt.exit || stdout.String() != tt.want {
			t.Errorf("%s: exit status %d, %q, expected %q", tt.args, exit, stdout, tt.want)
		}
		wantErr := ""
		if len(tt.cards) > 1 && tt.exit == 1 {
			wantErr = "Too many possible memory cards found: \n  /dev/sdx (1.00 MB; Reader)\n  /dev/mmcblk7 (2.05 KB)\n" +
				"Automatic selection not possible. Specify one using the -d option.\n"
		}
		if stderr.String() != wantErr {
			t.Errorf("%s: stderr %q, expected %q", tt.args, stderr, wantErr)
		}
	}
}

// A name that is empty, as of a variable that is not set in a script, is not
// one that was left out: it must not lead to a card or to stdout.
func TestEmptyNames(t *testing.T) {
	t.Parallel()
	conf := filepath.Join(t.TempDir(), "empty.conf")
	if err := os.WriteFile(conf, []byte("meta-product = x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"-a", "-q", "-y", "-t", "complete", "-d", "", "-i", unsigned}, "fwup: Cannot create ''.\nCheck the path and permissions on the containing directory.\n"},
		{[]string{"-q", "-y", "-d", "", unsigned}, "fwup: Cannot create ''.\nCheck the path and permissions on the containing directory.\n"},
		{[]string{"-c", "-f", conf, "-o", ""}, "fwup: error creating archive '': No such file or directory\n"},
	} {
		p, stdout, _ := withCards("", card{"/dev/sdx", 1_000_000, "Reader"})
		if exit := p.main(tt.args); exit != 1 || stdout.String() != tt.want {
			t.Errorf("%q: exit status %d, %q, expected %q", tt.args, exit, stdout, tt.want)
		}
	}
}

func TestConfirmCard(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		answer, args string
		exit         int
	}{
		{"y\n", "", 0}, {"Y", "", 0}, {"n\n", "", 1}, {"\n", "", 1}, {"", "", 1}, {"", "-y", 0},
	} {
		image := filepath.Join(t.TempDir(), "card")
		p, stdout, stderr := withCards(tt.answer, card{path: image, size: 31914983424})
		exit := p.main(append(strings.Fields(tt.args), "-q", unsigned))
		if exit != tt.exit {
			t.Errorf("%q %s: exit status %d, %q", tt.answer, tt.args, exit, stdout)
		}
		question := "Use 31.91 GB memory card found at " + image + "? [y/N] "
		if asked := stderr.String() == question; asked == (tt.args == "-y") {
			t.Errorf("%q %s: asked %q", tt.answer, tt.args, stderr)
		}
		if exit == 1 && stdout.String() != "fwup: aborted by user\n" {
			t.Errorf("%q: %q", tt.answer, stdout)
		}
		if _, err := os.Stat(image); (err == nil) != (exit == 0) {
			t.Errorf("%q: the card was written: %v", tt.answer, err == nil)
		}
	}
}

func TestMountedFrom(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ line, device, want string }{
		{"/dev/sdx1 /media/card vfat rw 0 0", "/dev/sdx", "/media/card"},
		{"/dev/sdx /media/card vfat rw 0 0", "/dev/sdx", "/media/card"},
		{"/dev/mmcblk0p12 /media/my\\040card vfat rw 0 0", "/dev/mmcblk0", "/media/my card"},
		{"/dev/mmcblk0p1 / ext4 rw 0 0", "/dev/mmcblk0p1", "/"},
		{"/dev/sdxa1 /other ext4 rw 0 0", "/dev/sdx", ""},
		{"/dev/mmcblk01p1 /other ext4 rw 0 0", "/dev/mmcblk0", ""},
		{"/dev/mmcblk01 /other ext4 rw 0 0", "/dev/mmcblk0", ""},
		{"/dev/sdxp1 /other ext4 rw 0 0", "/dev/sdx", ""},
		{"/dev/sdy1 /other ext4 rw 0 0", "/dev/sdx", ""},
		{"nonsense", "/dev/sdx", ""},
		{"", "/dev/sdx", ""},
	} {
		got, ok := mountedFrom(tt.line, tt.device)
		if got != tt.want || ok != (tt.want != "") {
			t.Errorf("%q: %q, %v", tt.line, got, ok)
		}
	}
	if err := unmount("/dev/no-such-device-for-ganglion"); err != nil {
		t.Error(err)
	}
}

func TestProbeHole(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "probe")
	err := probeHole(path, 1<<20)
	if err != nil && !strings.Contains(err.Error(), "not created on filesystem") {
		t.Error(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the file is left")
	}
	// What is there is not touched.
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := probeHole(path, 4096); err == nil {
		t.Error("a file was overwritten")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
		t.Errorf("%q, %v", b, err)
	}
}
