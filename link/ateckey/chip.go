package ateckey

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// DefaultAddress is where the chip is on the bus, in 7 bits.
const DefaultAddress = 0x60

// ErrNAK says that nobody acknowledged a transfer: the chip sleeps, is busy or
// is not there. A Bus returns errors that wrap it.
var ErrNAK = errors.New("not acknowledged")

// Bus moves bytes to and from 7-bit addresses of an I²C bus.
type Bus interface {
	Write(address uint16, data []byte) error
	Read(address uint16, data []byte) error
	Close() error
}

const (
	wakeDelay    = 2 * time.Millisecond // from the wake pulse until the chip listens; it says 1.5
	pollInterval = 2 * time.Millisecond
	wakeTries    = 4
	wakeRetry    = 100 * time.Millisecond
	commandTries = 3
)

// wakeAnswer is what a chip says that has just woken.
var wakeAnswer = []byte{4, statusAwake, 0x33, 0x43}

// command is a command and how long it takes: from typical the chip is asked
// whether it is done, after longest it is given up. They are the longer ones
// of both kinds of chips.
type command struct {
	op       byte
	param1   byte
	param2   uint16
	data     []byte
	answer   int // bytes; 1 means a status
	typical  time.Duration
	longest  time.Duration
	whatItIs string
}

// chip speaks with one chip. Whatever it is asked happens between a wake and a
// sleep, so that it draws no current and its watchdog never runs out.
type chip struct {
	bus     Bus
	address uint16
	sleep   func(context.Context, time.Duration) error // waits; a field for tests

	mu sync.Mutex
}

func newChip(bus Bus, address uint16) *chip {
	if address == 0 {
		address = DefaultAddress
	}
	return &chip{bus: bus, address: address, sleep: pause}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awake wakes the chip, runs the commands and lets it sleep. If a transfer was
// damaged or the chip lost what it had, everything is done again.
func (c *chip) awake(ctx context.Context, do func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	for range commandTries {
		if err = c.wake(ctx); err != nil {
			return err
		}
		err = do()
		sleepErr := c.rest()
		if err == nil {
			// The answer is there; a chip that is not told to sleep does so by
			// its watchdog.
			return nil
		}
		if !transient(err) || ctx.Err() != nil {
			return err
		}
		if sleepErr != nil {
			if err := c.sleep(ctx, wakeRetry); err != nil {
				return err
			}
		}
	}
	return err
}

func transient(err error) bool {
	var status StatusError
	if errors.As(err, &status) {
		return status == statusWatchdog || status == statusCRC || status == statusAwake || status == 0x05 || status == 0x08
	}
	return errors.Is(err, ErrCRC) || errors.Is(err, ErrNAK)
}

func (c *chip) rest() error { return c.bus.Write(c.address, []byte{wordSleep}) }

func (c *chip) wake(ctx context.Context) error {
	var last error
	for try := range wakeTries {
		if try > 0 {
			if err := c.sleep(ctx, wakeRetry); err != nil {
				return err
			}
		}
		// Nobody is at address 0: the byte only holds the line low.
		if err := c.bus.Write(0, []byte{0}); err != nil && !errors.Is(err, ErrNAK) {
			return fmt.Errorf("wake the ATECC chip: %w", err)
		}
		if err := c.sleep(ctx, wakeDelay); err != nil {
			return err
		}
		answer := make([]byte, len(wakeAnswer))
		err := c.bus.Read(c.address, answer)
		switch {
		case err != nil && !errors.Is(err, ErrNAK):
			return fmt.Errorf("wake the ATECC chip: %w", err)
		case err != nil:
			last = err
			continue
		case slices.Equal(answer, wakeAnswer):
			return nil
		}
		// It was awake already, perhaps for another program: let it sleep.
		last = fmt.Errorf("woken, it says % x", answer)
		_ = c.rest()
	}
	return fmt.Errorf("%w (%w)", ErrNoChip, last)
}

// run sends one command and waits for its answer.
func (c *chip) run(ctx context.Context, cmd command) ([]byte, error) {
	packet := packCommand(cmd.op, cmd.param1, cmd.param2, cmd.data)
	if err := c.bus.Write(c.address, packet); err != nil {
		return nil, fmt.Errorf("%s: %w", cmd.whatItIs, err)
	}
	if err := c.sleep(ctx, cmd.typical); err != nil {
		return nil, err
	}
	answer := make([]byte, cmd.answer+overhead)
	for waited := cmd.typical; ; waited += pollInterval {
		err := c.bus.Read(c.address, answer)
		if err == nil {
			break
		}
		if !errors.Is(err, ErrNAK) || waited >= cmd.longest {
			return nil, fmt.Errorf("%s: no answer after %v: %w", cmd.whatItIs, waited, err)
		}
		if err := c.sleep(ctx, pollInterval); err != nil {
			return nil, err
		}
	}
	content, err := interpret(answer, cmd.answer)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cmd.whatItIs, err)
	}
	return content, nil
}

// Zones of the chip's memory.
const (
	zoneConfig = 0
	zoneOTP    = 1
	zoneData   = 2
	read32     = 0x80 // 32 bytes at once instead of 4
)

// read reads from the beginning of a zone, or of a slot of the data zone. The
// size is a multiple of 4.
func (c *chip) read(ctx context.Context, zone byte, slot, size int) ([]byte, error) {
	out := make([]byte, 0, size)
	for len(out) < size {
		word := len(out) / 4
		address := word
		if zone == zoneData {
			address = word/8<<8 | slot<<3 | word%8
		}
		cmd := command{op: opRead, param1: zone, param2: uint16(address), answer: 4,
			typical: time.Millisecond, longest: 20 * time.Millisecond, whatItIs: "read the ATECC chip"}
		if size-len(out) >= 32 && word%8 == 0 {
			cmd.param1, cmd.answer = zone|read32, 32
		}
		part, err := c.run(ctx, cmd)
		if err != nil {
			return nil, err
		}
		out = append(out, part...)
	}
	return out, nil
}

// publicKey has the public key of a private key computed.
func (c *chip) publicKey(ctx context.Context, slot int) ([]byte, error) {
	return c.run(ctx, command{op: opGenKey, param2: uint16(slot), answer: 64,
		typical: 50 * time.Millisecond, longest: 800 * time.Millisecond, whatItIs: "read the public key of the ATECC chip"})
}

const (
	nonceThrough      = 0x03 // take the 32 bytes as they are
	nonceDigestBuffer = 0x40 // and put them into the message buffer, which the 508 has not
	signExternal      = 0x80 // sign what was loaded
	signDigestBuffer  = 0x20 // and loaded into the message buffer
)

// sign signs a digest of 32 bytes. The result is r and s, 32 bytes each.
func (c *chip) sign(ctx context.Context, slot int, digest []byte, buffer bool) ([]byte, error) {
	// The random number is not used: the command makes the chip take a new
	// seed, from which the signature's secret comes.
	if _, err := c.run(ctx, command{op: opRandom, answer: 32,
		typical: 10 * time.Millisecond, longest: 100 * time.Millisecond, whatItIs: "seed the ATECC chip"}); err != nil {
		return nil, err
	}
	load := command{op: opNonce, param1: nonceThrough, data: digest, answer: 1,
		typical: time.Millisecond, longest: 60 * time.Millisecond, whatItIs: "load a digest into the ATECC chip"}
	sign := command{op: opSign, param1: signExternal, param2: uint16(slot), answer: 64,
		typical: 40 * time.Millisecond, longest: 800 * time.Millisecond, whatItIs: "sign with the ATECC chip"}
	if buffer {
		load.param1 |= nonceDigestBuffer
		sign.param1 |= signDigestBuffer
	}
	if _, err := c.run(ctx, load); err != nil {
		return nil, err
	}
	return c.run(ctx, sign)
}
