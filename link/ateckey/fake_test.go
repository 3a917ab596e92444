package ateckey

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"math/big"
	"testing"
	"time"
)

// fakeChip is a bus with one chip that minds what the real one minds: that it
// is woken and given time, that packets are whole, that it is not asked
// something else while it works, that its watchdog has not run out, and that
// sleep makes it forget.
type fakeChip struct {
	t       *testing.T
	address uint16
	is608   bool
	config  [128]byte
	otp     [64]byte
	slots   map[int][]byte
	key     *ecdsa.PrivateKey

	awake   bool
	since   time.Time // of the wake pulse
	ready   time.Time // when answer can be read
	answer  []byte
	seeded  bool
	message []byte
	closed  bool

	commands int
	slow     time.Duration                   // added to each command
	damage   func(n int, answer []byte) bool // changes the answer of command n
	absent   bool                            // nobody answers
}

const watchdog = 700 * time.Millisecond

func (f *fakeChip) Close() error { f.closed = true; return nil }

func (f *fakeChip) nak(address uint16) error { return fmt.Errorf("address %#x: %w", address, ErrNAK) }

func (f *fakeChip) fallAsleep() {
	f.awake, f.answer, f.seeded, f.message = false, nil, false, nil
}

func (f *fakeChip) Write(address uint16, data []byte) error {
	now := time.Now()
	if f.awake && now.Sub(f.since) > watchdog {
		f.fallAsleep()
	}
	if address == 0 {
		if !f.awake {
			f.awake, f.since, f.ready = true, now, now.Add(1500*time.Microsecond)
			f.answer = []byte{4, 0x11, 0x33, 0x43}
		}
		return f.nak(address)
	}
	if address != f.address || f.absent || !f.awake || now.Before(f.ready) {
		return f.nak(address)
	}
	switch data[0] {
	case 0x01:
		if len(data) != 1 {
			f.t.Errorf("sleep with % x", data)
		}
		f.fallAsleep()
	case 0x03:
		f.command(now, data[1:])
	default:
		f.t.Errorf("word address %#x", data[0])
	}
	return nil
}

func (f *fakeChip) Read(address uint16, data []byte) error {
	now := time.Now()
	if f.awake && now.Sub(f.since) > watchdog {
		f.fallAsleep()
	}
	if address != f.address || f.absent || !f.awake || now.Before(f.ready) || f.answer == nil {
		return f.nak(address)
	}
	for i := range data {
		data[i] = 0xff
	}
	copy(data, f.answer)
	return nil
}

// command takes a packet without the word address.
func (f *fakeChip) command(now time.Time, p []byte) {
	if len(p) < 7 || int(p[0]) != len(p) {
		f.t.Fatalf("packet % x", p)
	}
	if crc := crc16(p[:len(p)-2]); crc != [2]byte(p[len(p)-2:]) {
		f.t.Fatalf("CRC of packet % x", p)
	}
	param2 := int(p[3]) | int(p[4])<<8
	took, content := f.execute(p[1], p[2], param2, p[5:len(p)-2])
	f.answer = append([]byte{byte(len(content) + 3)}, content...)
	crc := crc16(f.answer)
	f.answer = append(f.answer, crc[0], crc[1])
	f.ready = now.Add(took + f.slow)
	if f.damage != nil && f.damage(f.commands, f.answer) {
		f.t.Logf("command %d is damaged", f.commands)
	}
	f.commands++
}

func (f *fakeChip) execute(op, param1 byte, param2 int, data []byte) (time.Duration, []byte) {
	refused := []byte{0x0f}
	switch op {
	case 0x02:
		return time.Millisecond, f.read(param1, param2)
	case 0x1b:
		f.seeded = true
		return 23 * time.Millisecond, make([]byte, 32)
	case 0x16:
		if len(data) != 32 || param2 != 0 || param1 != 0x03 && (!f.is608 || param1 != 0x43) {
			return time.Millisecond, []byte{0x03}
		}
		f.message = append([]byte{param1}, data...)
		return 7 * time.Millisecond, []byte{0}
	case 0x40:
		if param1 != 0 || param2 != 0 {
			return time.Millisecond, refused
		}
		return 115 * time.Millisecond, rawKey(&f.key.PublicKey)
	case 0x41:
		want := byte(0x80)
		if f.message != nil && f.message[0] == 0x43 {
			want = 0xa0
		}
		if !f.seeded || f.message == nil || param1 != want || param2 != 0 {
			f.t.Errorf("sign with mode %#x and slot %d, seeded %v", param1, param2, f.seeded)
			return time.Millisecond, refused
		}
		r, s, err := ecdsa.Sign(rand.Reader, f.key, f.message[1:])
		if err != nil {
			f.t.Fatal(err)
		}
		return 60 * time.Millisecond, append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
	return time.Millisecond, []byte{0x03}
}

func (f *fakeChip) read(param1 byte, address int) []byte {
	size := 4
	if param1&0x80 != 0 {
		size = 32
		if address%8 != 0 {
			return []byte{0x03}
		}
	}
	var from []byte
	at := address * 4
	switch param1 & 3 {
	case 0:
		from = f.config[:]
	case 1:
		from = f.otp[:]
	case 2:
		slot := address >> 3 & 15
		if slot == 0 {
			return []byte{0x0f} // the private key
		}
		from, at = f.slots[slot], address>>8*32+address%8*4
	}
	if at+size > len(from) {
		return []byte{0x03}
	}
	return from[at : at+size]
}

func rawKey(key *ecdsa.PublicKey) []byte {
	text, err := key.Bytes()
	if err != nil {
		panic(err)
	}
	return text[1:]
}

func newECKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newFakeChip is one that was provisioned; only the primary pair is written.
func newFakeChip(t *testing.T, serial string) (*fakeChip, factory) {
	t.Helper()
	f := &fakeChip{t: t, address: DefaultAddress, slots: map[int][]byte{}, key: newECKey(t)}
	copy(f.config[:], []byte{0x01, 0x23, 0x5a, 0x5b, 0, 0, 0x50, 0, 0x11, 0x22, 0x33, 0x44, 0xee})
	copy(f.otp[:], "Nrvs\x00\x00NervesKey")
	if len(serial) > 16 {
		f.otp[5] = 1
	}
	copy(f.otp[16:], serial)
	for slot := 1; slot < 16; slot++ {
		size := 72
		if slot < 8 {
			size = 36
		} else if slot == 8 {
			size = 416
		}
		f.slots[slot] = make([]byte, size)
	}
	made := newFactory(t, time.Date(2024, 5, 6, 7, 0, 0, 0, time.UTC), 20)
	f.provision(t, NervesKey.Primary, made, serial)
	return f, made
}

func (f *fakeChip) provision(t *testing.T, slots Slots, made factory, serial string) {
	t.Helper()
	chip := append(append([]byte{}, f.config[:4]...), f.config[8:13]...)
	dates := packDates(2024, 5, 6, 7, 31)
	sum := sha256.Sum256(append(chip, dates...))
	sum[0] = sum[0]&0x3f | 0x40
	cert := made.device(t, serial, &f.key.PublicKey, new(big.Int).SetBytes(sum[:16]),
		time.Date(2024, 5, 6, 7, 0, 0, 0, time.UTC), time.Date(2055, 5, 6, 7, 0, 0, 0, time.UTC))
	copy(f.slots[slots.Device], compress(t, cert, dates, 0x00, 0xb0))
	copy(f.slots[slots.SignerKey], rawKey(&made.key.PublicKey))
	copy(f.slots[slots.Signer], compress(t, made.cert, made.dates, 0x10, 0xa0))
}
