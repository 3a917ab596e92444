package fwupcli

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unicode"

	"github.com/ganglion-iot/ganglion/fwup"
)

// diff makes a delta that upgrades from one update to another.
func (p *program) diff() error {
	o := &p.opts
	switch {
	case o.input == "":
		return errors.New("Specify an input firmware file") //nolint:staticcheck // worded as for -V and -S
	case o.output == nil:
		return errors.New("Specify an output firmware file") //nolint:staticcheck // worded as for -S
	}
	source, sourceSize, err := openSized(o.diffSource)
	if err != nil {
		return err
	}
	defer source.Close()
	target, targetSize, err := openSized(o.input)
	if err != nil {
		return err
	}
	defer target.Close()
	var result *fwup.DiffResult
	err = replaceFile(*o.output, *o.output+".tmp", func(out *os.File) (err error) {
		result, err = fwup.Diff(p.ctx, source, sourceSize, target, targetSize, out, fwup.DiffOptions{PublicKeys: o.publicKeys, Level: o.level})
		if err == nil {
			err = out.Sync()
		}
		return err
	})
	if err != nil {
		return err
	}
	p.out.result(diffTable(result))
	return nil
}

func openSized(path string) (*os.File, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("Failed to open '%s'", path) //nolint:staticcheck // worded as for other commands
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, 0, fmt.Errorf("'%s' is not a regular file", path)
	}
	return f, info.Size(), nil
}

// diffTable shows what became of each resource, and of the whole.
func diffTable(r *fwup.DiffResult) string {
	rows := [][4]string{{"resource", "full", "delta", "ratio"}}
	for _, res := range r.Resources {
		row := [4]string{printable(res.Name), strconv.FormatInt(res.Full, 10), strconv.FormatInt(res.Delta, 10), percentage(res.Delta, res.Full)}
		switch {
		case res.Action == fwup.DiffRemoved:
			row[2], row[3] = "-", "removed"
		case res.Reason != "":
			row[3] += "  " + res.Reason
		}
		rows = append(rows, row)
	}
	rows = append(rows, [4]string{"total", strconv.FormatInt(r.TargetSize, 10), strconv.FormatInt(r.Size, 10), percentage(r.Size, r.TargetSize)})
	var widths [4]int
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		fmt.Fprintf(&b, "%-*s  %*s  %*s  %s\n", widths[0], row[0], widths[1], row[1], widths[2], row[2], row[3])
	}
	fmt.Fprintf(&b, "Devices need fwup %s or later.\n", r.Support.DeltaVersion)
	return b.String()
}

func percentage(part, whole int64) string {
	if whole <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", float64(part)/float64(whole)*100)
}

// printable is a name as it is, or in quotes when it could confuse a terminal.
func printable(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(name)
	}
	return name
}
