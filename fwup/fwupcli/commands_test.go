package fwupcli

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/fwup"
)

const unsigned = "testdata/fw/unsigned.fw"

func TestVersionAndUsage(t *testing.T) {
	t.Parallel()
	if got := runOK(t, "--version"); got != "1.16.0\n" {
		t.Errorf("version %q", got)
	}
	help := runOK(t, "--help")
	for _, tt := range []struct {
		args   []string
		stderr string
	}{
		{nil, ""},
		{[]string{"-Z"}, ""},
		{[]string{"--nope"}, "fwup: unrecognized option '--nope'\n"},
		{[]string{"-a", "-d"}, "fwup: option requires an argument -- 'd'\n"},
		{[]string{"-a", "-?"}, "fwup: invalid option -- '?'\n"},
	} {
		exit, stdout, stderr := runWith("", tt.args...)
		if exit != 1 || stdout != help || stderr != tt.stderr {
			t.Errorf("%v: exit status %d, stderr %q, usage %v", tt.args, exit, stderr, stdout == help)
		}
	}
	// They are not put into frames.
	if got := runOK(t, "-F", "--version"); got != "1.16.0\n" {
		t.Errorf("version %q", got)
	}
	for _, o := range optionTable() {
		if o.help != "" && o.long != "" && !strings.Contains(help, "--"+o.long) {
			t.Errorf("the usage does not tell of --%s", o.long)
		}
	}
	for line := range strings.Lines(help) {
		if len(line) > 110 {
			t.Errorf("a long line: %q", line)
		}
	}
}

func TestBadCommandLines(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, tt := range []struct {
		args string
		want string
	}{
		{"-F -q", "\x00\x00\x00\x3bER\x00\x00specify one of -a, -c, -l, -m, -S, -V, or -z"},
		{"one.fw two.fw", "fwup: unexpected parameter: one.fw\n"},
		{"-d x -t t", "fwup: specify one of -a, -c, -l, -m, -S, -V, or -z\n"},
		{"--max-size x -a", "fwup: --max-size takes a number from 0 to 18014398509481983\n"},
		{"--max-size 0x40000000000000 -a", "fwup: --max-size takes a number from 0 to 18014398509481983\n"},
		{"--max-size 9223372036854775808 -a", "fwup: --max-size takes a number from 0 to 18014398509481983\n"},
		{"--max-size -1 -a", "fwup: --max-size takes a number from 0 to 18014398509481983\n"},
		{"--progress-high 65536 -a", "fwup: --progress-high takes a number from 0 to 65535\n"},
		{"-V -p " + dir + "/missing", "fwup: Error opening public key file '" + dir + "/missing': No such file or directory\n"},
		{"-V -p " + dir, "fwup: Error reading or decoding public key from file '" + dir + "'\n"},
		{"-S --private-key AAAA", "fwup: Error decoding private key\n"},
		{"-S -s testdata/keys/a.pub", "fwup: Error reading or decoding private key from file 'testdata/keys/a.pub'\n"},
		{"-S", "fwup: Specify an input firmware file\n"},
		{"-S -s testdata/keys/a.priv", "fwup: Specify an input firmware file\n"},
		{"-S -i " + unsigned, "fwup: Specify an output firmware file\n"},
		{"-S -o x.fw -i " + unsigned, "fwup: Specify a signing key\n"},
		{"-S -s testdata/keys/a.priv -i " + unsigned, "fwup: Specify an output firmware file\n"},
		{"-S -s testdata/keys/a.priv -o x.fw -i " + dir + "/missing.fw", "fwup: Failed to open '" + dir + "/missing.fw'\n"},
		{"-l -i " + dir + "/missing.fw", "fwup: Failed to open '" + dir + "/missing.fw'\n"},
		{"-c -f " + dir + "/missing.conf -o " + dir + "/new.fw", "fwup: Error opening configuration file '" + dir + "/missing.conf'\n"},
		{"-c -f testdata/conf/one.conf -o " + dir + "/no/such/folder.fw", "fwup: error creating archive '" + dir + "/no/such/folder.fw': No such file or directory\n"},
		{"-g -o " + dir + "/no/key", "fwup: Couldn't create '" + dir + "/no/key.pub': No such file or directory\n"},
		{"--sparse-check " + dir + "/no/file", "fwup: Couldn't create sparse test file: " + dir + "/no/file\n"},
	} {
		exit, stdout, _ := runWith("", strings.Fields(tt.args)...)
		if strings.HasPrefix(tt.want, "\x00") {
			// The length of a frame is easy to get wrong by hand.
			tt.want = string(inFrames([]byte(tt.want[4:]), 1000)[:len(tt.want)])
		}
		if exit != 1 || stdout != tt.want {
			t.Errorf("%s: exit status %d, %q, expected %q", tt.args, exit, stdout, tt.want)
		}
	}
}

func TestApplyToWhatCannotBeWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	readOnly := filepath.Join(dir, "read-only")
	if err := os.WriteFile(readOnly, nil, 0o400); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		readOnly:                           "fwup: Cannot open '" + readOnly + "' for output.\nCheck file permissions or the read-only tab if this is an SD Card.\n",
		filepath.Join(dir, "no/folder"):    "fwup: Cannot create '" + dir + "/no/folder'.\nCheck the path and permissions on the containing directory.\n",
		"/dev/no-such-device-for-ganglion": "fwup: Cannot create '/dev/no-such-device-for-ganglion'.\nCheck the path and permissions on the containing directory.\n",
	} {
		exit, stdout, stderr := runWith("", "-a", "-q", "-d", path, "-t", "complete", "-i", unsigned)
		if exit != 1 || stdout != want || stderr != "\n" {
			t.Errorf("%s: exit status %d, %q, %q", path, exit, stdout, stderr)
		}
	}
	// What is read from is looked for after what is written to was made.
	image := filepath.Join(dir, "image")
	exit, stdout, stderr := runWith("", "-a", "-n", "-d", image, "-t", "complete", "-i", dir+"/missing.fw")
	if exit != 1 || stdout != "0\nfwup: Failed to open '"+dir+"/missing.fw'\n" || stderr != "\n" {
		t.Errorf("exit status %d, %q, %q", exit, stdout, stderr)
	}
	if _, err := os.Stat(image); err != nil {
		t.Error(err)
	}
}

func TestEasyMode(t *testing.T) {
	t.Parallel()
	image := filepath.Join(t.TempDir(), "image")
	stdout := runOK(t, "-d", image, unsigned, "-n")
	if stdout != "0\n99\n100\n" {
		t.Errorf("%q", stdout)
	}
	if info, err := os.Stat(image); err != nil || info.Size() != 128<<10 {
		t.Error("no image", err)
	}
	// Another task, and a key given as text, are fine.
	key, err := os.ReadFile("testdata/keys/a.pub")
	if err != nil {
		t.Fatal(err)
	}
	runOK(t, "-q", "-t", "upgrade", "--public-key", string(key), "-d", image, "testdata/fw/signed-a.fw")
	for _, rule := range []string{"-F", "-c", "-V", "-i x", "-o x", "-f x", "-p testdata/keys/a.pub", "-s testdata/keys/a.priv", "--sparse-check x"} {
		args := append(strings.Fields(rule), "-d", image, unsigned)
		exit, stdout, _ := runWith("", args...)
		if exit != 1 || !strings.Contains(stdout, "unexpected parameter: "+unsigned) {
			t.Errorf("%s: exit status %d, %q", rule, exit, stdout)
		}
	}
}

func TestMetadataKey(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"meta-product": "Vector Product\n", "meta-uuid": "d6a42c36-d1d5-5924-3205-752491fbeb62\n",
		"meta-author": "(null)\n", "nonsense": "(null)\n", "": "(null)\n",
	} {
		if got := runOK(t, "-m", "--metadata-key", key, "-i", unsigned); got != want {
			t.Errorf("%s: %q, expected %q", key, got, want)
		}
	}
	// The head of an archive is enough, on stdin too.
	b, err := os.ReadFile("testdata/fw/ab-v1.fw")
	if err != nil {
		t.Fatal(err)
	}
	exit, stdout, _ := runWith(string(b[:4096]), "-m", "--metadata-key", "meta-nickname")
	if exit != 0 || stdout != "cabin-spy\n" {
		t.Errorf("exit status %d, %q", exit, stdout)
	}
	exit, stdout, _ = runWith(string(inFrames(b[:4096], 100)), "-F", "-l", "-i", "-")
	if want := "OK\x00\x00complete\nupgrade.a\nupgrade.b\nupgrade.wrong\n"; exit != 0 || stdout[4:] != want {
		t.Errorf("exit status %d, %q", exit, stdout)
	}
}

func TestGenerateKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := strings.Repeat("long-", 10) + "name"
	prefix := filepath.Join(dir, name)
	stdout := runOK(t, "-g", "-o", prefix)
	if want := "created and saved to '" + name[:32] + "' and '" + name[:32] + "'\n\nDistribute '"; !strings.Contains(stdout, want) {
		t.Errorf("%q", stdout)
	}
	public, err := os.ReadFile(prefix + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	private, err := os.ReadFile(prefix + ".priv")
	if err != nil {
		t.Fatal(err)
	}
	if len(public) != 44 || len(private) != 88 {
		t.Errorf("keys of %d and %d characters", len(public), len(private))
	}
	raw, err := base64.StdEncoding.DecodeString(string(private))
	if err != nil || base64.StdEncoding.EncodeToString(raw[32:]) != string(public) {
		t.Errorf("the keys do not fit: %v", err)
	}
	if info, err := os.Stat(prefix + ".priv"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// No key is ever overwritten, and no half of a pair is left.
	exit, stdout, _ := runWith("", "-g", "-o", prefix)
	if exit != 1 || stdout != "fwup: Couldn't create '"+prefix+".pub': File exists\n" {
		t.Errorf("exit status %d, %q", exit, stdout)
	}
	if err := os.Remove(prefix + ".pub"); err != nil {
		t.Fatal(err)
	}
	exit, stdout, _ = runWith("", "-g", "-o", prefix)
	if exit != 1 || stdout != "fwup: Couldn't create '"+prefix+".priv': File exists\n" {
		t.Errorf("exit status %d, %q", exit, stdout)
	}
	if _, err := os.Stat(prefix + ".pub"); err == nil {
		t.Error("half of a key pair is left")
	}
	if again, err := os.ReadFile(prefix + ".priv"); err != nil || !bytes.Equal(again, private) {
		t.Error("the private key was changed")
	}

	// They sign and verify.
	if err := os.WriteFile(prefix+".pub", public, 0o600); err != nil {
		t.Fatal(err)
	}
	signed := filepath.Join(dir, "signed.fw")
	if got := runOK(t, "-S", "-s", prefix+".priv", "-i", copyTo(t, unsigned), "-o", signed); got != "" {
		t.Errorf("%q", got)
	}
	if got := runOK(t, "-V", "-i", signed, "-p", prefix+".pub"); got != "Valid archive with a good signature\n" {
		t.Errorf("%q", got)
	}
}

func TestSignInPlace(t *testing.T) {
	t.Parallel()
	file := copyTo(t, "testdata/fw/signed-b.fw")
	key, err := os.ReadFile("testdata/keys/a.priv")
	if err != nil {
		t.Fatal(err)
	}
	if got := runOK(t, "-F", "-S", "--private-key", string(key), "-i", file, "-o", file); got != "\x00\x00\x00\x04OK\x00\x00" {
		t.Errorf("%q", got)
	}
	runOK(t, "-V", "-i", file, "-p", "testdata/keys/a.pub")
	// Signing what is no archive leaves it and nothing else.
	bad := copyTo(t, "testdata/fw/bad-truncated-data.fw")
	before, err := os.ReadFile(bad)
	if err != nil {
		t.Fatal(err)
	}
	if exit, stdout, _ := runWith("", "-S", "--private-key", string(key), "-i", bad, "-o", bad); exit != 1 || !strings.HasPrefix(stdout, "fwup: ") {
		t.Errorf("exit status %d, %q", exit, stdout)
	}
	after, err := os.ReadFile(bad)
	if err != nil || !bytes.Equal(before, after) {
		t.Error("the file was changed", err)
	}
	entries, err := os.ReadDir(filepath.Dir(bad))
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files are left, %v", len(entries), err)
	}
}

func TestManyPublicKeys(t *testing.T) {
	t.Parallel()
	args := []string{"-V", "-i", "testdata/fw/signed-a.fw"}
	for range maxPublicKeys {
		args = append(args, "-p", "testdata/keys/b.pub")
	}
	args = append(args, "--public-key", "not even looked at", "-p", "nor is this")
	exit, stdout, _ := runWith("", args...)
	want := strings.Repeat("fwup: Ignoring public key since only 10 supported\n", 2) + "fwup: Firmware archive's meta.conf fails digital signature verification.\n"
	if exit != 1 || stdout != want {
		t.Errorf("exit status %d, %q", exit, stdout)
	}
	args = append(slices.Clone(args[:3]), "-p", "testdata/keys/b.pub", "-p", "testdata/keys/a.pub.raw")
	if got := runOK(t, args...); got != "Valid archive with a good signature\n" {
		t.Errorf("%q", got)
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"good.conf": "meta-product = \"made here\"\nfile-resource a { contents = \"content\" }\ntask complete { on-resource a { raw_write(0) } }\n",
		"bad.conf":  "meta-product = \"x\"\nmeta-nonsense = 1\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// To stdout, and from stdin.
	var out bytes.Buffer
	if exit := Main(t.Context(), []string{"-c", "-f", filepath.Join(dir, "good.conf"), "-1"}, nil, &out, &out); exit != 0 {
		t.Fatal(out.String())
	}
	exit, got, _ := runWith(out.String(), "-m", "--metadata-key", "meta-product")
	if exit != 0 || got != "made here\n" {
		t.Errorf("exit status %d, %q", exit, got)
	}
	made := filepath.Join(dir, "made.fw")
	exit, got, _ = runWith("meta-product = \"from stdin\"\n", "-c", "-f", "-", "-o", made, "-F")
	if exit != 0 || got != "" { // creating says nothing, not even in frames
		t.Errorf("exit status %d, %q", exit, got)
	}
	if got := runOK(t, "-m", "--metadata-key", "meta-product", "-i", made); got != "from stdin\n" {
		t.Errorf("%q", got)
	}
	// The place of an error goes to stderr.
	bad := filepath.Join(dir, "bad.conf")
	exit, stdout, stderr := runWith("", "-c", "-f", bad, "-o", made)
	if exit != 1 || stdout != "fwup: Error parsing configuration file '"+bad+"'\n" || stderr != bad+":2: no such option 'meta-nonsense'\n" {
		t.Errorf("exit status %d, %q, %q", exit, stdout, stderr)
	}
	// What was made before is still there.
	if got := runOK(t, "-m", "--metadata-key", "meta-product", "-i", made); got != "from stdin\n" {
		t.Errorf("%q", got)
	}
}

func TestSignedWhenMade(t *testing.T) {
	t.Parallel()
	made := filepath.Join(t.TempDir(), "made.fw")
	runOK(t, "-c", "-f", "testdata/conf/one.conf", "-s", "testdata/keys/c.priv", "-o", made)
	if got := runOK(t, "-V", "-p", "testdata/keys/c.pub", "-i", made); got != "Valid archive with a good signature\n" {
		t.Errorf("%q", got)
	}
}

func TestExitHandshake(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args string
		end  string
	}{
		{"--exit-handshake --version", "1.16.0\n\x1a\x00"},
		{"--exit-handshake --nope", "\x1a\x01"},
		{"-V -i " + unsigned + " --exit-handshake", "without a signature\n\x1a\x00"},
	} {
		stdin := strings.NewReader("what is left in the pipe")
		var out bytes.Buffer
		Main(t.Context(), strings.Fields(tt.args), stdin, &out, &out)
		if !strings.HasSuffix(out.String(), tt.end) || stdin.Len() != 0 {
			t.Errorf("%s: %q, %d bytes are left", tt.args, out.String(), stdin.Len())
		}
	}
}

func TestWriteOptions(t *testing.T) {
	t.Parallel()
	want := filepath.Join(t.TempDir(), "plain")
	runOK(t, "-a", "-q", "-d", want, "-t", "complete", "-i", unsigned)
	plain, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	for _, options := range []string{
		"--verify-writes", "--no-verify-writes", "--minimize-writes", "--no-minimize-writes", "--verify-writes --minimize-writes",
		"-u", "-U", "-E", "--no-eject", "-y", "-v", "--unsafe", "--reboot-param-path x",
	} {
		for range 2 { // onto nothing, and onto the same
			image := filepath.Join(t.TempDir(), "image")
			args := append([]string{"-a", "-q", "-d", image, "-t", "complete", "-i", unsigned}, strings.Fields(options)...)
			if got := runOK(t, args...); got != "" {
				t.Errorf("%s: %q", options, got)
			}
			if b, err := os.ReadFile(image); err != nil || !bytes.Equal(b, plain) {
				t.Errorf("%s: another image, %v", options, err)
			}
		}
	}
	got := runOK(t, "-a", "-q", "--enable-trim", "-d", want, "-t", "complete", "-i", unsigned)
	if got != "fwup: ignoring --enable_trim since operating on a regular file\n" {
		t.Errorf("%q", got)
	}
	runOK(t, "-a", "-q", "-d", os.DevNull, "-t", "complete", "-i", unsigned)
	runOK(t, "-a", "-q", "--verify-writes", "-d", os.DevNull, "-t", "complete", "-i", unsigned)
}

func TestVerboseErrors(t *testing.T) {
	t.Parallel()
	args := []string{"-V", "-p", "testdata/keys/a.pub", "-i", unsigned}
	_, _, stderr := runWith("", args...)
	if stderr != "" {
		t.Errorf("%q", stderr)
	}
	if _, _, stderr = runWith("", append(args, "-v")...); !strings.HasPrefix(stderr, "fwup: sign it with") {
		t.Errorf("%q", stderr)
	}
}

func TestVersionIsTheLibrarys(t *testing.T) {
	t.Parallel()
	if fwup.Version != "1.16.0" {
		t.Errorf("version %s: devices compare it", fwup.Version)
	}
}
