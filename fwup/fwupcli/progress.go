package fwupcli

import (
	"fmt"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fwup"
)

// progressBar shows how far an update is, in one of four ways: as a bar, as a
// number a line, in frames, or not at all.
type progressBar struct {
	out     *output
	quiet   bool
	numeric bool
	last    int       // percent shown last, -1 before the first
	start   time.Time // of the work
}

// show shows the progress if it grew.
func (b *progressBar) show(p fwup.Progress) {
	if p.Percent <= b.last {
		return
	}
	b.last = p.Percent
	switch {
	case b.quiet:
	case b.out.framing:
		b.out.frame("PR", p.Percent, "")
	case b.numeric:
		b.out.write(fmt.Appendf(nil, "%d\n", p.Percent))
	default:
		b.out.write([]byte(barText(p)))
	}
}

// bar reports whether a bar is drawn.
func (b *progressBar) bar() bool { return !b.quiet && !b.numeric && !b.out.framing }

// finish ends the bar.
func (b *progressBar) finish(worked bool) {
	if !b.bar() {
		return
	}
	text := "\nSuccess!\n"
	if worked {
		text += "Elapsed time: " + elapsed(time.Since(b.start)) + "\n"
	}
	b.out.write([]byte(text))
}

const barWidth = 36

func barText(p fwup.Progress) string {
	filled := max(0, min(barWidth, p.Percent*barWidth/100))
	text := fmt.Sprintf("\r%3d%% [%-*s]", p.Percent, barWidth, strings.Repeat("=", filled))
	if p.Out > 0 {
		// The blanks cover what a longer text before this one left.
		text += fmt.Sprintf(" %s in / %s out     \b\b\b\b\b", sizeText(p.In), sizeText(p.Out))
	}
	return text
}

// sizeText returns a number of bytes with two decimals in a unit that is a
// power of 1000.
func sizeText(n int64) string {
	unit, name := int64(1), "bytes"
	for _, next := range []string{"KB", "MB", "GB", "TB"} {
		if n < unit*1000 {
			break
		}
		unit, name = unit*1000, next
	}
	return fmt.Sprintf("%.2f %s", float64(n)/float64(unit), name)
}

func elapsed(d time.Duration) string {
	ms := d.Milliseconds()
	if ms > 60_000 {
		return fmt.Sprintf("%d min %02d s", ms/60_000, ms/1000%60)
	}
	return fmt.Sprintf("%d.%03d s", ms/1000, ms%1000)
}
