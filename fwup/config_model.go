package fwup

import "slices"

// optionKind says how the value of an option is written and checked.
type optionKind int

const (
	stringOption   optionKind = iota
	intOption                 // shown in decimal
	boolOption                // shown as true or false
	listOption                // of strings
	intListOption             // of numbers
	sectionOption             // { … }; see option.titled
	includeOption             // include(file)
	defineOption              // define(K, V) and its kin
	hiddenOption              // a string that is read and never shown
	functionOption            // a call whose words are gathered in a list option, see option.list
)

// option is one name a section knows, in the order in which it is shown.
type option struct {
	name   string
	kind   optionKind
	def    string  // the default; it is not shown
	titled bool    // sectionOption: has a title and may stand several times
	schema *schema // sectionOption: what is inside
	list   string  // functionOption: "funlist" or "reqlist"
	local  bool    // used when creating only; never shown in meta.conf
}

// schema is what may stand in a kind of section.
type schema struct {
	options []option
}

func (s *schema) option(name string) *option {
	for i := range s.options {
		if s.options[i].name == name {
			return &s.options[i]
		}
	}
	return nil
}

// section is a part of a configuration: the whole file, or what stands between
// braces. Values are kept as text in the form in which they are shown.
type section struct {
	schema *schema
	title  string
	file   string                // where it began; paths in it are relative to that
	values map[string][]string   // one value, or those of a list; absent when unset
	subs   map[string][]*section // by option name, in declaration order
}

func newSection(s *schema, title string) *section {
	return &section{schema: s, title: title, values: map[string][]string{}, subs: map[string][]*section{}}
}

// has reports whether the option was set.
func (s *section) has(name string) bool { return len(s.values[name]) > 0 }

// str returns the value of an option, or its default.
func (s *section) str(name string) string {
	if v := s.values[name]; len(v) > 0 {
		return v[0]
	}
	if o := s.schema.option(name); o != nil {
		return o.def
	}
	return ""
}

// list returns the values of a list option.
func (s *section) list(name string) []string { return s.values[name] }

// set gives an option values.
func (s *section) set(name string, values ...string) { s.values[name] = values }

// drop unsets an option.
func (s *section) drop(name string) { delete(s.values, name) }

// sections returns the sections of a kind in declaration order.
func (s *section) sections(name string) []*section { return s.subs[name] }

// section returns the section of a kind with a title, nil when there is none.
func (s *section) section(name, title string) *section {
	i := slices.IndexFunc(s.subs[name], func(sub *section) bool { return sub.title == title })
	if i < 0 {
		return nil
	}
	return s.subs[name][i]
}
