package simulate

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fwup"
)

// The layout of a board's image in blocks of 512 bytes. Both copies of the
// environment and every slot start on a segment of their own (256 blocks), so
// that no single write touches two of them.
const (
	block      = 512
	envOffset  = 256
	envRedund  = 512
	envCount   = 32
	slotA      = 1024
	slotBlocks = 16384 // 8 MiB
	slotB      = slotA + slotBlocks
)

// EnvLocation is where a board keeps its U-Boot environment.
var EnvLocation = fwup.UBootEnvLocation{Offset: envOffset * block, Redundant: envRedund * block, Size: envCount * block}

// MaxRootFS is the most a slot of a board takes, in bytes.
const MaxRootFS = slotBlocks * block

// FirmwareSpec describes a firmware to build for boards.
type FirmwareSpec struct {
	Product, Version, Platform, Architecture string
	Size                                     int // bytes of the root file system; its content depends on the version
	Key                                      fwup.PrivateKey
	Time                                     time.Time
}

// BuildFirmware builds and signs a firmware below dir and returns its path.
// The root file system is pseudo-random, so that it does not compress to
// nothing, and the same for the same spec.
func BuildFirmware(ctx context.Context, dir string, spec FirmwareSpec) (path string, err error) {
	if spec.Size <= 0 || spec.Size > MaxRootFS {
		return "", fmt.Errorf("size %d: a slot takes 1 to %d bytes", spec.Size, MaxRootFS)
	}
	base := filepath.Join(dir, strings.ReplaceAll(spec.Product+"-"+spec.Version, "/", "_"))
	rootfs, conf, path := base+".rootfs", base+".conf", base+".fw"
	if err := os.WriteFile(rootfs, noise(spec.Product+spec.Version, spec.Size), 0o600); err != nil {
		return "", err
	}
	if err := os.WriteFile(conf, []byte(boardConf(spec, rootfs)), 0o600); err != nil {
		return "", err
	}
	out, err := os.Create(path)
	if err != nil {
		return "", err
	}
	if spec.Time.IsZero() {
		spec.Time = time.Now()
	}
	err = fwup.Create(ctx, out, fwup.CreateOptions{ConfigPath: conf, PrivateKey: spec.Key, Time: spec.Time, Level: 1})
	return path, errors.Join(err, out.Close(), os.Remove(rootfs), os.Remove(conf))
}

// noise is size bytes that depend on seed only.
func noise(seed string, size int) []byte {
	out := make([]byte, 0, size+sha256.Size)
	var n [8]byte
	for i := uint64(0); len(out) < size; i++ {
		binary.LittleEndian.PutUint64(n[:], i)
		h := sha256.Sum256(append(n[:], seed...))
		out = append(out, h[:]...)
	}
	return out[:size]
}

// boardConf is the fwup configuration of a board's firmware. A slot becomes
// active by the last write of an upgrade; until then the other one boots.
func boardConf(s FirmwareSpec, rootfs string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "meta-product = %q\nmeta-version = %q\nmeta-platform = %q\nmeta-architecture = %q\n",
		s.Product, s.Version, s.Platform, s.Architecture)
	fmt.Fprintf(&b, "meta-description = \"Root file system of %d bytes\"\n", s.Size)
	fmt.Fprintf(&b, "file-resource rootfs.img { host-path = %q }\n", rootfs)
	fmt.Fprintf(&b, "mbr mbr {\n partition 0 { block-offset = %d block-count = %d type = 0x83 boot = true }\n partition 1 { block-offset = %d block-count = %d type = 0x83 }\n}\n",
		slotA, slotBlocks, slotB, slotBlocks)
	fmt.Fprintf(&b, "uboot-environment env { block-offset = %d block-count = %d block-offset-redund = %d }\n", envOffset, envCount, envRedund)
	fmt.Fprintf(&b, "task complete {\n on-init {\n  mbr_write(mbr)\n  uboot_clearenv(env)\n%s  uboot_setenv(env, \"a%s\", \"1\")\n  uboot_setenv(env, \"%s\", \"a\")\n }\n on-resource rootfs.img { raw_write(%d) }\n}\n",
		setMetadata(s, "a"), validated, varActive, slotA)
	b.WriteString(upgradeTask(s, "b", "a", slotB))
	b.WriteString(upgradeTask(s, "a", "b", slotA))
	b.WriteString("task upgrade.unknown { on-init { error(\"neither slot is active\") } }\n")
	return b.String()
}

func upgradeTask(s FirmwareSpec, to, from string, offset int) string {
	return fmt.Sprintf(`task upgrade.%[1]s {
 require-uboot-variable(env, "%[2]s", "%[3]s")
 on-init {
  info("writing slot %[1]s")
  uboot_unsetenv(env, "%[1]s%[4]s")
 }
 on-resource rootfs.img { raw_write(%[5]d) }
 on-finish {
%[6]s  uboot_setenv(env, "%[1]s%[7]s", "0")
  uboot_setenv(env, "%[8]s", "0")
  uboot_setenv(env, "%[2]s", "%[1]s")
 }
}
`, to, varActive, from, uuid, offset, setMetadata(s, to), validated, varBootCount)
}

// setMetadata sets the values a device reports about a slot. The uuid is only
// known once the archive is complete: fwup fills it in when it applies.
func setMetadata(s FirmwareSpec, slot string) string {
	var b strings.Builder
	for _, kv := range [][2]string{
		{"nerves_fw_uuid", `\${FWUP_META_UUID}`}, {"nerves_fw_product", s.Product}, {"nerves_fw_version", s.Version},
		{"nerves_fw_platform", s.Platform}, {"nerves_fw_architecture", s.Architecture},
	} {
		fmt.Fprintf(&b, "  uboot_setenv(env, \"%s.%s\", \"%s\")\n", slot, kv[0], kv[1])
	}
	return b.String()
}
