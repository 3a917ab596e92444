package fwup

import "slices"

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

// ubootAction makes an action on an environment, which is its first argument;
// change says what becomes of it.
func ubootAction(name string, args int, usage string, change func(*actionCall, UBootEnvLocation) error) *action {
	return &action{
		name: name, min: args, max: args, usage: usage,
		units: func(c *actionCall) (int64, error) {
			loc, err := c.ubootEnv(c.args[0])
			return ubootUnits(loc), err
		},
		run: func(c *actionCall) error {
			loc, err := c.ubootEnv(c.args[0])
			if err != nil {
				return err
			}
			if !slices.Contains(c.envs, loc) {
				c.envs = append(c.envs, loc)
			}
			if err := change(c, loc); err != nil {
				return err
			}
			c.meter.add(ubootUnits(loc))
			return nil
		},
	}
}

func ubootUnits(loc UBootEnvLocation) int64 {
	if loc.Redundant != 0 {
		return 2 * loc.Size
	}
	return loc.Size
}

var ubootClearenvAction = ubootAction("uboot_clearenv", 1, "uboot_clearenv requires a uboot-environment reference", clearUBootEnv)

var ubootRecoverAction = ubootAction("uboot_recover", 1, "uboot_recover requires a uboot-environment reference",
	func(c *actionCall, loc UBootEnvLocation) error {
		copies, err := readUBootCopies(c.cache, loc)
		if err != nil || copies.env != nil {
			return err // an environment that cannot be read is not a broken one
		}
		return clearUBootEnv(c, loc)
	})

var ubootSetenvAction = ubootAction("uboot_setenv", 3, "uboot_setenv requires a uboot-environment reference, variable name and value",
	func(c *actionCall, loc UBootEnvLocation) error {
		return changeUBootEnv(c, loc, func(env *UBootEnv) { env.Set(c.args[1], c.args[2]) })
	})

var ubootUnsetenvAction = ubootAction("uboot_unsetenv", 2, "uboot_unsetenv requires a uboot-environment reference and a variable name",
	func(c *actionCall, loc UBootEnvLocation) error {
		return changeUBootEnv(c, loc, func(env *UBootEnv) { env.Unset(c.args[1]) })
	})

// clearUBootEnv makes the environment empty, both copies of a pair.
func clearUBootEnv(c *actionCall, loc UBootEnvLocation) error {
	w := lastWriter{c.cache}
	if loc.Redundant == 0 {
		return writeUBootCopy(w, loc.Offset, loc.Size, NewUBootEnv(), 4, 0)
	}
	if err := writeUBootCopy(w, loc.Offset, loc.Size, NewUBootEnv(), 5, 1); err != nil {
		return err
	}
	return writeUBootCopy(w, loc.Redundant, loc.Size, NewUBootEnv(), 5, 1)
}

func changeUBootEnv(c *actionCall, loc UBootEnvLocation, change func(*UBootEnv)) error {
	env, err := ReadUBootEnv(c.cache, loc)
	if err != nil {
		return err
	}
	change(env)
	return storeUBootEnv(lastWriter{c.cache}, loc, env, func() error { return nil })
}
