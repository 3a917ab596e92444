package agent

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"

	"github.com/ganglion-iot/ganglion/link"
)

// runDoctor prints what link.Diagnose finds.
func runDoctor(ctx context.Context, p *program, args []string) error {
	fs := flag.NewFlagSet("doctor", flag.ContinueOnError)
	file := configFlag(fs)
	asJSON := fs.Bool("json", false, "print JSON")
	if err := p.parse(fs, args); err != nil {
		return err
	}
	checks, err := diagnose(ctx, *file)
	if err != nil {
		return err
	}
	if *asJSON {
		err = printJSON(p.stdout, checks)
	} else {
		for _, c := range checks {
			word := "ok"
			if !c.OK {
				word = "FAIL"
			}
			fmt.Fprintf(p.stdout, "%-4s  %-18s  %s\n", word, c.Name, c.Text)
		}
	}
	for _, c := range checks {
		if !c.OK && err == nil {
			err = errChecks
		}
	}
	return err
}

// check of the doctor, as printed.
type checked struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Text string `json:"text"`
}

func diagnose(ctx context.Context, file string) ([]checked, error) {
	config, settings, err := load(ctx, file)
	if err != nil {
		return []checked{{link.CheckSettings, false, err.Error()}}, nil //nolint:nilerr // it is what the doctor finds
	}
	defer settings.Close()
	var all []checked
	if err := config.checkPrograms(); err != nil {
		all = append(all, checked{"programs", false, err.Error()})
	}
	settings.Logger = slog.New(slog.DiscardHandler)
	found, err := link.Diagnose(ctx, settings.Options)
	for _, c := range found {
		all = append(all, checked{c.Name, c.OK, c.Text})
	}
	return all, err
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
