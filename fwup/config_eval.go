package fwup

import (
	"errors"
	"math"
	"strconv"
)

// maxEvalDepth bounds the parentheses and signs that an expression nests.
const maxEvalDepth = 16

var errExpression = errors.New("syntax error")

// evaluate computes an expression of define-eval with 64-bit integers: + - * /
// and ^ (power, from the right, binding closer than a sign), parentheses, and
// numbers of C that may have a unit behind them.
func evaluate(text string) (int64, error) {
	e := &evaluator{text: text}
	n, err := e.sum()
	if err == nil && e.peek() != 0 {
		err = errExpression
	}
	return n, err
}

type evaluator struct {
	text  string
	pos   int
	depth int
}

// peek returns the next character that is not blank, 0 at the end.
func (e *evaluator) peek() byte {
	for e.pos < len(e.text) {
		switch c := e.text[e.pos]; c {
		case ' ', '\t', '\n', '\r':
			e.pos++
		default:
			return c
		}
	}
	return 0
}

func (e *evaluator) sum() (int64, error) {
	n, err := e.product()
	for err == nil {
		op := e.peek()
		if op != '+' && op != '-' {
			break
		}
		e.pos++
		var m int64
		if m, err = e.product(); op == '+' {
			n += m
		} else {
			n -= m
		}
	}
	return n, err
}

func (e *evaluator) product() (int64, error) {
	n, err := e.signed()
	for err == nil {
		op := e.peek()
		if op != '*' && op != '/' {
			break
		}
		e.pos++
		var m int64
		if m, err = e.signed(); err != nil {
			break
		}
		switch {
		case op == '*':
			n *= m
		case m == 0:
			err = errors.New("division by zero")
		default:
			n /= m
		}
	}
	return n, err
}

func (e *evaluator) signed() (int64, error) {
	if c := e.peek(); c != '-' && c != '+' {
		return e.power()
	}
	negative := e.text[e.pos] == '-'
	e.pos++
	if e.depth++; e.depth > maxEvalDepth {
		return 0, errors.New("nested too deeply")
	}
	n, err := e.signed()
	e.depth--
	if negative {
		n = -n
	}
	return n, err
}

func (e *evaluator) power() (int64, error) {
	base, err := e.operand()
	if err != nil || e.peek() != '^' {
		return base, err
	}
	e.pos++
	if e.depth++; e.depth > maxEvalDepth {
		return 0, errors.New("nested too deeply")
	}
	exponent, err := e.signed()
	e.depth--
	if err != nil {
		return 0, err
	}
	if exponent < 0 || exponent > 63 {
		return 0, errors.New("exponent must be 0 to 63")
	}
	n := int64(1)
	for range exponent {
		n *= base
	}
	return n, nil
}

func (e *evaluator) operand() (int64, error) {
	if e.peek() != '(' {
		return e.number()
	}
	e.pos++
	if e.depth++; e.depth > maxEvalDepth {
		return 0, errors.New("nested too deeply")
	}
	n, err := e.sum()
	e.depth--
	if err != nil {
		return 0, err
	}
	if e.peek() != ')' {
		return 0, errExpression
	}
	e.pos++
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

func (e *evaluator) number() (int64, error) {
	rest := e.text[e.pos:]
	digits, base := "0123456789", 10
	skip := 0
	switch {
	case len(rest) > 2 && rest[0] == '0' && (rest[1] == 'x' || rest[1] == 'X') && prefixLength(rest[2:], hexDigits) > 0:
		digits, base, skip = hexDigits, 16, 2
	case rest != "" && rest[0] == '0':
		digits, base = "01234567", 8
	}
	length := prefixLength(rest[skip:], digits)
	if length == 0 {
		return 0, errExpression
	}
	n, err := strconv.ParseUint(rest[skip:skip+length], base, 64)
	if err != nil || n > math.MaxInt64 {
		return 0, errIntegerRange
	}
	e.pos += skip + length
	rest = e.text[e.pos:]
	for _, u := range units {
		if len(rest) >= len(u.name) && rest[:len(u.name)] == u.name {
			e.pos += len(u.name)
			return int64(n) * u.factor, nil
		}
	}
	return int64(n), nil
}
