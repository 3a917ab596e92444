package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/dustin/go-humanize"
	"golang.org/x/term"
)

var (
	styleStrong = lipgloss.NewStyle().Bold(true)
	styleFaint  = lipgloss.NewStyle().Faint(true)
	styleGood   = lipgloss.NewStyle().Foreground(lipgloss.Green)
	styleBusy   = lipgloss.NewStyle().Foreground(lipgloss.Cyan)
	styleWarn   = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	styleBad    = lipgloss.NewStyle().Foreground(lipgloss.Red).Bold(true)
)

// fprint writes styled text with as much colour as the stream takes: none on
// what is not a terminal, and none with NO_COLOR.
func (inv *invocation) fprint(w io.Writer, text string) {
	// A reader that went away is nobody to tell.
	_, _ = lipgloss.Fprint(w, text)
}

// say tells the person what was done. With --json only data is printed.
func (inv *invocation) say(format string, args ...any) {
	if !inv.json {
		inv.fprint(inv.out, fmt.Sprintf(format, args...)+"\n")
	}
}

// show prints a value: as JSON, or as the text that view makes of it.
func (inv *invocation) show(value any, view func() string) error {
	if !inv.json {
		inv.fprint(inv.out, view())
		return nil
	}
	enc := json.NewEncoder(inv.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(value)
}

// table is rows below a header.
type table struct {
	header []string
	rows   [][]string
	empty  string // said instead of a table without rows
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

const columnGap = "  "

// render lays the columns out side by side. width cuts longer lines; 0: none.
func (t *table) render(width int) string {
	if len(t.rows) == 0 && t.empty != "" {
		return t.empty + "\n"
	}
	widths := make([]int, len(t.header))
	for i, h := range t.header {
		widths[i] = lipgloss.Width(h)
	}
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], lipgloss.Width(cell))
		}
	}
	var b strings.Builder
	line := func(cells []string, style func(string) string) {
		var l strings.Builder
		for i, cell := range cells {
			if i > 0 {
				l.WriteString(columnGap)
			}
			l.WriteString(pad(style(cell), widths[i]))
		}
		text := strings.TrimRight(l.String(), " ")
		if width > 0 {
			text = ansi.Truncate(text, width, "…")
		}
		b.WriteString(text + "\n")
	}
	line(t.header, func(s string) string { return styleStrong.Render(s) })
	for _, row := range t.rows {
		line(row, func(s string) string { return s })
	}
	return b.String()
}

// pad fills text up to a width in cells of the terminal.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-lipgloss.Width(text)))
}

// properties are names with values, one each line.
type properties [][2]string

func (p *properties) add(name, value string) { *p = append(*p, [2]string{name, value}) }

// addIf adds a value there is.
func (p *properties) addIf(name, value string) {
	if value != "" {
		p.add(name, value)
	}
}

func (p properties) render() string {
	wide := 0
	for _, nv := range p {
		wide = max(wide, lipgloss.Width(nv[0]))
	}
	var b strings.Builder
	for _, nv := range p {
		b.WriteString(pad(styleFaint.Render(nv[0]), wide+2) + nv[1] + "\n")
	}
	return b.String()
}

// plain keeps text of others to one line without control characters: a
// device's reason must not steer the operator's terminal.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// ago is how long ago something was.
func ago(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "never"
	}
	return humanize.Time(*t)
}

// agoText is ago for the way the API writes when it last heard of a device.
func agoText(text string) string {
	t, err := time.Parse("2006-01-02 15:04:05.999999Z07:00", text)
	if err != nil {
		return plain(text)
	}
	return humanize.Time(t)
}

func size(bytes int64) string {
	if bytes <= 0 {
		return "0 B"
	}
	return humanize.IBytes(uint64(bytes))
}

// short is the beginning of a uuid: enough to tell it apart and to name it.
func short(uuid string) string {
	if len(uuid) > 8 {
		return uuid[:8]
	}
	return uuid
}

// terminalSize is how large the output's terminal is; 0, 0: it is none.
func (inv *invocation) terminalSize() (width, height int) {
	fd, ok := terminalOf(inv.out)
	if !ok {
		return 0, 0
	}
	width, height, err := term.GetSize(fd)
	if err != nil || width < 1 || height < 1 {
		return 80, 24
	}
	return width, height
}
