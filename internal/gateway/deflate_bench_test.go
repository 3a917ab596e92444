package gateway

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"testing"
)

// deflateTail ends every flushed block; permessage-deflate leaves it out.
const deflateTail = "\x00\x00\xff\xff"

// typical are messages as a connection of a device carries them.
func typical() map[string]string {
	sum := func(n int) string { return fmt.Sprintf("%X", sha256.Sum256([]byte{byte(n)})) }
	digest := sum(0)
	var parts []string
	for i := range 40 {
		parts = append(parts, sum(i+1))
	}
	return map[string]string{
		"heartbeat": `[null,"4","phoenix","heartbeat",{}]`,
		"join": `["1","1","device","phx_join",{` + facts + `,"nerves_fw_author":"The Thermostat Team","nerves_fw_description":"",` +
			`"nerves_fw_vcs_identifier":"6e4ff3f2d0d2e1b1","nerves_fw_application_part0_devpath":"/dev/mmcblk0p3","nerves_fw_application_part0_fstype":"f2fs",` +
			`"nerves_fw_application_part0_target":"/root","console_version":"2.0.0","currently_downloading_uuid":null,` +
			`"meta":{"firmware_validated":true,"firmware_auto_revert_detected":false}}]`,
		"health": `["5","19","extensions","health:report",{"value":{"timestamp":"2026-08-22T10:06:02.250000Z","metadata":{"site":"lab"},"alarms":{},` +
			`"metrics":{"cpu_temp":48.3,"cpu_usage_percent":7.25,"load_1min":0.2,"load_5min":0.1,"load_15min":0.05,"mem_size_mb":1900,"mem_used_mb":310,` +
			`"mem_used_percent":16,"disk_total_kb":7000000,"disk_available_kb":700000,"disk_used_percentage":10},"checks":{},"connectivity":{}}}]`,
		"update": `[null,null,"device","update",{"update_available":true,"firmware_url":"https://example.com/firmware/7/1f0e7a52.fw?signature=` + digest +
			`","firmware_meta":{"uuid":"1f0e7a52-2f0c-5d0e-9a55-7d1b6a0f3c11","version":"1.5.0","product":"thermostat","platform":"rpi4","architecture":"arm"},` +
			`"size":41943040,"checksum":"` + digest + `","partials_checksums":["` + strings.Join(parts, `","`) + `"],"deployment_id":12}]`,
	}
}

// BenchmarkDeflate is what permessage-deflate without context takeover would
// save and cost for typical messages: the share of bytes left, and the time to
// inflate what a device sends and to deflate what it is sent, with state that
// all connections share.
func BenchmarkDeflate(b *testing.B) {
	for name, text := range typical() {
		var small bytes.Buffer
		w, err := flate.NewWriter(&small, flate.DefaultCompression)
		must(b, err)
		deflate := func() {
			small.Reset()
			w.Reset(&small)
			if _, err := w.Write([]byte(text)); err != nil {
				b.Fatal(err)
			}
			must(b, w.Flush())
		}
		deflate()
		sent := small.Len() - len(deflateTail)
		b.Run(name+"/deflate", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				deflate()
			}
			b.ReportMetric(float64(len(text)), "B/plain")
			b.ReportMetric(float64(sent), "B/deflated")
		})
		packed := bytes.Clone(small.Bytes())
		r := flate.NewReader(nil)
		out := make([]byte, len(text))
		b.Run(name+"/inflate", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := r.(flate.Resetter).Reset(bytes.NewReader(packed), nil); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(r, out); err != nil {
					b.Fatal(err)
				}
			}
		})
		if string(out) != text {
			b.Fatalf("%s came back as %q", name, out)
		}
	}
}

// BenchmarkDeflateState is the memory of what deflates and what inflates.
func BenchmarkDeflateState(b *testing.B) {
	b.Run("deflate", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w, err := flate.NewWriter(io.Discard, flate.DefaultCompression)
			must(b, err)
			_, err = w.Write([]byte("x"))
			must(b, err)
			must(b, w.Flush())
		}
	})
	b.Run("inflate", func(b *testing.B) {
		packed := []byte{0xaa, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff}
		b.ReportAllocs()
		for b.Loop() {
			_, err := io.ReadFull(flate.NewReader(bytes.NewReader(packed)), make([]byte, 1))
			must(b, err)
		}
	})
}
