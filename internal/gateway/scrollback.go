package gateway

import (
	"strings"
	"unicode/utf8"
)

// Bounds of what is kept of a terminal's output.
const (
	maxScrollback      = 64 << 10 // bytes
	maxScrollbackLines = 1024
)

// scrollback is the end of what a terminal printed.
type scrollback struct {
	text  []byte
	lines int // line ends in text
}

// add keeps more, and drops the oldest lines over the bounds. It keeps no more
// than room bytes in all.
func (b *scrollback) add(data string, room int) {
	room = min(room, maxScrollback)
	if len(data) > room {
		data = data[len(data)-room:]
		for data != "" && !utf8.RuneStart(data[0]) {
			data = data[1:]
		}
		b.reset()
	}
	b.text = append(b.text, data...)
	b.lines += strings.Count(data, "\n")
	cut := 0
	for len(b.text)-cut > room || b.lines > maxScrollbackLines {
		n, found := nextLine(b.text[cut:])
		if !found { // one long line: what is over the bound goes
			n = max(1, len(b.text)-cut-room)
			for cut+n < len(b.text) && !utf8.RuneStart(b.text[cut+n]) {
				n++
			}
		} else {
			b.lines--
		}
		cut += n
	}
	if cut > 0 {
		b.text = b.text[:copy(b.text, b.text[cut:])]
	}
}

// nextLine is the length of the first line with its end.
func nextLine(text []byte) (n int, found bool) {
	for i, c := range text {
		if c == '\n' {
			return i + 1, true
		}
	}
	return 0, false
}

func (b *scrollback) reset() { *b = scrollback{} }

// size is the memory it takes, in bytes.
func (b *scrollback) size() int { return cap(b.text) }
