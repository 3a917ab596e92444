package tpmkey

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"
)

// DefaultDevice is the kernel's resource manager of the first TPM.
const DefaultDevice = "/dev/tpmrm0"

const (
	// commandTimeout is for one command. Making an RSA key can take a minute.
	commandTimeout = 2 * time.Minute
	// maxResponse is the largest response that TPMs make.
	maxResponse  = 4096
	headerLength = 10
	// retries is how often a TPM may say that it did not begin a command; the
	// pause before the next try doubles from firstPause.
	retries    = 6
	firstPause = 20 * time.Millisecond
)

// Response codes of a TPM that did not begin the command.
const (
	codeYielded = 0x908
	codeTesting = 0x90a
	codeRetry   = 0x922
)

// device is an open TPM. It takes one command at a time.
type device struct {
	rw   io.ReadWriteCloser
	ctx  context.Context // ends commands while a key is opened; later none
	name string
	buf  [maxResponse]byte
}

// openDevice opens a TPM. Commands end with the context until detach.
func openDevice(ctx context.Context, name string) (*device, error) {
	if name == "" {
		name = DefaultDevice
	}
	d := &device{ctx: ctx, name: name}
	var err error
	var dialer net.Dialer
	network, address, isNetwork := strings.Cut(name, ":")
	switch {
	case isNetwork && (network == "unix" || network == "tcp"):
		d.rw, err = dialer.DialContext(ctx, network, address)
	default:
		d.rw, err = os.OpenFile(name, os.O_RDWR, 0)
	}
	switch {
	case err == nil:
		return d, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w at %s: enable it in the firmware and check that the kernel has its driver (%w)", ErrNoTPM, name, err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("no permission to use the TPM at %s: run as root, or as a member of the group that owns it, usually tss (%w)", name, err)
	}
	return nil, fmt.Errorf("open TPM at %s: %w", name, err)
}

// detach lets the device live longer than the context it was opened with.
func (d *device) detach() { d.ctx = context.Background() }

func (d *device) Close() error { return d.rw.Close() }

// Send exchanges one command for its response. It is what go-tpm calls.
func (d *device) Send(command []byte) ([]byte, error) {
	pause := firstPause
	for try := 0; ; try++ {
		response, err := d.exchange(command)
		if err != nil || try == retries {
			return response, err
		}
		switch binary.BigEndian.Uint32(response[6:]) {
		case codeYielded, codeTesting, codeRetry:
		default:
			return response, nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-d.ctx.Done():
			timer.Stop()
			return nil, d.ctx.Err()
		}
		pause *= 2
	}
}

func (d *device) exchange(command []byte) ([]byte, error) {
	if err := d.ctx.Err(); err != nil {
		return nil, err
	}
	if c, ok := d.rw.(net.Conn); ok {
		_ = c.SetDeadline(time.Now().Add(commandTimeout))
		// A deadline in the past ends the exchange when the context ends.
		stop := context.AfterFunc(d.ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	if _, err := d.rw.Write(command); err != nil {
		return nil, fmt.Errorf("TPM at %s: %w", d.name, err)
	}
	got, want := 0, headerLength
	for got < want {
		n, err := d.rw.Read(d.buf[got:])
		got += n
		if got >= headerLength {
			size := binary.BigEndian.Uint32(d.buf[2:])
			if size < headerLength || size > maxResponse {
				return nil, fmt.Errorf("TPM at %s: a response claims %d bytes", d.name, size)
			}
			want = int(size)
		}
		if err != nil && got < want {
			if ctxErr := d.ctx.Err(); ctxErr != nil {
				err = ctxErr
			}
			return nil, fmt.Errorf("TPM at %s: %w", d.name, err)
		}
	}
	if got > want {
		return nil, fmt.Errorf("TPM at %s: %d bytes after a response of %d", d.name, got-want, want)
	}
	return append([]byte(nil), d.buf[:got]...), nil
}
