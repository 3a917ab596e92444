package fat_test

import (
	"fmt"
	"io"
	"log"

	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/fwup/fat"
)

func Example() {
	disk := new(fwup.MemoryDevice)
	if err := fat.Format(disk, 20480); err != nil {
		log.Fatal(err)
	}
	fs, err := fat.Open(disk)
	if err != nil {
		log.Fatal(err)
	}
	f, err := fs.Create("config.txt")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.WriteString(f, "quiet=1\n"); err != nil {
		log.Fatal(err)
	}
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
	if err := fs.Close(); err != nil {
		log.Fatal(err)
	}

	if fs, err = fat.Open(disk); err != nil {
		log.Fatal(err)
	}
	if f, err = fs.Open("CONFIG.TXT"); err != nil {
		log.Fatal(err)
	}
	text, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q\n", text)
	// Output: "quiet=1\n"
}
