package fat

import (
	"errors"
	"strings"
)

// SetLabel names the volume, in its root directory: up to 11 characters, which
// become capitals. An empty label removes the name.
func (fs *FS) SetLabel(label string) error {
	text, err := labelBytes(label)
	if err != nil {
		return err
	}
	d := directory{fs: fs}
	err = d.findLabel()
	if err != nil && !errors.Is(err, ErrNotExist) {
		return err
	}
	exists := err == nil
	switch {
	case !exists && text == nil:
		return nil
	case !exists:
		if err := d.room(1); err != nil {
			return err
		}
	}
	e, err := d.entry()
	if err != nil {
		return err
	}
	if !exists {
		clear(e)
		e[11] = attrLabel
	}
	if text == nil {
		e[0] = deletedMark
	} else {
		copy(e, text)
	}
	d.changed()
	return fs.Sync()
}

// labelBytes returns the 11 bytes of a label, nil for an empty one.
func labelBytes(label string) ([]byte, error) {
	text := []byte("           ")
	n := 0
	for i := 0; i < len(label) && label[i] >= ' '; i++ {
		c, ok := fromOEM[upper(toUnicode[label[i]])]
		if !ok || c == 0 || strings.IndexByte("+.,;=[]/*:<>|\\\"?\x7f", c) >= 0 || n == len(text) {
			return nil, ErrInvalidName
		}
		text[n] = c
		n++
	}
	if text[0] == deletedMark {
		return nil, ErrInvalidName
	}
	if strings.TrimRight(string(text), " ") == "" {
		return nil, nil
	}
	return text, nil
}

// findLabel goes to the entry of the label.
func (d *directory) findLabel() error {
	if err := d.seek(0); err != nil {
		return err
	}
	for {
		e, err := d.entry()
		if err != nil {
			return err
		}
		if e[0] == 0 {
			return ErrNotExist
		}
		attr := e[11] & attrMask
		if e[0] != deletedMark && e[0] != '.' && attr&^attrArchive == attrLabel {
			return nil
		}
		if err := d.step(false); err != nil {
			return err
		}
	}
}
