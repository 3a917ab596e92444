package fwupcli

import (
	"fmt"
	"strings"
)

const usageHead = `fwup makes, signs, checks and applies updates of embedded systems. An update
(.fw) is a ZIP archive of data and of a short list of what to do with it.

Usage: fwup [OPTION]...
       fwup [OPTION]... UPDATE     write an update to a memory card

Options:
`

const usageTail = `  -1 ... -9                        How hard to compress; 9 is the default

Examples:

Create an update:
  $ fwup -c -f fwupdate.conf -o my.fw

Apply its task 'upgrade' to a memory card:
  $ fwup -a -d /dev/sdc -i my.fw -t upgrade

Make an image file of it:
  $ fwup -a -d my.img -i my.fw -t complete

Generate keys, and sign it:
  $ fwup -g
  $ fwup -S -s fwup-key.priv -i my.fw -o signed.fw
`

// printUsage says on stdout how the program is called.
func (p *program) printUsage() {
	var b strings.Builder
	b.WriteString(usageHead)
	for _, o := range optionTable() {
		if o.help == "" {
			continue
		}
		var names []string
		if o.short != 0 {
			names = append(names, "-"+string(o.short))
		}
		if o.long != "" {
			names = append(names, "--"+o.long)
		}
		left := strings.Join(names, ", ")
		if o.value {
			left += " <" + o.name + ">"
		}
		fmt.Fprintf(&b, "  %-32s %s\n", left, o.help)
	}
	b.WriteString(usageTail)
	p.out.write([]byte(b.String()))
}
