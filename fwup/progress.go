package fwup

import "io"

// Progress tells how far Apply is.
type Progress struct {
	Percent int   // from ApplyOptions.Low to High; never falls
	In      int64 // bytes of the archive read so far
	Out     int64 // units of work done so far, about the bytes written
}

// progressMeter turns units of work into rising percentages, as fwup 1.16
// does: the first is low, high comes only when everything is written.
type progressMeter struct {
	report      func(Progress)
	low, high   int
	last        int
	total, done int64
	in          *countingReader
}

func newProgressMeter(report func(Progress), low, high int, in *countingReader) *progressMeter {
	if low == 0 && high == 0 {
		high = 100
	}
	m := &progressMeter{report: report, low: low, high: high, last: low, in: in}
	m.tell(low)
	return m
}

// add counts units of work done.
func (m *progressMeter) add(units int64) {
	m.done += units
	if m.total <= 0 || units <= 0 {
		return
	}
	percent := m.low + int(float64(m.done)/float64(m.total)*float64(m.high-m.low))
	if m.done <= 1<<52/100 { // exact where it fits
		percent = m.low + int(m.done*int64(m.high-m.low)/m.total)
	}
	percent = min(percent, m.high-1)
	if percent > m.last {
		m.last = percent
		m.tell(percent)
	}
}

// finish reports the end.
func (m *progressMeter) finish() {
	m.last = m.high
	m.tell(m.high)
}

func (m *progressMeter) tell(percent int) {
	if m.report != nil {
		m.report(Progress{Percent: percent, In: m.in.n, Out: m.done})
	}
}

// countingReader counts what is read through it.
type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
