// Command bench measures what Ganglion promises and prints a table: name,
// value, unit, goal, met or not. With BENCH_JSON=file it also writes the rows
// as an array of objects.
//
// Machines are noisy, so speed is a ratio to a bare counterpart that runs in
// the same minute on the same cores; memory and size are absolute. Servers run
// in a child process, so that what is measured is theirs alone.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"text/tabwriter"
)

// row is one line of the table.
type row struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Goal  string  `json:"goal"`
	Met   *bool   `json:"met"` // null: for orientation only
}

// atMost judges a value by its goal.
func atMost(name string, value float64, unit string, goal float64) row {
	met := value <= goal
	return row{name, value, unit, fmt.Sprintf("≤ %g", goal), &met}
}

// atLeast judges a share in percent.
func atLeast(name string, value, goal float64) row {
	met := value >= goal
	return row{name, value, "%", fmt.Sprintf("≥ %g", goal), &met}
}

func orientation(name string, value float64, unit, goal string) row {
	return row{name, value, unit, goal, nil}
}

// measurement is a named group of rows.
type measurement struct {
	name string
	run  func(ctx context.Context, dir string) ([]row, error)
}

var measurements = []measurement{
	{"density", density},
	{"joins", joins},
	{"fanout", fanOut},
	{"restart", restart},
	{"agent", agent},
	{"upload", upload},
	{"download", download},
	{"startup", startUp},
	{"size", sizes},
	{"fwup archives", fwupArchives},
	{"fwup deltas", fwupDeltas},
}

func main() {
	only := flag.String("only", "", "run only the measurements whose name holds this `text`")
	child := flag.String("child", "", "serve as a child process (internal)")
	data := flag.String("data", "", "data directory of the child (internal)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *child != "" {
		err = runChild(ctx, *child, *data)
	} else {
		err = runAll(ctx, *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func runAll(ctx context.Context, only string) error {
	base, err := os.MkdirTemp("", "ganglion-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(base)
	var rows []row
	var failed error
	for _, m := range measurements {
		if !strings.Contains(m.name, only) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s\n", m.name)
		dir := filepath.Join(base, strings.ReplaceAll(m.name, " ", "-"))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		got, err := m.run(ctx, dir)
		if err != nil { // the others are worth knowing all the same
			failed = errors.Join(failed, fmt.Errorf("%s: %w", m.name, err))
		}
		rows = append(rows, got...)
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	if file := os.Getenv("BENCH_JSON"); file != "" {
		b, err := json.MarshalIndent(rows, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
			return err
		}
	}
	return errors.Join(printTable(rows), failed)
}

func printTable(rows []row) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tVALUE\tUNIT\tGOAL\tMET")
	for _, r := range rows {
		met := "–"
		if r.Met != nil {
			met = map[bool]string{true: "yes", false: "NO"}[*r.Met]
		}
		fmt.Fprintf(w, "%s\t%.4g\t%s\t%s\t%s\n", r.Name, r.Value, r.Unit, r.Goal, met)
	}
	return w.Flush()
}
