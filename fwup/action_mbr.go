package fwup

import "fmt"

var mbrWriteAction = &action{
	name: "mbr_write", min: 1, max: 1, usage: "mbr_write requires an mbr",
	units: func(c *actionCall) (int64, error) {
		_, err := c.mbrTable(c.args[0])
		return blockSize, err
	},
	run: func(c *actionCall) error {
		table, err := c.mbrTable(c.args[0])
		if err != nil {
			return err
		}
		table.fit(uint64(c.size / blockSize))
		if err := table.checkOverlap(); err != nil {
			return err
		}
		// Logical partitions become visible with the MBR, so that is written
		// after their boot records.
		if records := table.extendedBootRecords(); len(records) > 0 {
			start := int64(table.mbr.Partitions[3].BlockOffset) * blockSize
			if _, err := c.cache.WriteAt(records, start); err != nil {
				return fmt.Errorf("unexpected error writing the extended boot records: %w", err)
			}
		}
		block := table.mbr.encode()
		if err := c.cache.writeLast(block[:], 0); err != nil {
			return fmt.Errorf("unexpected error writing mbr: %w", err)
		}
		c.meter.add(blockSize)
		return nil
	},
}
