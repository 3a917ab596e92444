package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ganglion-iot/ganglion/internal/rest"
)

// maxText is the longest script or code that is read, in bytes. The server
// takes less.
const maxText = 1 << 20

func deviceScriptCommand(inv *invocation) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "run-script IDENTIFIER FILE|-", Short: "Have a connected device run a script, and show what came of it", Args: cobra.ExactArgs(2),
		Long: `Have a connected device run a script in the language of its console, and wait
for the result. FILE may be - for standard input. The exit code is 1 when the
device says that the script failed.`,
		Example: "  echo 'Nerves.Runtime.KV.get_all_active()' | ganglion device run-script SN-0042 -",
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait, at most 5m")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		text, err := inv.readText(args[1])
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		p, err := inv.inProduct(ctx)
		if err != nil {
			return err
		}
		r, err := p.RunScript(ctx, args[0], text, timeout)
		if err != nil {
			return inv.explain(ctx, err, inv.aboutDevice(ctx, p, args[0]))
		}
		return inv.showResult(r)
	}
	return cmd
}

// showResult shows what came of a script; that it failed is an error.
func (inv *invocation) showResult(r rest.ScriptResult) error {
	if err := inv.show(r, func() string { return printed(r.Output) }); err != nil {
		return err
	}
	if r.Result == "error" {
		return errors.New("the script failed on the device: " + plain(or(r.Reason, "it does not say why")))
	}
	return nil
}

// readText reads a file that a person names; "-" is standard input.
func (inv *invocation) readText(name string) (string, error) {
	if name != "-" {
		text, err := readSmall(name, maxText)
		if errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("there is no file %s", name)
		}
		return string(text), err
	}
	text, err := io.ReadAll(io.LimitReader(inv.in, maxText+1))
	if err != nil {
		return "", fmt.Errorf("standard input: %w", err)
	}
	if len(text) > maxText {
		return "", fmt.Errorf("standard input: larger than %d bytes", maxText)
	}
	return string(text), nil
}

// printed is what a device printed, line by line without what could change the
// terminal.
func printed(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(plain(strings.TrimRight(line, "\r\n")))
		b.WriteByte('\n')
	}
	return b.String()
}
