package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/fwup"
)

// Exit codes, as the help tells them.
const (
	exitOK           = 0
	exitFailure      = 1
	exitUsage        = 2
	exitUnauthorized = 3
	exitNotFound     = 4
	exitConflict     = 5
	exitUnavailable  = 6
	exitInterrupted  = 130
)

var errInterrupted = errors.New("interrupted")

// usageError is a command line nobody can make sense of.
type usageError struct {
	err  error
	hint string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usage marks err as one of usage and points to the help of cmd.
func usage(cmd *cobra.Command, err error) error {
	var u *usageError
	if errors.As(err, &u) {
		return err
	}
	return &usageError{err: err, hint: fmt.Sprintf("see `%s --help`", cmd.CommandPath())}
}

// exitCode maps the kind of an error to the exit code.
func exitCode(err error) int {
	var u *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case errors.As(err, &u):
		return exitUsage
	}
	switch fleet.KindOf(err) {
	case fleet.Unauthorized, fleet.Forbidden:
		return exitUnauthorized
	case fleet.NotFound:
		return exitNotFound
	case fleet.Conflict:
		return exitConflict
	case fleet.Unavailable, fleet.RateLimited:
		return exitUnavailable
	}
	return exitFailure
}

// hintOf is what to do next about an error: what the error says itself, or
// what helps against any of its kind.
func hintOf(err error) string {
	var u *usageError
	var archive *fwup.Error
	switch {
	case errors.As(err, &u):
		return u.hint
	case fleet.HintOf(err) != "":
		return fleet.HintOf(err)
	case errors.As(err, &archive) && archive.Hint != "":
		return archive.Hint
	}
	switch fleet.KindOf(err) {
	case fleet.Unauthorized:
		return "sign in with `ganglion login`"
	case fleet.Forbidden:
		return "ask an admin of the org for a higher role"
	}
	return ""
}

// report tells an error on the error stream: for people, or as JSON.
func (inv *invocation) report(err error) {
	if err == nil {
		return
	}
	if inv.json {
		kind := fleet.KindOf(err)
		var u *usageError
		if errors.As(err, &u) {
			kind = fleet.Invalid
		}
		// The stream is gone if this fails; there is nowhere left to tell.
		_ = json.NewEncoder(inv.err).Encode(map[string]any{"error": map[string]any{
			"kind": kind, "message": err.Error(), "field": fleet.FieldOf(err), "hint": hintOf(err), "exit": exitCode(err),
		}})
		return
	}
	var b strings.Builder
	b.WriteString(styleBad.Render("Error:") + " " + err.Error() + "\n")
	if hint := hintOf(err); hint != "" {
		b.WriteString("  " + styleFaint.Render("→") + " " + hint + "\n")
	}
	inv.fprint(inv.err, b.String())
}
