// Package fwup makes, checks and applies firmware archives in the .fw format
// of fwup 1.16.
//
// An archive is a ZIP file. Its first members are meta.conf.ed25519, an
// Ed25519 signature, and meta.conf, which that signature covers: the metadata
// of the firmware, the length and hash of every resource, and the tasks – what
// to write where, under which conditions. The resources follow.
//
// Archives are read in the order of the stream, as devices do that apply them
// while they arrive, with memory that does not depend on their size. The
// central directory at the end, which most other programs read, decides
// nothing; Verify with Strict demands that it agrees.
//
//   - Create makes an archive of a configuration, Sign signs one again.
//   - Verify checks a whole archive, ReadMetadata reads its head.
//   - Apply runs a task on a BlockDevice: a file, a disk, or memory. A power
//     cut at any write leaves what booted before or what boots now.
//   - Diff makes a delta of two archives: the new one with patches in place of
//     what the device has already, under the same signature.
//   - ReadUBootEnv, WriteUBootEnv, ReadMBR and ReadGPT look at what is on a device.
//
// What is wrong with an archive is told as an *Error, with the class that says
// what kind of wrong it is.
package fwup
