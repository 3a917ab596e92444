package fwup

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/xts"
)

// The ciphers of raw_write and of the sources of deltas.
const (
	cipherCBC = "aes-cbc-plain"
	cipherXTS = "aes-xts-plain64"
)

// aes256Key is the length of a key of AES-256 in bytes.
const aes256Key = 32

// diskCipher encrypts blocks of 512 bytes as the dm-crypt of Linux does. What
// comes out depends on the number of the block, which counts from the start of
// what is encrypted.
type diskCipher struct {
	encrypter, decrypter cbcMode     // of aes-cbc-plain,
	xts                  *xts.Cipher // or else of aes-xts-plain64
}

// cbcMode is what the modes of crypto/cipher are for AES: they can be used
// again.
type cbcMode interface {
	cipher.BlockMode
	SetIV(iv []byte)
}

// parseDiskCipher makes a cipher of options like cipher=NAME and
// secret=KEY, each for itself or with commas in between.
func parseDiskCipher(options []string) (*diskCipher, error) {
	var name, secret string
	for _, rest := range options {
		for more := true; more; {
			// Errors tell no more than this option, as a key may follow.
			option, _, _ := strings.Cut(rest, ",")
			option = withoutKey(option)
			key, value, ok := strings.Cut(rest, "=")
			if !ok {
				return nil, fmt.Errorf("Expecting '=' for in parameter '%s'", option) //nolint:staticcheck // shown as fwup shows it
			}
			value, rest, more = strings.Cut(value, ",")
			switch key {
			case "cipher":
				name = value
			case "secret":
				secret = value
			default:
				return nil, fmt.Errorf("Unexpected parameter: %s", option) //nolint:staticcheck // shown as fwup shows it
			}
		}
	}
	if (name == "") != (secret == "") {
		return nil, errors.New("Both a cipher and secret are required if one is supplied") //nolint:staticcheck // shown as fwup shows it
	}
	switch name {
	case cipherCBC:
		return newCBC(secret)
	case cipherXTS:
		return newXTS(secret)
	}
	return nil, errorf(ClassCrypto, "Unsupported disk encryption: %s", withoutKey(name))
}

// withoutKey returns what an error may tell of an option: of its name and its
// value only what is too short to be a key that is in the wrong place.
func withoutKey(option string) string {
	const longest = len(cipherXTS) + 5
	name, value, ok := strings.Cut(option, "=")
	if len(name) > longest {
		name = "..."
	}
	if len(value) > longest {
		value = "..."
	}
	if !ok {
		return name
	}
	return name + "=" + value
}

func newCBC(secret string) (*diskCipher, error) {
	key, err := hex.DecodeString(secret)
	if err != nil || len(key) != aes256Key {
		// As fwup 1.5.0 had it. It is deprecated.
		key, err = base64.StdEncoding.DecodeString(secret)
	}
	if err != nil || len(key) != aes256Key {
		return nil, errorf(ClassCrypto, "aes-cbc-plain requires a hex-encoded %d-bit key", aes256Key*8)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	iv := make([]byte, aes.BlockSize)
	encrypter, ok := cipher.NewCBCEncrypter(block, iv).(cbcMode)
	decrypter, ok2 := cipher.NewCBCDecrypter(block, iv).(cbcMode)
	if !ok || !ok2 {
		return nil, errors.New("the implementation of AES lacks a way to set its state")
	}
	return &diskCipher{encrypter: encrypter, decrypter: decrypter}, nil
}

func newXTS(secret string) (*diskCipher, error) {
	key, err := hex.DecodeString(secret)
	if err != nil || len(key) != 2*aes256Key {
		return nil, errorf(ClassCrypto, "aes-xts-plain64 requires a hex-encoded %d-bit key", 2*aes256Key*8)
	}
	c, err := xts.NewCipher(aes.NewCipher, key)
	if err != nil {
		return nil, err
	}
	return &diskCipher{xts: c}, nil
}

// encrypt encrypts the whole blocks of src, the first of which has a number.
// dst may be src.
func (c *diskCipher) encrypt(dst, src []byte, number int64) {
	c.each(dst, src, number, c.encrypter, (*xts.Cipher).Encrypt)
}

// decrypt is the reverse of encrypt.
func (c *diskCipher) decrypt(dst, src []byte, number int64) {
	c.each(dst, src, number, c.decrypter, (*xts.Cipher).Decrypt)
}

func (c *diskCipher) each(dst, src []byte, number int64, cbc cbcMode, crypt func(c *xts.Cipher, dst, src []byte, sector uint64)) {
	for len(src) >= blockSize {
		if c.xts != nil {
			crypt(c.xts, dst[:blockSize], src[:blockSize], uint64(number))
		} else {
			var iv [aes.BlockSize]byte
			binary.LittleEndian.PutUint32(iv[:], uint32(number))
			cbc.SetIV(iv[:])
			cbc.CryptBlocks(dst[:blockSize], src[:blockSize])
		}
		dst, src, number = dst[blockSize:], src[blockSize:], number+1
	}
}
