// Package fat makes, reads and changes FAT12, FAT16 and FAT32 file systems on
// anything that can be read and written at offsets.
//
// It leaves the same bytes as fwup 1.16 does: the layout of a new file system,
// where clusters are allocated, how names are stored, and the time stamps,
// which are always the first moment of 1980.
package fat
