package fwup_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/ganglion-iot/ganglion/fwup"
)

// exampleKeys are the same each time, so that the examples print the same.
// Real keys come from fwup.GenerateKey(rand.Reader).
func exampleKeys() (fwup.PublicKey, fwup.PrivateKey) {
	public, private, err := fwup.GenerateKey(bytes.NewReader(make([]byte, 32)))
	if err != nil {
		log.Fatal(err)
	}
	return public, private
}

// exampleFirmware makes the firmware that the examples are about.
func exampleFirmware(private fwup.PrivateKey) []byte {
	dir, err := os.MkdirTemp("", "firmware")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	conf := filepath.Join(dir, "fwup.conf")
	if err := os.WriteFile(conf, []byte(`
meta-product = "lamp"
meta-version = "1.2.0"
file-resource rootfs { contents = "the root file system" }
task complete {
	on-init { info("writing \${FWUP_META_UUID}") }
	on-resource rootfs { raw_write(2) }
}
`), 0o600); err != nil {
		log.Fatal(err)
	}
	var archive bytes.Buffer
	err = fwup.Create(context.Background(), &archive, fwup.CreateOptions{
		ConfigPath: conf, PrivateKey: private, Time: time.Unix(1700000000, 0),
	})
	if err != nil {
		log.Fatal(err)
	}
	return archive.Bytes()
}

func ExampleCreate() {
	_, private := exampleKeys()
	archive := exampleFirmware(private)
	info, err := fwup.ReadMetadata(bytes.NewReader(archive), nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Product, info.Version, info.CreationDate, info.Tasks)
	// Output: lamp 1.2.0 2023-11-14T22:13:20Z [complete]
}

func ExampleVerify() {
	public, private := exampleKeys()
	archive := exampleFirmware(private)
	options := fwup.VerifyOptions{PublicKeys: []fwup.PublicKey{public}, Strict: true}
	info, err := fwup.Verify(context.Background(), bytes.NewReader(archive), options)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("good, signed with", fwup.FormatPublicKey(info.Key))

	other, _, err := fwup.GenerateKey(rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	options.PublicKeys = []fwup.PublicKey{other}
	_, err = fwup.Verify(context.Background(), bytes.NewReader(archive), options)
	fmt.Println(err)
	// Output:
	// good, signed with O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik=
	// Firmware archive's meta.conf fails digital signature verification.
}

func ExampleSign() {
	archive := exampleFirmware(nil)
	public, private := exampleKeys()
	var signed bytes.Buffer
	if err := fwup.Sign(context.Background(), bytes.NewReader(archive), &signed, fwup.SignOptions{PrivateKey: private}); err != nil {
		log.Fatal(err)
	}
	info, err := fwup.ReadMetadata(&signed, []fwup.PublicKey{public})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.UUID, info.Signed)
	// Output: ea0a385a-9f40-570d-2d99-34bbe8778c53 true
}

// The head of an archive is enough to know what it is.
func ExampleReadMetadata() {
	_, private := exampleKeys()
	head := exampleFirmware(private)[:512]
	info, err := fwup.ReadMetadata(bytes.NewReader(head), nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Product, info.Version, info.Nickname, info.Signed)
	// Output: lamp 1.2.0 trigger-aim true
}

func ExampleListTasks() {
	tasks, err := fwup.ListTasks(bytes.NewReader(exampleFirmware(nil)), nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(tasks)
	// Output: [complete]
}

func ExampleError() {
	public, _ := exampleKeys()
	archive := bytes.NewReader(exampleFirmware(nil))
	_, err := fwup.Verify(context.Background(), archive, fwup.VerifyOptions{PublicKeys: []fwup.PublicKey{public}})
	var wrong *fwup.Error
	if errors.As(err, &wrong) && wrong.Class == fwup.ClassSignatureMissing {
		fmt.Println(wrong, wrong.Hint)
	}
	// Output: Expecting signed firmware archive. sign it with: fwup -S -s KEY -i FILE -o FILE
}

func ExampleApply() {
	public, private := exampleKeys()
	archive := bytes.NewReader(exampleFirmware(private))
	// A real destination comes from fwup.OpenFile.
	disk := new(fwup.MemoryDevice)
	result, err := fwup.Apply(context.Background(), archive, disk, fwup.ApplyOptions{
		Task:        "complete",
		PublicKeys:  []fwup.PublicKey{public},
		VerifyFirst: true,
		Progress:    func(p fwup.Progress) { fmt.Println(p.Percent, "%") },
		Warn:        func(text string) { fmt.Println(text) },
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %q\n", result.Task, disk.Bytes()[1024:1044])
	// Output:
	// 0 %
	// writing ea0a385a-9f40-570d-2d99-34bbe8778c53
	// 99 %
	// 100 %
	// complete: "the root file system"
}
