package link

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fwup"
)

// patience bounds every wait for something that must happen.
const patience = 20 * time.Second

// testLocation is where the boards of these tests keep their environment.
var testLocation = fwup.UBootEnvLocation{Offset: 256 * 512, Size: 32 * 512, Redundant: 512 * 512}

// factory builds firmware that boards of these tests take.
type factory struct {
	dir     string
	public  fwup.PublicKey
	private fwup.PrivateKey
}

func newFactory(t *testing.T) *factory {
	t.Helper()
	public, private, err := fwup.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &factory{dir: t.TempDir(), public: public, private: private}
}

// built is a firmware file.
type built struct {
	path, uuid, checksum string
	size                 int64
	data                 []byte
}

// build makes a firmware; change may rewrite its configuration.
func (f *factory) build(t *testing.T, version string, change func(string) string) built {
	t.Helper()
	rootfs := filepath.Join(f.dir, version+".rootfs")
	content := make([]byte, 0, 96<<10)
	for i := 0; len(content) < 96<<10; i++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", version, i))
		content = append(content, sum[:]...)
	}
	if err := os.WriteFile(rootfs, content, 0o600); err != nil {
		t.Fatal(err)
	}
	text := boardConf(version, rootfs)
	if change != nil {
		text = change(text)
	}
	conf := filepath.Join(f.dir, version+".conf")
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b := built{path: filepath.Join(f.dir, version+".fw")}
	out, err := os.Create(b.path)
	if err != nil {
		t.Fatal(err)
	}
	err = fwup.Create(t.Context(), out, fwup.CreateOptions{ConfigPath: conf, PrivateKey: f.private, Time: time.Unix(1e9, 0), Level: 1})
	if err := errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
	if b.data, err = os.ReadFile(b.path); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b.data)
	b.checksum, b.size = hex.EncodeToString(sum[:]), int64(len(b.data))
	file, err := os.Open(b.path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := fwup.ReadMetadata(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.uuid = info.Metadata.UUID
	return b
}

func boardConf(version, rootfs string) string {
	slot := func(name string) string {
		out := fmt.Sprintf("  uboot_setenv(env, \"%s.nerves_fw_uuid\", \"\\${FWUP_META_UUID}\")\n", name)
		for _, kv := range [][2]string{{"product", "thermostat"}, {"version", version}, {"platform", "board"}, {"architecture", "arm"}} {
			out += fmt.Sprintf("  uboot_setenv(env, \"%s.nerves_fw_%s\", \"%s\")\n", name, kv[0], kv[1])
		}
		return out
	}
	upgrade := func(to, from string, at int) string {
		return fmt.Sprintf(`task upgrade.%s {
 require-uboot-variable(env, "nerves_fw_active", "%s")
 on-init { info("writing slot %s") }
 on-resource rootfs.img { raw_write(%d) }
 on-finish {
%s  uboot_setenv(env, "%s.nerves_fw_validated", "0")
  uboot_setenv(env, "nerves_fw_active", "%s")
 }
}
`, to, from, to, at, slot(to), to, to)
	}
	return fmt.Sprintf(`meta-product = "thermostat"
meta-version = "%s"
meta-platform = "board"
meta-architecture = "arm"
file-resource rootfs.img { host-path = "%s" }
uboot-environment env { block-offset = 256 block-count = 32 block-offset-redund = 512 }
task complete {
 on-init { uboot_clearenv(env) }
 on-resource rootfs.img { raw_write(1024) }
 on-finish {
%s  uboot_setenv(env, "a.nerves_fw_validated", "1")
  uboot_setenv(env, "nerves_fw_active", "a")
 }
}
`, version, rootfs, slot("a")) + upgrade("b", "a", 2048) + upgrade("a", "b", 1024)
}

// newBoard is a disk image with a firmware in slot a.
func newBoard(t *testing.T, fw built) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk.img")
	dev, err := fwup.OpenFile(image)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	f, err := os.Open(fw.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fwup.Apply(t.Context(), f, dev, fwup.ApplyOptions{Task: "complete", High: 100}); err != nil {
		t.Fatal(err)
	}
	return image
}

// setVars changes variables of a board, as a boot loader would.
func setVars(t *testing.T, image string, vars map[string]string) {
	t.Helper()
	dev, err := fwup.OpenFile(image)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	env, err := fwup.ReadUBootEnv(dev, testLocation)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range vars {
		env.Set(k, v)
	}
	if err := fwup.WriteUBootEnv(dev, testLocation, env); err != nil {
		t.Fatal(err)
	}
}

func readVars(t *testing.T, image string) map[string]string {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	env, err := fwup.ReadUBootEnv(f, testLocation)
	if err != nil {
		t.Fatal(err)
	}
	return maps.Collect(env.Vars())
}

// witness is a Client that tells the test what it is asked.
type witness struct {
	DefaultClient
	decide     func(Update) Decision
	validate   func() error
	reboot     func() error
	identified chan struct{}
	failed     chan error
	rebooted   chan struct{}
	lost       chan error
	applied    atomic.Int32

	mu       sync.Mutex
	messages []string
	stages   []string
}

func newWitness() *witness {
	return &witness{
		DefaultClient: DefaultClient{Logger: quiet()},
		identified:    make(chan struct{}, 64), failed: make(chan error, 64),
		rebooted: make(chan struct{}, 64), lost: make(chan error, 64),
	}
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func (w *witness) UpdateAvailable(ctx context.Context, u Update) Decision {
	if w.decide != nil {
		return w.decide(u)
	}
	return w.DefaultClient.UpdateAvailable(ctx, u)
}

func (w *witness) UpdateProgress(_ Update, stage Stage, percent int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stages = append(w.stages, fmt.Sprintf("%s %d", stage, percent))
}

func (w *witness) UpdateMessage(_ Update, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.messages = append(w.messages, text)
}

func (w *witness) UpdateApplied(Update) { w.applied.Add(1) }

func (w *witness) UpdateFailed(_ Update, err error) { w.failed <- err }

func (w *witness) Reboot(context.Context) error {
	w.rebooted <- struct{}{}
	if w.reboot != nil {
		return w.reboot()
	}
	return nil
}

func (w *witness) Identify(context.Context) { w.identified <- struct{}{} }

func (w *witness) Validate(context.Context) error {
	if w.validate != nil {
		return w.validate()
	}
	return nil
}

func (w *witness) Disconnected(err error) {
	select {
	case w.lost <- err:
	default: // nobody looks at so many
	}
}

// await receives what must come.
func await[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: nothing within %s", what, patience)
		panic("unreachable")
	}
}
