package fwup

import "strings"

// environment is what ${VAR} in a configuration stands for: variables that the
// configuration defines, and below them those it was given.
type environment struct {
	defined map[string]string
	outer   func(string) (string, bool) // may be nil
	left    int                         // bytes that may still be substituted
	asked   map[string]bool             // names looked up that were not defined
}

// Substitution can double a text in every line, so its bytes are counted.
const (
	maxMetaConfText = 1 << 20
	maxConfigText   = 16 << 20
)

func newEnvironment(outer func(string) (string, bool), limit int) *environment {
	return &environment{defined: map[string]string{}, asked: map[string]bool{}, outer: outer, left: limit}
}

func (e *environment) lookup(name string) (string, bool) {
	if v, ok := e.defined[name]; ok {
		return v, true
	}
	if e.outer != nil {
		return e.outer(name)
	}
	return "", false
}

// substitute returns the value of what stands between ${ and }: a name, or a
// name and a default after ":-". What is not defined is empty.
func (e *environment) substitute(inside string) (string, error) {
	name, def := inside, ""
	if i := strings.IndexByte(inside, ':'); i >= 0 && strings.HasPrefix(inside[i:], ":-") {
		name, def = inside[:i], inside[i+2:]
	}
	if _, ok := e.defined[name]; !ok {
		e.asked[name] = true
	}
	value, ok := e.lookup(name)
	if !ok {
		value = def
	}
	if len(value) > e.left {
		return "", configErrorf("variables make the configuration too long")
	}
	e.left -= len(value)
	return value, nil
}

// define sets a variable, unless it is set already and override is false.
func (e *environment) define(name, value string, override bool) error {
	if name == "" || strings.ContainsRune(name, '=') {
		return configErrorf("set_environment failed")
	}
	if _, ok := e.lookup(name); !ok || override {
		e.defined[name] = value
	}
	return nil
}
