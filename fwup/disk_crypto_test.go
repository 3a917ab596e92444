package fwup

import (
	"bytes"
	"crypto/aes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
)

func unhex(tb testing.TB, text string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(text)
	must(tb, err)
	return b
}

// cbcByHand is aes-cbc-plain as dm-crypt defines it, from its blocks of 16
// bytes.
func cbcByHand(tb testing.TB, key, sector []byte, number uint32) []byte {
	tb.Helper()
	c, err := aes.NewCipher(key)
	must(tb, err)
	var chain [16]byte
	binary.LittleEndian.PutUint32(chain[:], number)
	var out []byte
	for i := 0; i < len(sector); i += 16 {
		for j := range chain {
			chain[j] ^= sector[i+j]
		}
		c.Encrypt(chain[:], chain[:])
		out = append(out, chain[:]...)
	}
	return out
}

// xtsByHand is the same for aes-xts-plain64.
func xtsByHand(tb testing.TB, key, sector []byte, number uint64) []byte {
	tb.Helper()
	c, err := aes.NewCipher(key[:32])
	must(tb, err)
	forTweak, err := aes.NewCipher(key[32:])
	must(tb, err)
	var tweak [16]byte
	binary.LittleEndian.PutUint64(tweak[:], number)
	forTweak.Encrypt(tweak[:], tweak[:])
	var out []byte
	for i := 0; i < len(sector); i += 16 {
		var block [16]byte
		for j := range block {
			block[j] = sector[i+j] ^ tweak[j]
		}
		c.Encrypt(block[:], block[:])
		for j := range block {
			block[j] ^= tweak[j]
		}
		out = append(out, block[:]...)
		carry := byte(0)
		for j := range tweak {
			tweak[j], carry = tweak[j]<<1|carry, tweak[j]>>7
		}
		tweak[0] ^= carry * 0x87
	}
	return out
}

func TestDiskCipher(t *testing.T) {
	plain := random(20, 5*blockSize)
	for _, first := range []int64{0, 1, 255, 256, 1<<32 - 2, 1 << 40} {
		for option, byHand := range map[string]func(sector []byte, number int64) []byte{
			cbcOption: func(sector []byte, number int64) []byte {
				return cbcByHand(t, unhex(t, cbcSecret), sector, uint32(number))
			},
			xtsOption: func(sector []byte, number int64) []byte {
				return xtsByHand(t, unhex(t, xtsSecret), sector, uint64(number))
			},
		} {
			c, err := parseDiskCipher([]string{option})
			must(t, err)
			got := make([]byte, len(plain))
			c.encrypt(got, plain, first)
			for i := range int64(5) {
				want := byHand(plain[i*blockSize:(i+1)*blockSize], first+i)
				if !bytes.Equal(got[i*blockSize:(i+1)*blockSize], want) {
					t.Errorf("%.20s: block %d is wrong", option, first+i)
				}
			}
			c.decrypt(got, got, first)
			if !bytes.Equal(got, plain) {
				t.Errorf("%.20s: decrypted from block %d is something else", option, first)
			}
		}
	}
}

// TestDiskCipherXTS compares with vector 10 of IEEE 1619-2007.
func TestDiskCipherXTS(t *testing.T) {
	c, err := parseDiskCipher([]string{xtsOption})
	must(t, err)
	sector := make([]byte, blockSize)
	for i := range sector {
		sector[i] = byte(i)
	}
	c.encrypt(sector, sector, 0xff)
	want := "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b"
	if got := hex.EncodeToString(sector[:32]); got != want {
		t.Errorf("%s, expected %s", got, want)
	}
}

func TestDiskCipherOptions(t *testing.T) {
	key := unhex(t, cbcSecret)
	for _, options := range [][]string{
		{cbcOption},
		{"cipher=aes-cbc-plain", "secret=" + cbcSecret},
		{"secret=" + strings.ToUpper(cbcSecret), "cipher=aes-cbc-plain"},
		{"secret=" + base64.StdEncoding.EncodeToString(key) + ",cipher=aes-cbc-plain"},
		{"cipher=rot13,secret=1", cbcOption}, // the last one counts
	} {
		c, err := parseDiskCipher(options)
		if err != nil || c.encrypter == nil || c.xts != nil {
			t.Errorf("%q: %v", options, err)
			continue
		}
		got := make([]byte, blockSize)
		c.encrypt(got, got, 7)
		if !bytes.Equal(got, cbcByHand(t, key, make([]byte, blockSize), 7)) {
			t.Errorf("%q: another key", options)
		}
	}
	for _, tt := range []struct {
		options     []string
		class, text string
	}{
		{nil, ClassCrypto, "Unsupported disk encryption: "},
		{[]string{"cipher=,secret="}, ClassCrypto, "Unsupported disk encryption: "},
		{[]string{"cipher=aes-cbc-plain"}, "", "Both a cipher and secret are required if one is supplied"},
		{[]string{"secret=" + cbcSecret}, "", "Both a cipher and secret are required if one is supplied"},
		{[]string{"cipher=aes-cbc-plain", "secret="}, "", "Both a cipher and secret are required if one is supplied"},
		{[]string{"cipher"}, "", "Expecting '=' for in parameter 'cipher'"},
		{[]string{""}, "", "Expecting '=' for in parameter ''"},
		{[]string{cbcOption + ","}, "", "Expecting '=' for in parameter ''"},
		{[]string{"key=1,cipher=x"}, "", "Unexpected parameter: key=1"},
		{[]string{"key=1,secret=" + cbcSecret}, "", "Unexpected parameter: key=1"},
		{[]string{"cipher=x,key=1"}, "", "Unexpected parameter: key=1"},
		{[]string{"cipher=aes-cbc-plain", cbcSecret}, "", "Expecting '=' for in parameter '...'"},
		{[]string{"cipher=aes-cbc-plain,Secret=" + cbcSecret}, "", "Unexpected parameter: Secret=..."},
		{[]string{cbcSecret + "=,cipher=x"}, "", "Unexpected parameter: ...="},
		{[]string{"secret=aes-cbc-plain,cipher=" + cbcSecret}, ClassCrypto, "Unsupported disk encryption: ..."},
		{[]string{"cipher=AES-CBC-PLAIN,secret=" + cbcSecret}, ClassCrypto, "Unsupported disk encryption: AES-CBC-PLAIN"},
		{[]string{"cipher=aes-cbc-plain,secret=" + cbcSecret[2:]}, ClassCrypto, "aes-cbc-plain requires a hex-encoded 256-bit key"},
		{[]string{"cipher=aes-cbc-plain,secret=" + cbcSecret + "00"}, ClassCrypto, "aes-cbc-plain requires a hex-encoded 256-bit key"},
		{[]string{"cipher=aes-cbc-plain,secret=" + base64.StdEncoding.EncodeToString(key[1:])}, ClassCrypto, "aes-cbc-plain requires a hex-encoded 256-bit key"},
		{[]string{"cipher=aes-xts-plain64,secret=" + cbcSecret}, ClassCrypto, "aes-xts-plain64 requires a hex-encoded 512-bit key"},
		{[]string{"cipher=aes-xts-plain64,secret=" + base64.StdEncoding.EncodeToString(unhex(t, xtsSecret))}, ClassCrypto, "aes-xts-plain64 requires a hex-encoded 512-bit key"},
	} {
		_, err := parseDiskCipher(tt.options)
		if err == nil || err.Error() != tt.text || classOf(err) != tt.class && tt.class != "" {
			t.Errorf("%q: %v, expected %q", tt.options, err, tt.text)
		}
		if err != nil && strings.Contains(err.Error(), cbcSecret[2:]) {
			t.Errorf("%q: the error tells the key", tt.options)
		}
	}
}

// TestRawWriteEncrypted writes content that starts, has holes and ends
// anywhere. What is not written stays as it is.
func TestRawWriteEncrypted(t *testing.T) {
	t.Parallel()
	data := random(21, 400_000)
	for _, l := range []layout{
		{400_000}, {0, 1024, 400_000}, {512, 512, 1024, 4096, 398_464}, {200_000, 112, 200_000}, {399_999, 1, 1}, {400_000, 1000},
	} {
		calls := `3,raw_write,10,"` + cbcOption + `"`
		dev := NewMemoryDevice(bytes.Repeat([]byte{0xee}, 1<<20))
		apply(t, archiveWithLayout(t, data, l, calls), dev, ApplyOptions{Task: "complete", VerifyFirst: true, VerifyWrites: true})
		clear := NewMemoryDevice(bytes.Repeat([]byte{0xee}, 1<<20))
		apply(t, archiveWithLayout(t, data, l, "2,raw_write,10"), clear, ApplyOptions{Task: "complete"})
		c, err := parseDiskCipher([]string{cbcOption})
		must(t, err)
		got, want := dev.Bytes(), clear.Bytes()
		for block := 0; block*blockSize < len(want); block++ {
			g, w := got[block*blockSize:(block+1)*blockSize], want[block*blockSize:(block+1)*blockSize]
			if !bytes.Equal(w, bytes.Repeat([]byte{0xee}, blockSize)) {
				g = bytes.Clone(g)
				c.decrypt(g, g, int64(block-10))
			}
			if !bytes.Equal(g, w) {
				t.Fatalf("%v: block %d is wrong", l, block)
			}
		}
	}
}
