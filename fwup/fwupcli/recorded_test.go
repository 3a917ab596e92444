package fwupcli

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// recording is testdata/vectors.json: what fwup 1.16 printed and wrote.
type recording struct {
	SourceDateEpoch int64    `json:"source_date_epoch"`
	Vectors         []vector `json:"vectors"`
}

// vector is an archive and the runs that took it.
type vector struct {
	File     string            `json:"file"`
	Group    string            `json:"group"`
	How      string            `json:"how"` // it was made
	UUID     string            `json:"uuid"`
	Metadata map[string]string `json:"metadata_raw"` // as -m prints it
	MetaConf string            `json:"meta_conf_sha256"`
	Entries  []string          `json:"entries"`
	Sig      string            `json:"signature"`
	Runs     []recordedRun     `json:"tests"`
}

type recordedRun struct {
	Op          string            `json:"op"`
	Args        []string          `json:"args"`
	Exit        int               `json:"exit"`
	Class       string            `json:"class"`
	Stdout      string            `json:"stdout"`
	StdoutHex   string            `json:"stdout_hex"`
	Stderr      string            `json:"stderr"`
	Stdin       string            `json:"stdin"`
	Env         map[string]string `json:"env"`
	Task        string            `json:"task"`
	StartImage  string            `json:"start_image"`
	ImageName   string            `json:"image_name"`
	ImageSize   int64             `json:"image_size"`
	ImageSHA256 string            `json:"image_sha256"`
	OutSHA256   string            `json:"out_sha256"`
}

var recorded = sync.OnceValues(func() (*recording, error) {
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		return nil, err
	}
	r := new(recording)
	return r, json.Unmarshal(b, r)
})

func loadRecording(t *testing.T) *recording {
	t.Helper()
	r, err := recorded()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// name is the archive without folder and ending.
func (v *vector) name() string { return strings.TrimSuffix(filepath.Base(v.File), ".fw") }

// outcome is what our program made of a run.
type outcome struct {
	exit           int
	err            error
	stdout, stderr []byte
	image          []byte
	out            []byte // what the task wrote to ${OUT}
}

// localPath finds the files that the arguments name: they are relative to
// testdata.
func localPath(arg string) string {
	if strings.HasPrefix(arg, "fw/") || strings.HasPrefix(arg, "keys/") || strings.HasPrefix(arg, "conf/") {
		return "testdata/" + arg
	}
	return arg
}

// replay runs the program with the arguments of a recorded run.
func replay(t *testing.T, v *vector, r *recordedRun) outcome {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	out := filepath.Join(t.TempDir(), "out")
	for name, value := range r.Env {
		t.Setenv(name, strings.ReplaceAll(value, "@OUT@", out))
	}
	if r.StartImage != "" {
		if err := os.WriteFile(image, startImage(t, r.StartImage), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var args []string
	for _, a := range r.Args {
		args = append(args, localPath(strings.ReplaceAll(a, "@IMG@", image)))
	}
	var stdout, stderr bytes.Buffer
	p := newProgram(recordedStdin(t, v, r), &stdout, &stderr)
	o := outcome{exit: p.main(args), err: p.err}
	o.stdout = bytes.ReplaceAll(stdout.Bytes(), []byte("testdata/"), nil)
	o.stderr = stderr.Bytes()
	b, err := os.ReadFile(image)
	if err != nil && r.ImageSHA256 != "" {
		t.Fatal(err)
	}
	o.image = b
	if r.OutSHA256 != "" {
		if o.out, err = os.ReadFile(out); err != nil {
			t.Error(err)
		}
	}
	return o
}

func recordedStdin(t *testing.T, v *vector, r *recordedRun) io.Reader {
	t.Helper()
	switch r.Stdin {
	case "", "empty, closed":
		return strings.NewReader("")
	case "the file":
		b, err := os.ReadFile(localPath(v.File))
		if err != nil {
			t.Fatal(err)
		}
		return bytes.NewReader(b)
	case "framed in 1000 byte frames + empty frame":
		b, err := os.ReadFile(localPath(v.File))
		if err != nil {
			t.Fatal(err)
		}
		return bytes.NewReader(inFrames(b, 1000))
	}
	t.Fatalf("no such stdin: %s", r.Stdin)
	return nil
}

// inFrames cuts bytes into frames of a length, with the empty one at the end.
func inFrames(b []byte, length int) []byte {
	var out []byte
	for len(b) > 0 {
		n := min(len(b), length)
		out = binary.BigEndian.AppendUint32(out, uint32(n))
		out = append(out, b[:n]...)
		b = b[n:]
	}
	return binary.BigEndian.AppendUint32(out, 0)
}

// images holds what runs left behind that later ones start from.
var images sync.Map // of func() []byte by name

// startImage returns the image that the run of that name leaves.
func startImage(t *testing.T, name string) []byte {
	t.Helper()
	once, _ := images.LoadOrStore(name, sync.OnceValue(func() []byte {
		for i := range loadRecording(t).Vectors {
			v := &loadRecording(t).Vectors[i]
			for j := range v.Runs {
				r := &v.Runs[j]
				if r.ImageName != name {
					continue
				}
				o := replay(t, v, r)
				if imageHash(o.image) != r.ImageSHA256 {
					t.Errorf("the image to start from, %s, is not as recorded: %s", name, o.stdout)
				}
				return o.image
			}
		}
		t.Errorf("no run makes the image %s", name)
		return nil
	}))
	return once.(func() []byte)()
}

func imageHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// stdoutOf returns what fwup printed in a run.
func stdoutOf(t *testing.T, r *recordedRun) []byte {
	t.Helper()
	if r.StdoutHex == "" {
		return []byte(r.Stdout)
	}
	b, err := hex.DecodeString(r.StdoutHex)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var (
	elapsedText = regexp.MustCompile(`Elapsed time: \d+\.\d{3} s\n`)
	barPattern  = regexp.MustCompile(`\r *(\d+)% \[=* *\](?: [\d.]+ \w+ in / [\d.]+ \w+ out     \x08{5})?`)
	numberLine  = regexp.MustCompile(`(?m)^(\d+)\n`)
)

// withoutProgress takes progress out of what was printed: it returns the
// percentages, the last bar and all the rest.
func withoutProgress(t *testing.T, out []byte, framed bool) (percents []int, last string, rest string) {
	t.Helper()
	if framed {
		var b strings.Builder
		for len(out) > 0 {
			kind, code, text, n := parseFrame(t, out)
			out = out[n:]
			if kind == "PR" {
				percents = append(percents, code)
			} else {
				fmt.Fprintf(&b, "%s %d %q\n", kind, code, text)
			}
		}
		return percents, "", b.String()
	}
	for _, pattern := range []*regexp.Regexp{barPattern, numberLine} {
		if found := pattern.FindAllSubmatch(out, -1); found != nil {
			for _, f := range found {
				n, err := strconv.Atoi(string(f[1]))
				if err != nil {
					t.Fatal(err)
				}
				percents = append(percents, n)
				last = string(f[0])
			}
			out = pattern.ReplaceAll(out, nil)
		}
	}
	return percents, last, string(out)
}

func parseFrame(t *testing.T, b []byte) (kind string, code int, text string, length int) {
	t.Helper()
	if len(b) < 8 || binary.BigEndian.Uint32(b) < 4 || uint64(len(b)) < 4+uint64(binary.BigEndian.Uint32(b)) {
		t.Fatalf("not a frame: %x", b)
	}
	length = 4 + int(binary.BigEndian.Uint32(b))
	return string(b[4:6]), int(binary.BigEndian.Uint16(b[6:])), string(b[8:length]), length
}
