package fwup

import (
	"errors"
	"strings"
)

// call is the name of an action or requirement and its arguments.
type call []string

// parseCalls takes a list of calls apart: for each the number of its words,
// then the words.
func parseCalls(list []string) ([]call, error) {
	var calls []call
	for len(list) > 0 {
		n, err := parseCNumber(list[0])
		if err != nil || n == 0 || n > maxActionArgs {
			return nil, errors.New("Unexpected argc value in funlist") //nolint:staticcheck // shown as fwup shows it
		}
		if uint64(len(list)-1) < n {
			return nil, errors.New("Unexpected error with funlist") //nolint:staticcheck // shown as fwup shows it
		}
		calls = append(calls, list[1:1+n])
		list = list[1+n:]
	}
	return calls, nil
}

// requirement is a condition for a task to be taken.
type requirement struct {
	args int
	// holds gets the arguments. What cannot be found out does not hold.
	holds func(a *applier, args []string) bool
}

// requirements holds every requirement by name. Those of fwup 1.16 that are
// not here never hold.
var requirements = map[string]requirement{
	"require-partition-offset": {args: 2, holds: func(a *applier, args []string) bool {
		index, err := parseCNumber(args[0])
		offset, err2 := parseCNumber(args[1])
		return err == nil && err2 == nil && a.partitionAt(index, offset)
	}},
	"require-fat-file-exists": {args: 2, holds: fatFileExists},
	"require-fat-file-match":  {args: 3, holds: fatFileMatches},
	"require-path-on-device":  requirePathOnDevice,
	"require-path-at-offset":  requirePathAtOffset,
	"require-execute":         requireExecute,
	"require-uboot-variable": {args: 3, holds: func(a *applier, args []string) bool {
		loc, err := a.ubootEnv(args[0])
		if err != nil {
			return false
		}
		env, err := ReadUBootEnv(a.cache, loc)
		if err != nil {
			return false
		}
		value, ok := env.Get(args[1])
		return ok && value == args[2]
	}},
}

// partitionAt reports whether a primary partition starts at a block.
func (a *applier) partitionAt(index, block uint64) bool {
	m, err := ReadMBR(a.cache)
	return err == nil && index < 4 && uint64(m.Partitions[index].BlockOffset) == block
}

// applicable reports whether all requirements of a task hold.
func (a *applier) applicable(t *task) bool {
	calls, err := parseCalls(t.requirements)
	if err != nil {
		return false
	}
	if t.partition1Offset >= 0 && !a.partitionAt(1, uint64(t.partition1Offset)) {
		return false
	}
	for _, c := range calls {
		r, ok := requirements[c[0]]
		if !ok || len(c)-1 != r.args || !r.holds(a, c[1:]) {
			return false
		}
	}
	return true
}

// selectTask returns the first task whose name starts with prefix and that is
// applicable, nil when there is none.
func (a *applier) selectTask(prefix string) *task {
	for _, t := range a.tasks {
		if strings.HasPrefix(t.name, prefix) && a.applicable(t) {
			return t
		}
	}
	return nil
}
