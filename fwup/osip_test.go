package fwup

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

// TestOSIP writes the header for the boot loader of an Intel board: in place
// of the boot code, with a checksum that makes the exclusive or of all 0.
func TestOSIP(t *testing.T) {
	t.Parallel()
	archive := archiveOf(t, `
		mbr m {
			include-osip = true
			osip-minor = 2
			signature = 0x01020304
			osii 1 {
				os-major = 3 os-minor = 4
				start-block-offset = 2048
				ddr-load-address = 0x01100000
				entry-point = 0xfedcba98
				image-size-blocks = 0xc000
			}
			partition 0 { block-offset = 14336 block-count = 289044 type = 0x83 }
		}
		task complete { on-init { mbr_write(m) } }`)
	dev := new(MemoryDevice)
	apply(t, archive, dev, ApplyOptions{Task: "complete"})
	image := dev.Bytes()
	want := "244f5324" + "00" + "02" + "01" + "%02x" + "01" + "02" + "5000" + strings.Repeat("00", 20) +
		strings.Repeat("00", 24) + // the image that was left out
		"0400" + "0300" + "00080000" + "00001001" + "98badcfe" + "00c00000" + "0f" + "000000"
	got := hex.EncodeToString(image[:80])
	if want = fmt.Sprintf(want, image[7]); got != want {
		t.Errorf("header %s, expected %s", got, want)
	}
	sum := byte(0)
	for _, b := range image[:80] {
		sum ^= b
	}
	if sum != 0 || image[7] == 0 {
		t.Errorf("checksum %02x leaves %02x", image[7], sum)
	}
	if !bytes.Equal(image[80:440], make([]byte, 360)) || hex.EncodeToString(image[440:446]) != "040302010000" {
		t.Errorf("after the header:\n%s", hex.Dump(image[80:446]))
	}
	m, err := ReadMBR(dev)
	if err != nil || m.Partitions[0] != (MBRPartition{BlockOffset: 14336, BlockCount: 289044, Type: 0x83}) {
		t.Errorf("%+v, %v", m.Partitions, err)
	}
}

// TestOSIPOfAllImages fills the header.
func TestOSIPOfAllImages(t *testing.T) {
	t.Parallel()
	text := "mbr m { include-osip = true "
	for n := range maxOSII {
		text += fmt.Sprintf("osii %d { attribute = %d } ", n, 0x100+n) // only the low byte has room
	}
	table, err := mbrTableOf(mustReadConfig(t, text+"}").section("mbr", "m"))
	if err != nil {
		t.Fatal(err)
	}
	code := table.mbr.BootCode
	if code[9] != maxOSII || code[10] != 392&0xff || code[11] != 392>>8 || code[osipSize+osiiSize*14+20] != 14 {
		t.Errorf("header\n%s", hex.Dump(code[:]))
	}
}
