package fwup

// writeBehind lets one write to a device go on while the next bytes are
// unpacked and hashed. Everything else on the device waits for that write, so
// that the device sees one thing at a time and in order.
//
// When a write behind fails, so does all that follows: whoever comes next may
// have reasons to go on when the device does not work for it, and the bytes are
// lost. It ends with forgive.
//
// It is not for use by several goroutines. Whoever starts a write waits for it.
type writeBehind struct {
	BlockDevice
	busy   bool
	result chan error
	err    error // of a write behind
}

func newWriteBehind(dev BlockDevice) *writeBehind {
	return &writeBehind{BlockDevice: dev, result: make(chan error, 1)}
}

// start runs work, which may use the device, behind. It first waits for what
// runs already.
func (d *writeBehind) start(work func(BlockDevice) error) error {
	if err := d.wait(); err != nil {
		return err
	}
	d.busy = true
	go func() { d.result <- work(d.BlockDevice) }()
	return nil
}

// wait returns when nothing runs any more, with the error of what did.
func (d *writeBehind) wait() error {
	if d.busy {
		d.busy = false
		d.err = <-d.result
	}
	return d.err
}

// forgive waits, and lets the device be used again whatever became of the
// write.
func (d *writeBehind) forgive() {
	_ = d.wait()
	d.err = nil
}

func (d *writeBehind) ReadAt(p []byte, off int64) (int, error) {
	if err := d.wait(); err != nil {
		return 0, err
	}
	return d.BlockDevice.ReadAt(p, off)
}

func (d *writeBehind) WriteAt(p []byte, off int64) (int, error) {
	if err := d.wait(); err != nil {
		return 0, err
	}
	return d.BlockDevice.WriteAt(p, off)
}

func (d *writeBehind) Size() (int64, error) {
	if err := d.wait(); err != nil {
		return 0, err
	}
	return d.BlockDevice.Size()
}

func (d *writeBehind) Sync() error {
	if err := d.wait(); err != nil {
		return err
	}
	return d.BlockDevice.Sync()
}
