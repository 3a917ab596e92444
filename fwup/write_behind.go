package fwup

// writeBehind lets one write to a device go on while the next bytes are
// unpacked and hashed. Everything else on the device waits for that write, so
// that the device sees one thing at a time and in order.
//
// It is not for use by several goroutines. Whoever starts a write waits for it.
type writeBehind struct {
	BlockDevice
	busy   bool
	result chan error
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
	if !d.busy {
		return nil
	}
	d.busy = false
	return <-d.result
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
