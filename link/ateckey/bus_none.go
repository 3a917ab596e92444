//go:build !atecc || !linux

package ateckey

// Available says whether the program is built with I²C.
const Available = false

func openBus(string) (Bus, error) { return nil, ErrNotBuilt }
