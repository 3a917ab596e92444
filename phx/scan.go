package phx

import "unicode/utf8"

// The scanner walks JSON (RFC 8259) without building values and without
// recursion, so a frame costs no memory and no stack. It assumes that the
// whole text is valid UTF-8.

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

func truncated(b []byte) error { return fail(KindSyntax, len(b), "truncated JSON") }

// skipValue returns the index after the value that starts at or after i. The
// value may nest up to room levels, room ≤ 64.
func skipValue(b []byte, i, room int) (int, error) {
	var objects uint64 // bit n: the container n levels up is an object
	depth := 0
	for {
		i = skipSpace(b, i)
		if i >= len(b) {
			return i, truncated(b)
		}
		var err error
		if c := b[i]; c == '{' || c == '[' {
			if depth >= room {
				return i, fail(KindDepth, i, "JSON nested too deeply")
			}
			depth++
			objects <<= 1
			if c == '{' {
				objects |= 1
			}
			opened := i
			i = skipSpace(b, i+1)
			if i >= len(b) {
				return i, truncated(b)
			}
			if b[i] != closer(objects) {
				if c == '{' {
					if i, err = skipKey(b, i); err != nil {
						return i, err
					}
				} else {
					i = opened + 1
				}
				continue
			}
		} else if i, err = skipScalar(b, i); err != nil {
			return i, err
		}
		if i, depth, objects, err = skipClosers(b, i, depth, objects); err != nil || depth == 0 {
			return i, err
		}
	}
}

func closer(objects uint64) byte {
	if objects&1 == 1 {
		return '}'
	}
	return ']'
}

// skipClosers goes on after a value: over the ends of its containers, to the
// next value of one that continues.
func skipClosers(b []byte, i, depth int, objects uint64) (int, int, uint64, error) {
	for depth > 0 {
		i = skipSpace(b, i)
		if i >= len(b) {
			return i, depth, objects, truncated(b)
		}
		switch b[i] {
		case ',':
			i++
			if objects&1 == 1 {
				var err error
				if i, err = skipKey(b, skipSpace(b, i)); err != nil {
					return i, depth, objects, err
				}
			}
			return i, depth, objects, nil
		case closer(objects):
			i++
			depth--
			objects >>= 1
		default:
			return i, depth, objects, fail(KindSyntax, i, "unexpected character in JSON")
		}
	}
	return i, depth, objects, nil
}

// skipKey returns the index after a member's name and colon.
func skipKey(b []byte, i int) (int, error) {
	if i >= len(b) {
		return i, truncated(b)
	}
	if b[i] != '"' {
		return i, fail(KindSyntax, i, "expected a member name in JSON")
	}
	i, _, err := skipString(b, i)
	if err != nil {
		return i, err
	}
	i = skipSpace(b, i)
	if i >= len(b) {
		return i, truncated(b)
	}
	if b[i] != ':' {
		return i, fail(KindSyntax, i, "expected a colon in JSON")
	}
	return i + 1, nil
}

func skipScalar(b []byte, i int) (int, error) {
	switch c := b[i]; {
	case c == '"':
		i, _, err := skipString(b, i)
		return i, err
	case c == 't':
		return skipWord(b, i, "true")
	case c == 'f':
		return skipWord(b, i, "false")
	case c == 'n':
		return skipWord(b, i, "null")
	case c == '-' || isDigit(c):
		return skipNumber(b, i)
	}
	return i, fail(KindSyntax, i, "unexpected character in JSON")
}

func skipWord(b []byte, i int, word string) (int, error) {
	if len(b)-i < len(word) {
		return i, truncated(b)
	}
	if string(b[i:i+len(word)]) != word {
		return i, fail(KindSyntax, i, "unexpected character in JSON")
	}
	return i + len(word), nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func skipDigits(b []byte, i int) (int, error) {
	start := i
	for i < len(b) && isDigit(b[i]) {
		i++
	}
	if i == start {
		return i, fail(KindSyntax, i, "expected a digit in JSON")
	}
	return i, nil
}

func skipNumber(b []byte, i int) (int, error) {
	if b[i] == '-' {
		i++
	}
	var err error
	if i < len(b) && b[i] == '0' {
		i++
	} else if i, err = skipDigits(b, i); err != nil {
		return i, err
	}
	if i < len(b) && b[i] == '.' {
		if i, err = skipDigits(b, i+1); err != nil {
			return i, err
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		return skipDigits(b, i)
	}
	return i, nil
}

// skipString returns the index after the string that starts at i, and whether
// it has escapes.
func skipString(b []byte, i int) (end int, escaped bool, err error) {
	for i++; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i + 1, escaped, nil
		case c < 0x20:
			return i, escaped, fail(KindSyntax, i, "control character in a JSON string")
		case c == '\\':
			escaped = true
			n, err := skipEscape(b, i)
			if err != nil {
				return i, escaped, err
			}
			i += n - 1
		}
	}
	return i, escaped, truncated(b)
}

// skipEscape returns the length of the escape at i. A surrogate must come
// with its other half: alone it has no UTF-8 form.
func skipEscape(b []byte, i int) (int, error) {
	if i+1 >= len(b) {
		return 0, truncated(b)
	}
	switch b[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2, nil
	case 'u':
		r, err := hex4(b, i)
		if err != nil {
			return 0, err
		}
		if r < 0xD800 || r > 0xDFFF {
			return 6, nil
		}
		if r < 0xDC00 && i+7 < len(b) && b[i+6] == '\\' && b[i+7] == 'u' {
			low, err := hex4(b, i+6)
			if err != nil {
				return 0, err
			}
			if 0xDC00 <= low && low <= 0xDFFF {
				return 12, nil
			}
		}
		return 0, fail(KindUTF8, i, "lone surrogate in a JSON string")
	}
	return 0, fail(KindSyntax, i, "unknown escape in a JSON string")
}

// hex4 reads the four digits of the \u escape at i.
func hex4(b []byte, i int) (rune, error) {
	if i+6 > len(b) {
		return 0, truncated(b)
	}
	var r rune
	for _, c := range b[i+2 : i+6] {
		switch {
		case isDigit(c):
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, fail(KindSyntax, i, "unknown escape in a JSON string")
		}
	}
	return r, nil
}

// checkJSON returns nil if b is one JSON value that may stand as a payload.
func checkJSON(b []byte) error {
	if !utf8.Valid(b) {
		return fail(KindUTF8, 0, "payload is not UTF-8")
	}
	i, err := skipValue(b, 0, MaxDepth-1)
	if err != nil {
		return err
	}
	if i = skipSpace(b, i); i < len(b) {
		return fail(KindSyntax, i, "data after the JSON value")
	}
	return nil
}
