// Package vcdiff makes and applies deltas in the VCDIFF format of RFC 3284, in
// the dialect that xdelta3 and fwup 1.16 read: the default code table, copies
// from a source or from the window itself, an Adler-32 checksum for each
// window, no secondary compression.
package vcdiff
