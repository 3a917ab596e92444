package fwupcli

import (
	"fmt"
	"strings"
)

// option is an option of the command line.
type option struct {
	long  string // without "--"; "" for none
	short byte   // 0 for none
	value bool   // takes a value
	help  string // a line of the usage; "" hides the option
	whole bool   // has to be spelled in full
	name  string // of the value, in the usage
	do    func(p *program, value string) error
}

// usageError is a command line that is not understood.
type usageError struct{ text string } // "" when the usage says enough

func (e *usageError) Error() string { return e.text }

// getopt goes through the arguments as getopt_long of the GNU C library does:
// options and other arguments mix, short options combine, a value follows its
// option or is part of it, long options may be cut short as long as they are
// clear, and "--" ends the options. It calls found for each option in order
// and returns the other arguments.
//
// Options that fwup 1.16 does not have are spelled in full: what was clear
// there has to stay clear.
func getopt(args []string, table []option, found func(o *option, value string) error) (rest []string, err error) {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			return append(rest, args...), nil
		case strings.HasPrefix(arg, "--"):
			args, err = getoptLong(arg[2:], args, table, found)
		case len(arg) > 1 && arg[0] == '-':
			args, err = getoptShort(arg[1:], args, table, found)
		default:
			rest = append(rest, arg)
		}
		if err != nil {
			return nil, err
		}
	}
	return rest, nil
}

func getoptLong(arg string, args []string, table []option, found func(*option, string) error) ([]string, error) {
	name, value, given := strings.Cut(arg, "=")
	o, err := findLong(name, table)
	if err != nil {
		return nil, err
	}
	switch {
	case given && !o.value:
		return nil, &usageError{fmt.Sprintf("option '--%s' doesn't allow an argument", o.long)}
	case o.value && !given && len(args) == 0:
		return nil, &usageError{fmt.Sprintf("option '--%s' requires an argument", o.long)}
	case o.value && !given:
		value, args = args[0], args[1:]
	}
	return args, found(o, value)
}

func findLong(name string, table []option) (*option, error) {
	var matches []*option
	for i := range table {
		o := &table[i]
		if o.long == name && name != "" {
			return o, nil
		}
		if o.long != "" && !o.whole && strings.HasPrefix(o.long, name) {
			matches = append(matches, o)
		}
	}
	switch len(matches) {
	case 0:
		return nil, &usageError{fmt.Sprintf("unrecognized option '--%s'", name)}
	case 1:
		return matches[0], nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "option '--%s' is ambiguous; possibilities:", name)
	for _, o := range matches {
		fmt.Fprintf(&b, " '--%s'", o.long)
	}
	return nil, &usageError{b.String()}
}

func getoptShort(cluster string, args []string, table []option, found func(*option, string) error) ([]string, error) {
	for i := range len(cluster) {
		o := findShort(cluster[i], table)
		if o == nil {
			return nil, &usageError{fmt.Sprintf("invalid option -- '%c'", cluster[i])}
		}
		if !o.value {
			if err := found(o, cluster[i:i+1]); err != nil {
				return nil, err
			}
			continue
		}
		value := cluster[i+1:]
		if value == "" {
			if len(args) == 0 {
				return nil, &usageError{fmt.Sprintf("option requires an argument -- '%c'", cluster[i])}
			}
			value, args = args[0], args[1:]
		}
		return args, found(o, value)
	}
	return args, nil
}

func findShort(c byte, table []option) *option {
	for i := range table {
		if table[i].short == c {
			return &table[i]
		}
	}
	return nil
}
