package fwup

import (
	"bytes"
	"errors"
	"fmt"
)

var rawWriteAction = &action{
	name: "raw_write", resource: true, min: 1, max: maxActionArgs - 1, usage: "raw_write requires a block offset",
	units: func(c *actionCall) (int64, error) {
		_, _, err := rawWriteArgs(c)
		return c.resource.layout.dataSize(), err
	},
	run: runRawWrite,
}

// rawWriteArgs returns where to write, and how to encrypt what is written: nil
// for not at all.
func rawWriteArgs(c *actionCall) (block int64, crypt *diskCipher, err error) {
	block, err = c.number(0, maxBlock, "raw_write requires a non-negative integer block offset")
	if err == nil && len(c.args) > 1 {
		crypt, err = parseDiskCipher(c.args[1:])
	}
	return block, crypt, err
}

func runRawWrite(c *actionCall) error {
	block, crypt, err := rawWriteArgs(c)
	if err != nil {
		return err
	}
	r := c.resource
	w := blockWriter{cache: c.cache, crypt: crypt, base: block * blockSize}
	err = r.each(func(p []byte, at int64) error {
		if at > maxBlock*blockSize-block*blockSize {
			return errOutOfRange
		}
		if err := w.write(p, block*blockSize+at); err != nil {
			return fmt.Errorf("raw_write couldn't write %d bytes to offset %d: %w", len(p), block*blockSize+at, err)
		}
		c.meter.add(int64(len(p)))
		return nil
	})
	if err != nil {
		return err
	}
	if hole := r.layout.endingHole(); hole > 0 && r.read == r.layout.dataSize() {
		// A final hole is made real by a block of zeros at its end, so that a
		// file gets its full length.
		n := min(hole, blockSize)
		at := block*blockSize + r.layout.size() - n
		if err := w.write(make([]byte, n), at); err != nil {
			return fmt.Errorf("raw_write couldn't write to hole at offset %d: %w", at, err)
		}
	}
	if err := w.close(); err != nil {
		return fmt.Errorf("raw_write couldn't write final bytes: %w", err)
	}
	return r.check("raw_write")
}

// maxMemset is the most blocks that raw_memset fills.
const maxMemset = (1<<31 - 1) / blockSize

func memsetArgs(c *actionCall) (block, count, value int64, err error) {
	block, err = c.number(0, maxBlock-maxMemset, "raw_memset requires a non-negative integer block offset")
	if err == nil {
		const problem = "raw_memset requires a positive integer block count"
		if count, err = c.number(1, maxMemset, problem); err == nil && count == 0 {
			err = errors.New(problem)
		}
	}
	if err == nil {
		value, err = c.number(2, 255, "raw_memset requires value to be between 0 and 255")
	}
	return block, count, value, err
}

var rawMemsetAction = &action{
	name: "raw_memset", min: 3, max: 3, usage: "raw_memset requires a block offset, count, and value",
	units: func(c *actionCall) (int64, error) {
		_, count, _, err := memsetArgs(c)
		return count * blockSize, err
	},
	run: func(c *actionCall) error {
		block, count, value, err := memsetArgs(c)
		if err != nil {
			return err
		}
		fill := bytes.Repeat([]byte{byte(value)}, blockSize)
		for i := range count {
			if err := c.ctx.Err(); err != nil {
				return err
			}
			off := (block + i) * blockSize
			if err := c.cache.stream(fill, off); err != nil {
				return fmt.Errorf("raw_memset couldn't write %d bytes to offset %d: %w", blockSize, off, err)
			}
			c.meter.add(blockSize)
		}
		return nil
	},
}

// trimArgs returns what to trim. A count may go past the last block there can
// be, to mean all that follows.
func trimArgs(c *actionCall) (block, count int64, err error) {
	block, err = c.number(0, maxBlock, "trim requires a non-negative integer block offset")
	if err != nil {
		return 0, 0, err
	}
	const problem = "trim requires a block count >1"
	if count, err = c.number(1, (1<<63-1)/blockSize, problem); err == nil && count == 0 {
		err = errors.New(problem)
	}
	return block, min(count, maxBlock-block), err
}

var trimAction = &action{
	name: "trim", min: 2, max: 2, usage: "trim requires a block offset and count",
	units: func(c *actionCall) (int64, error) {
		_, count, err := trimArgs(c)
		return count / 256, err
	},
	run: func(c *actionCall) error {
		block, count, err := trimArgs(c)
		if err != nil {
			return err
		}
		c.meter.add(count / 256)
		return c.cache.trim(block*blockSize, count*blockSize)
	},
}

// blockWriter streams to the cache in whole blocks: a write that starts or
// ends inside a block is filled up with zeros.
type blockWriter struct {
	cache *blockCache
	block [blockSize]byte
	start int64 // where block goes
	n     int   // bytes in block, 0 for none

	crypt  *diskCipher // encrypts what is written, nil for none
	base   int64       // where its first block is
	sealed []byte      // what it makes
}

func (w *blockWriter) write(p []byte, off int64) error {
	if w.n > 0 && (off < w.start+int64(w.n) || off >= w.start+blockSize) {
		if err := w.close(); err != nil {
			return err
		}
	}
	if w.n > 0 || off%blockSize != 0 {
		w.start = off - off%blockSize
		clear(w.block[w.n : off-w.start])
		n := copy(w.block[off-w.start:], p)
		w.n = int(off-w.start) + n
		if w.n < blockSize {
			return nil
		}
		if err := w.close(); err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	whole := len(p) - len(p)%blockSize
	if whole > 0 {
		if err := w.put(p[:whole], off); err != nil {
			return err
		}
	}
	if w.n = copy(w.block[:], p[whole:]); w.n > 0 {
		w.start = off + int64(whole)
	}
	return nil
}

// close writes an unfinished block.
func (w *blockWriter) close() error {
	if w.n == 0 {
		return nil
	}
	clear(w.block[w.n:])
	w.n = 0
	return w.put(w.block[:], w.start)
}

// put writes whole blocks, encrypted if they are to be.
func (w *blockWriter) put(p []byte, off int64) error {
	if w.crypt != nil {
		w.sealed = append(w.sealed[:0], p...)
		w.crypt.encrypt(w.sealed, w.sealed, (off-w.base)/blockSize)
		p = w.sealed
	}
	return w.cache.stream(p, off)
}
