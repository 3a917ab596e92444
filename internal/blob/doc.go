// Package blob keeps the bytes of firmware: in a local directory or in an S3
// bucket, behind one interface, and serves them over HTTP by signed, expiring
// URLs.
//
// Objects are addressed by content: a key never names other bytes than it did
// before. Nothing reads a whole object into memory, and a key appears only
// when all of its bytes are safe.
//
// control writes and removes objects, jobs read them, app mounts the handler.
// blob imports fleet only; no other package imports an S3 client.
package blob
