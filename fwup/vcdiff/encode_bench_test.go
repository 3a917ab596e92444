package vcdiff

import (
	"bytes"
	"testing"
)

// BenchmarkEncode encodes pairs of 64 MiB. It reports, besides the time, how
// large the delta is.
func BenchmarkEncode(b *testing.B) {
	const size = 64 << 20
	source := prose(1, size/2)
	source = append(source, noise(2, size/2)...)
	for _, test := range []struct {
		name   string
		target func() []byte
	}{
		{"identical", func() []byte { return source }},
		{"scattered=1%", func() []byte { return scattered(source, 0.01, 1) }},
		{"scattered=30%", func() []byte { return scattered(source, 0.3, 64) }},
		{"shifted=1%", func() []byte { return shifted(source, 0.01, 4000) }},
		{"shifted=30%", func() []byte { return shifted(source, 0.3, 4000) }},
		{"new", func() []byte { return append(noise(3, size/2), prose(4, size/2)...) }},
		{"zeros", func() []byte { return make([]byte, size) }},
	} {
		b.Run(test.name, func(b *testing.B) {
			target := test.target()
			b.SetBytes(int64(len(target)))
			var delta countingWriter
			for b.Loop() {
				delta = 0
				if err := Encode(b.Context(), &delta, bytes.NewReader(source), size, bytes.NewReader(target), EncodeOptions{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(delta), "delta-bytes")
		})
	}
}

// countingWriter counts what is written to it.
type countingWriter int64

func (c *countingWriter) Write(p []byte) (int, error) {
	*c += countingWriter(len(p))
	return len(p), nil
}
