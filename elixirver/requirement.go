package elixirver

import "strings"

// Requirement is a condition on versions, such as "~> 1.2 and != 1.2.7". The
// zero Requirement is met by every version.
type Requirement struct {
	text string
	any  [][]condition // met if all conditions of one list are
}

// condition is one operator with its operand; ~> has become two.
type condition struct {
	op      operator
	version Version
}

type operator string

const (
	equal        operator = "=="
	notEqual     operator = "!="
	bang         operator = "!" // an old spelling of !=
	greater      operator = ">"
	greaterEqual operator = ">="
	less         operator = "<"
	lessEqual    operator = "<="
	approximate  operator = "~>"
	noOperator   operator = ""
)

// operators in the order in which they are tried.
var operators = [...]operator{greaterEqual, lessEqual, approximate, greater, less, equal, notEqual, bang}

// ParseRequirement reads a requirement. A version without operator means ==.
// Every operator needs a full x.y.z, only ~> takes x.y too. "and" binds
// tighter than "or"; both are lower case with spaces around them; there are no
// parentheses.
//
//	~> 1.2    at least 1.2.0 and below 2.0.0
//	~> 1.2.3  at least 1.2.3 and below 1.3.0
//
// Pre-releases meet every operator by their rank, except that ~> never
// includes pre-releases of its upper bound.
func ParseRequirement(s string) (Requirement, error) {
	if len(s) > MaxRequirement {
		return Requirement{}, invalid(s, "it is too long")
	}
	r := Requirement{text: s}
	for _, alternative := range splitWord(s, "or") {
		var all []condition
		for _, text := range splitWord(alternative, "and") {
			conditions, err := parseCondition(s, text)
			if err != nil {
				return Requirement{}, err
			}
			all = append(all, conditions...)
		}
		r.any = append(r.any, all)
	}
	return r, nil
}

// splitWord cuts s at every word that has a space on both sides.
func splitWord(s, word string) []string { return strings.Split(s, " "+word+" ") }

// parseCondition reads one operator and its version.
func parseCondition(whole, text string) ([]condition, error) {
	text = strings.Trim(text, " ")
	op := noOperator
	for _, o := range operators {
		if rest, ok := strings.CutPrefix(text, string(o)); ok {
			op, text = o, strings.TrimLeft(rest, " ")
			break
		}
	}
	if text == "" {
		return nil, invalid(whole, "a version is missing")
	}
	if strings.Contains(text, " ") {
		return nil, invalid(whole, `versions are joined by "and" or "or"`)
	}
	v, patch, err := parse(text)
	if err != nil {
		return nil, err
	}
	if op == approximate {
		upper := Version{Major: v.Major, Minor: v.Minor + 1, Pre: "0"}
		if !patch {
			upper = Version{Major: v.Major + 1, Pre: "0"}
		}
		return []condition{{greaterEqual, v}, {less, upper}}, nil
	}
	if !patch {
		return nil, invalid(text, "it needs three numbers, as in 1.2.3; only ~> takes two")
	}
	switch op {
	case noOperator:
		op = equal
	case bang:
		op = notEqual
	}
	return []condition{{op, v}}, nil
}

// Match reports whether v meets the requirement.
func (r Requirement) Match(v Version) bool {
	for _, all := range r.any {
		met := true
		for _, c := range all {
			met = met && c.match(v)
		}
		if met {
			return true
		}
	}
	return r.any == nil
}

func (c condition) match(v Version) bool {
	n := v.Compare(c.version)
	switch c.op {
	case equal:
		return n == 0
	case notEqual:
		return n != 0
	case greater:
		return n > 0
	case greaterEqual:
		return n >= 0
	case less:
		return n < 0
	case lessEqual:
		return n <= 0
	}
	return false
}

// String returns the text that was parsed.
func (r Requirement) String() string { return r.text }
