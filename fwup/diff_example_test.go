package fwup_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/ganglion-iot/ganglion/fwup"
)

// exampleUpgrade makes firmware that devices can upgrade to with a delta. Most
// of its file system is the same in all versions.
func exampleUpgrade(version string) []byte {
	dir, err := os.MkdirTemp("", "firmware")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	rootfs := []byte("version " + version)
	for i := range 1000 {
		sum := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
		rootfs = append(rootfs, sum[:]...)
	}
	conf := filepath.Join(dir, "fwup.conf")
	err = errors.Join(os.WriteFile(filepath.Join(dir, "rootfs"), rootfs, 0o600), os.WriteFile(conf, []byte(`
meta-product = "lamp"
meta-version = "`+version+`"
file-resource rootfs { host-path = "rootfs" }
task complete {
	on-resource rootfs { raw_write(1024) }
}
task upgrade {
	on-resource rootfs {
		delta-source-raw-offset = 1024
		delta-source-raw-count = 1024
		raw_write(2048)
	}
}
`), 0o600))
	if err != nil {
		log.Fatal(err)
	}
	var archive bytes.Buffer
	if err := fwup.Create(context.Background(), &archive, fwup.CreateOptions{ConfigPath: conf, Time: time.Unix(1700000000, 0)}); err != nil {
		log.Fatal(err)
	}
	return archive.Bytes()
}

func ExampleDiff() {
	source, target := exampleUpgrade("1.2.0"), exampleUpgrade("1.3.0")
	// What is large comes from files and goes to one.
	var delta bytes.Buffer
	result, err := fwup.Diff(context.Background(),
		bytes.NewReader(source), int64(len(source)), bytes.NewReader(target), int64(len(target)), &delta, fwup.DiffOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range result.Resources {
		fmt.Println(r.Name, r.Action)
	}
	fmt.Println("a tenth of the target, or less:", result.Size*10 <= result.TargetSize)
	fmt.Println("for devices with fwup", result.Support.DeltaVersion)

	// Nothing to start from is no failure: devices take the target instead.
	other := exampleFirmware(nil)
	_, err = fwup.Diff(context.Background(),
		bytes.NewReader(target), int64(len(target)), bytes.NewReader(other), int64(len(other)), &delta, fwup.DiffOptions{})
	var e *fwup.Error
	if errors.As(err, &e) && e.Class == fwup.ClassNoDelta {
		fmt.Println(e.Reason)
	}
	// Output:
	// rootfs patched
	// a tenth of the target, or less: true
	// for devices with fwup 1.6.0
	// no_delta_support_in_firmware
}

func ExampleReadDeltaSupport() {
	support, err := fwup.ReadDeltaSupport(bytes.NewReader(exampleUpgrade("1.3.0")), nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(support.Updatable(), support.Resources, support.DeltaVersion)
	// Output: true [rootfs] 1.6.0
}
