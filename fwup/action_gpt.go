package fwup

import "fmt"

// gptUnits is the work of writing a GPT, as the original counts it.
const gptUnits = 2 * gptBlocks * blockSize

var gptWriteAction = &action{
	name: "gpt_write", min: 1, max: 1, usage: "gpt_write requires a gpt",
	units: func(c *actionCall) (int64, error) {
		_, err := c.gptTable(c.args[0])
		return gptUnits, err
	},
	run: func(c *actionCall) error {
		table, err := c.gptTable(c.args[0])
		if err != nil {
			return err
		}
		gpt, err := table.layOut(uint64(c.size/blockSize), c.cache.growable)
		if err != nil {
			return err
		}
		if err := writeGPT(c.cache, gpt); err != nil {
			return fmt.Errorf("unexpected error writing gpt: %w", err)
		}
		c.meter.add(gptUnits)
		return nil
	},
}

// writeGPT writes both tables so that a power cut leaves one of them whole, and
// readers with the old or the new partitions. They take the primary one while
// it is whole: so the backup has to be durable before the primary one is
// touched. When the primary one is broken already the backup is what counts,
// and it is the other way round.
func writeGPT(c *blockCache, gpt *GPT) error {
	primary, backup := gpt.encode()
	counts := true
	if now, err := readGPT(c, gpt.Blocks); err == nil && now.FromBackup {
		counts = false
	}
	put := func(p []byte, block uint64, last bool) error {
		off := int64(block) * blockSize
		if last {
			return c.writeLast(p, off)
		}
		_, err := c.WriteAt(p, off)
		return err
	}
	if err := put(backup, gpt.Blocks-gptBlocks, !counts); err != nil {
		return err
	}
	return put(primary, 0, counts)
}
