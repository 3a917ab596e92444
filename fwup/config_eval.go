package fwup

import (
	"errors"
	"math"
	"strings"
)

// maxEvalStack bounds what an expression keeps waiting: numbers, and operators
// with their parentheses.
const maxEvalStack = 16

var errExpression = errors.New("syntax error")

// evaluate computes an expression of define-eval with 64-bit integers, which
// wrap around: + - * / and ^ (power, from the right, binding closer than a
// sign), parentheses, and numbers of C, with units behind what they multiply.
// A number of its own that is too large counts as the largest there is.
func evaluate(text string) (int64, error) {
	e := &evaluator{rest: text}
	for wanted := true; e.rest != ""; {
		var err error
		if wanted {
			wanted, err = e.operand()
		} else {
			wanted, err = e.operator()
		}
		if err != nil {
			return 0, err
		}
	}
	for len(e.operators) > 0 {
		if err := e.reduce(); err != nil {
			return 0, err
		}
	}
	if len(e.values) != 1 {
		return 0, errExpression
	}
	return e.values[0], nil
}

// evaluator holds what of an expression waits for what follows.
type evaluator struct {
	rest      string
	values    []int64
	operators []byte // of + - * / ^ ( and signOperator
}

// signOperator stands for a minus that has no number before it.
const signOperator = '~'

// precedence tells how close an operator binds. An open parenthesis binds
// least: it ends what can be reduced.
func precedence(operator byte) int {
	switch operator {
	case '(':
		return 1
	case '+', '-':
		return 2
	case '*', '/':
		return 3
	}
	return 4
}

// operand reads a number, or what may stand before one. It tells whether a
// number is still wanted.
func (e *evaluator) operand() (wanted bool, err error) {
	switch c := e.rest[0]; c {
	case ' ', '\t', '\r', '\n':
	case '(':
		err = e.push(c)
	case ')':
		err = e.closeParenthesis()
	case '-':
		err = e.push(signOperator)
	default:
		return false, e.number()
	}
	e.rest = e.rest[1:]
	return true, err
}

// operator reads what may stand behind a number, and tells whether another
// number is wanted then.
func (e *evaluator) operator() (wanted bool, err error) {
	switch c := e.rest[0]; c {
	case ' ', '\t', '\r', '\n':
	case '(':
		err = e.push(c)
	case ')':
		err = e.closeParenthesis()
	case '+', '-', '*', '/', '^':
		wanted, err = true, e.push(c)
	default:
		return false, e.unit()
	}
	e.rest = e.rest[1:]
	return wanted, err
}

// push puts an operator on the stack, after those that come first are done.
func (e *evaluator) push(operator byte) error {
	fromRight := operator == '^' || operator == signOperator
	for operator != '(' && len(e.operators) > 0 {
		last, this := precedence(e.operators[len(e.operators)-1]), precedence(operator)
		if this > last || fromRight && this == last {
			break
		}
		if err := e.reduce(); err != nil {
			return err
		}
	}
	if len(e.operators) == maxEvalStack {
		return errors.New("nested too deeply")
	}
	e.operators = append(e.operators, operator)
	return nil
}

func (e *evaluator) closeParenthesis() error {
	for len(e.operators) > 0 && e.operators[len(e.operators)-1] != '(' {
		if err := e.reduce(); err != nil {
			return err
		}
	}
	if len(e.operators) == 0 {
		return errExpression
	}
	e.operators = e.operators[:len(e.operators)-1]
	return nil
}

// reduce does the last operator.
func (e *evaluator) reduce() error {
	operator := e.operators[len(e.operators)-1]
	e.operators = e.operators[:len(e.operators)-1]
	n := len(e.values)
	if operator == '(' || n < 1 || n < 2 && operator != signOperator {
		return errExpression
	}
	if operator == signOperator {
		e.values[n-1] = -e.values[n-1]
		return nil
	}
	value, err := calculate(operator, e.values[n-2], e.values[n-1])
	e.values = append(e.values[:n-2], value)
	return err
}

func calculate(operator byte, a, b int64) (int64, error) {
	switch operator {
	case '+':
		return a + b, nil
	case '-':
		return a - b, nil
	case '*':
		return a * b, nil
	case '/':
		if b == 0 {
			return 0, errors.New("division by zero")
		}
		return a / b, nil
	}
	if b < 0 || b > 63 {
		return 0, errors.New("exponent must be 0 to 63")
	}
	n := int64(1)
	for range b {
		n *= a
	}
	return n, nil
}

// units are what may stand behind a number, longer ones first.
var units = []struct {
	name   string
	factor int64
}{
	{"kB", 1000}, {"MB", 1000_000}, {"GB", 1000_000_000},
	{"c", 1}, {"w", 2}, {"b", 512}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30},
}

func (e *evaluator) unit() error {
	for _, u := range units {
		if rest, ok := strings.CutPrefix(e.rest, u.name); ok && len(e.values) > 0 {
			e.values[len(e.values)-1] *= u.factor
			e.rest = rest
			return nil
		}
	}
	return errExpression
}

// number reads a number of C, as much of the text as belongs to one.
func (e *evaluator) number() error {
	text := strings.TrimLeft(e.rest, cBlanks)
	negative := strings.HasPrefix(text, "-")
	if negative || strings.HasPrefix(text, "+") {
		text = text[1:]
	}
	set, base := "0123456789", uint64(10)
	switch {
	case len(text) > 2 && (text[:2] == "0x" || text[:2] == "0X") && prefixLength(text[2:], hexDigits) > 0:
		text, set, base = text[2:], hexDigits, 16
	case strings.HasPrefix(text, "0"):
		set, base = "01234567", 8
	}
	length := prefixLength(text, set)
	if length == 0 {
		return errExpression
	}
	if len(e.values) == maxEvalStack {
		return errors.New("nested too deeply")
	}
	e.values = append(e.values, saturated(text[:length], base, negative))
	e.rest = text[length:]
	return nil
}

// saturated returns the number that digits make, or the one next to it that
// there is.
func saturated(digits string, base uint64, negative bool) int64 {
	most := uint64(math.MaxInt64)
	if negative {
		most++
	}
	n := uint64(0)
	for _, d := range []byte(digits) {
		v := uint64(numberOf(string(d), int(base)))
		if n > (most-v)/base {
			n = most
			break
		}
		n = n*base + v
	}
	if negative {
		return int64(-n)
	}
	return int64(n)
}

// evalError says that an expression is wrong. The original does not show why.
type evalError struct {
	text string
	err  error
}

func (e *evalError) Error() string { return "error evaluating '" + e.text + "'" }

func (e *evalError) Unwrap() error { return e.err }
