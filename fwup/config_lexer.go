package fwup

import (
	"errors"
	"strings"
)

// tokenKind is the kind of a token: one of { } ( ) = , or one of these.
type tokenKind byte

const (
	endToken    tokenKind = 0
	textToken   tokenKind = 's'
	appendToken tokenKind = '+' // +=
)

// token is a word of a configuration.
type token struct {
	kind tokenKind
	text string
}

// source is a text that tokens are taken from.
type source struct {
	file string
	text string
	pos  int
	line int
	// noBrace is a position from which on there is no more closing brace.
	noBrace int
}

// lexer takes a configuration apart as libconfuse 3.3 does. An included file
// is read to its end before its includer goes on.
type lexer struct {
	env   *environment
	stack []*source
	// cutOff reports that the text ended inside of a string or a comment.
	cutOff bool
}

// maxIncludes is how deep files may include each other.
const maxIncludes = 10

func newLexer(file, text string, env *environment) *lexer {
	l := &lexer{env: env}
	l.push(file, text)
	return l
}

func (l *lexer) push(file, text string) {
	l.stack = append(l.stack, &source{file: file, text: text, line: 1, noBrace: len(text)})
}

func (l *lexer) source() *source { return l.stack[len(l.stack)-1] }

// depth returns the number of files that are being included.
func (l *lexer) depth() int { return len(l.stack) - 1 }

// fail adds the place that was reached to an error.
func (l *lexer) fail(err error) error {
	s := l.source()
	var c *ConfigError
	if !errors.As(err, &c) {
		return &ConfigError{File: s.file, Line: s.line, Err: err}
	}
	if c.File == "" {
		c.File, c.Line = s.file, s.line
	}
	return err
}

// next returns the next token.
func (l *lexer) next() (token, error) {
	for {
		s := l.source()
		if s.pos < len(s.text) {
			if tok, ok, err := l.scan(s); ok || err != nil {
				return tok, err
			}
			continue
		}
		if l.depth() == 0 {
			return token{}, nil
		}
		l.stack = l.stack[:len(l.stack)-1]
	}
}

// scan reads one token, or skips what is none.
func (l *lexer) scan(s *source) (tok token, ok bool, err error) {
	rest := s.text[s.pos:]
	switch c := rest[0]; c {
	case '\n':
		s.line++
		s.pos++
	case '{', '}', '(', ')', '=', ',':
		s.pos++
		return token{kind: tokenKind(c), text: rest[:1]}, true, nil
	case '+':
		s.pos++
		if strings.HasPrefix(rest, "+=") {
			s.pos++
			return token{kind: appendToken, text: "+="}, true, nil
		}
	case '"':
		return l.quoted(s)
	case '\'':
		return l.singleQuoted(s)
	case '#':
		s.skipLine()
	default:
		switch {
		case strings.HasPrefix(rest, "//"):
			s.skipLine()
		case strings.HasPrefix(rest, "/*"):
			l.cutOff = !s.skipComment()
		case s.variableEnd() > 0:
			return l.variable(s)
		default:
			tok, ok = s.word()
			return tok, ok, nil
		}
	}
	return token{}, false, nil
}

func (s *source) skipLine() {
	if i := strings.IndexByte(s.text[s.pos:], '\n'); i >= 0 {
		s.pos += i
	} else {
		s.pos = len(s.text)
	}
}

// skipComment skips /* … */. One that is not closed goes on to the end; then
// it returns false.
func (s *source) skipComment() bool {
	i := strings.Index(s.text[s.pos+2:], "*/")
	if i < 0 {
		s.advance(len(s.text))
		return false
	}
	s.advance(s.pos + 2 + i + 2)
	return true
}

// advance goes to a position and counts the lines up to it.
func (s *source) advance(to int) {
	s.line += strings.Count(s.text[s.pos:to], "\n")
	s.pos = to
}

// variableEnd returns the position behind the ${…} that starts here, 0 when
// none does. Between the braces everything but a closing brace may stand.
func (s *source) variableEnd() int {
	if !strings.HasPrefix(s.text[s.pos:], "${") || s.pos >= s.noBrace {
		return 0
	}
	i := strings.IndexByte(s.text[s.pos:], '}')
	if i < 0 {
		s.noBrace = s.pos
		return 0
	}
	return s.pos + i + 1
}

// substitute takes a ${…} that ends before end and returns its value.
func (l *lexer) substitute(s *source, end int) (string, error) {
	inside := s.text[s.pos+2 : end-1]
	s.advance(end)
	value, err := l.env.substitute(inside)
	if err != nil {
		return "", l.fail(err)
	}
	return value, nil
}

func (l *lexer) variable(s *source) (token, bool, error) {
	value, err := l.substitute(s, s.variableEnd())
	if err != nil {
		return token{}, false, err
	}
	return token{kind: textToken, text: cString(value)}, true, nil
}

// word reads a bare word. A character that cannot be in one is skipped.
func (s *source) word() (token, bool) {
	start := s.pos
	for s.pos < len(s.text) && isWordByte(s.text[s.pos]) {
		s.pos++
	}
	if s.pos == start {
		s.pos++
		return token{}, false
	}
	return token{kind: textToken, text: cString(s.text[start:s.pos])}, true
}

func isWordByte(c byte) bool { return strings.IndexByte(" \t\n\r#\"'{}()=+,*", c) < 0 }

// cString cuts a text at a NUL, which ends strings of C.
func cString(s string) string {
	if i := strings.IndexByte(s, 0); i >= 0 {
		return s[:i]
	}
	return s
}

// singleQuoted reads '…', in which only \' and \\ are special.
func (l *lexer) singleQuoted(s *source) (token, bool, error) {
	var b strings.Builder
	s.pos++
	for s.pos < len(s.text) {
		c := s.text[s.pos]
		s.pos++
		switch {
		case c == '\'':
			return token{kind: textToken, text: cString(b.String())}, true, nil
		case c == '\n':
			s.line++
			b.WriteByte(c)
		case c == '\\' && s.pos < len(s.text):
			next := s.text[s.pos]
			s.pos++
			if next == '\n' {
				s.line++ // the line goes on
				continue
			}
			if next != '\'' && next != '\\' {
				b.WriteByte(c)
			}
			b.WriteByte(next)
		default:
			b.WriteByte(c)
		}
	}
	return token{}, false, l.fail(configErrorf("unterminated string constant"))
}

// quoted reads "…", with escapes and variables. The original takes the end of
// the file inside of it for the end of all.
func (l *lexer) quoted(s *source) (token, bool, error) {
	var b strings.Builder
	s.pos++
	for s.pos < len(s.text) {
		switch c := s.text[s.pos]; {
		case c == '"':
			s.pos++
			return token{kind: textToken, text: cString(b.String())}, true, nil
		case c == '\\':
			if err := s.escape(&b); err != nil {
				return token{}, false, l.fail(err)
			}
		case c == '$' && s.variableEnd() > 0:
			value, err := l.substitute(s, s.variableEnd())
			if err != nil {
				return token{}, false, err
			}
			b.WriteString(value)
		default:
			// This byte, and what follows up to the next one that is special.
			end := len(s.text)
			if i := strings.IndexAny(s.text[s.pos+1:], "\"\\$"); i >= 0 {
				end = s.pos + 1 + i
			}
			b.WriteString(s.text[s.pos:end])
			s.advance(end)
		}
	}
	if l.depth() > 0 {
		return token{}, false, l.fail(configErrorf("unterminated string constant"))
	}
	l.cutOff = true
	return token{}, true, nil
}

// escapes are the characters that stand for another after a backslash.
var escapes = map[byte]byte{'n': '\n', 't': '\t', 'r': '\r', 'b': '\b', 'f': '\f', 'a': '\a', 'e': 0x1b, 'v': '\v'}

// escape reads what starts with a backslash inside "…".
func (s *source) escape(b *strings.Builder) error {
	rest := s.text[s.pos+1:]
	if rest == "" {
		s.pos++
		return nil
	}
	c := rest[0]
	digits := prefixLength(rest, "0123456789")
	switch {
	case digits > 0:
		return s.octal(b, rest[:digits])
	case c == 'x' && prefixLength(rest[1:], hexDigits) > 0:
		n := min(prefixLength(rest[1:], hexDigits), 2)
		b.WriteByte(numberOf(rest[1:1+n], 16))
		s.pos += 2 + n
		return nil
	case c == '\n':
		s.line++ // the line goes on
	case escapes[c] != 0:
		b.WriteByte(escapes[c])
	default:
		b.WriteByte(c)
	}
	s.pos += 2
	return nil
}

const hexDigits = "0123456789abcdefABCDEF"

func (s *source) octal(b *strings.Builder, digits string) error {
	if len(digits) > 3 || strings.ContainsAny(digits, "89") {
		return configErrorf(`bad escape sequence '\%s'`, digits)
	}
	if len(digits) == 3 && digits[0] > '3' {
		return configErrorf(`invalid octal number '\%s'`, digits)
	}
	b.WriteByte(numberOf(digits, 8))
	s.pos += 1 + len(digits)
	return nil
}

// prefixLength returns how many of the first bytes of s are in set.
func prefixLength(s, set string) int {
	return len(s) - len(strings.TrimLeft(s, set))
}

// numberOf returns the number that a few digits make, which fits a byte.
func numberOf(digits string, base int) (n byte) {
	for i := range len(digits) {
		d := strings.IndexByte(hexDigits, digits[i])
		if d >= 16 {
			d -= 6
		}
		n = n*byte(base) + byte(d)
	}
	return n
}
