package fwup

// lastWriter writes through the cache what has to reach the device after all
// else.
type lastWriter struct{ *blockCache }

func (w lastWriter) WriteAt(p []byte, off int64) (int, error) {
	return len(p), w.writeLast(p, off)
}

// commitUBootEnv puts the final environment of a redundant pair on the device
// before both copies are overwritten, which would leave none when power fails
// in between: first the copy that does not count, then, if need be, the other.
// In every moment one whole copy counts, with the old or the final content.
func commitUBootEnv(c *blockCache, loc UBootEnvLocation) error {
	if loc.Redundant == 0 || !c.isDirty(loc.Offset, loc.Size) || !c.isDirty(loc.Redundant, loc.Size) {
		return nil
	}
	if max(loc.Offset, loc.Redundant) > c.limit-loc.Size {
		return nil
	}
	now, err := readUBootCopies(c.dev, loc)
	if err != nil || now.env == nil {
		return err // nothing whole there to protect
	}
	final, err := readUBootCopies(c, loc)
	if err != nil || final.env == nil {
		return err
	}
	offsets := [2]int64{loc.Offset, loc.Redundant}
	store := func(i int, flag byte) error {
		c.unsynced = true
		if err := writeUBootCopy(c.dev, offsets[i], loc.Size, final.env, 5, flag); err != nil {
			return err
		}
		return c.sync()
	}
	other := 1 - now.read
	flag := now.flag + 1
	if ahead := final.flag - now.flag; final.read == other && ahead > 0 && ahead < 128 {
		flag = final.flag
	}
	if err := store(other, flag); err != nil || final.read == other {
		return err
	}
	return store(final.read, final.flag)
}
