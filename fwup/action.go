package fwup

import (
	"errors"
	"fmt"
	"strconv"
)

// maxActionArgs is the most arguments a call takes, its name among them.
const maxActionArgs = 10

// action is something a task can do. To add one, add it to the table.
type action struct {
	name     string
	resource bool   // for on-resource only
	min, max int    // arguments without the name
	usage    string // the error when their number is wrong
	// units checks the arguments and returns the amount of work, about the
	// bytes written. It runs for all actions of a task before any of them runs.
	units func(*actionCall) (int64, error)
	run   func(*actionCall) error
}

// actions holds every action by name.
var actions = actionTable(append(fatActions,
	rawWriteAction, rawMemsetAction, trimAction,
	mbrWriteAction, gptWriteAction,
	ubootClearenvAction, ubootSetenvAction, ubootUnsetenvAction, ubootRecoverAction,
	pathWriteAction, pipeWriteAction, executeAction, ubiVolumeWriteAction, rebootParamAction,
	infoAction, errorAction,
)...)

func actionTable(list ...*action) map[string]*action {
	m := make(map[string]*action, len(list))
	for _, a := range list {
		m[a.name] = a
	}
	return m
}

// actionCall is one action in its place.
type actionCall struct {
	*applier
	args     []string // without the name
	resource *resourceStream
}

// lookupAction finds the action of a call and checks that it may stand there.
func lookupAction(c call, onResource bool) (*action, error) {
	a := actions[c[0]]
	switch {
	case a == nil:
		return nil, errors.New("Unknown function") //nolint:staticcheck // shown as fwup shows it
	case a.resource && !onResource:
		return nil, fmt.Errorf("%s only usable in on-resource", a.name)
	case len(c)-1 < a.min || len(c)-1 > a.max:
		return nil, errors.New(a.usage)
	}
	return a, nil
}

var infoAction = &action{
	name: "info", min: 1, max: 1, usage: "info() requires a message parameter",
	units: noUnits,
	run: func(c *actionCall) error {
		c.warn(c.args[0])
		return nil
	},
}

var errorAction = &action{
	name: "error", min: 1, max: 1, usage: "error() requires a message parameter",
	units: noUnits,
	run:   func(c *actionCall) error { return errors.New(c.args[0]) },
}

func noUnits(*actionCall) (int64, error) { return 0, nil }

// number reads an argument as a number of C (decimal, 0x hexadecimal or
// 0 octal) from 0 to most.
func (c *actionCall) number(i int, most uint64, problem string) (int64, error) {
	n, err := parseCNumber(c.args[i])
	if err != nil || n > most {
		return 0, errors.New(problem)
	}
	return int64(n), nil
}

func parseCNumber(s string) (uint64, error) {
	base := 10
	switch {
	case len(s) > 2 && (s[:2] == "0x" || s[:2] == "0X"):
		s, base = s[2:], 16
	case len(s) > 1 && s[0] == '0':
		s, base = s[1:], 8
	}
	return strconv.ParseUint(s, base, 64)
}

// maxBlock is the largest block number whose byte offset is representable,
// with room for a segment behind it.
const maxBlock = (1<<63-1)/blockSize - 2*segmentBlocks
