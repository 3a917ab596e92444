package fwup

import (
	"context"
	"errors"
	"fmt"
)

// Error says what is wrong with a firmware, a configuration or a key, or what
// went wrong while a task ran. Failures to read or write an archive, and the
// end of a context, are not of this type.
type Error struct {
	Class    string // one of the Class constants
	Msg      string // the message, in the words of fwup 1.16 where it has some
	Resource string // the file-resource it is about, "" when none
	Offset   int64  // where in the archive reading stopped, in bytes; 0 when unknown
	Reason   string // why there is no delta, one of the Reason constants; "" in other classes
	Hint     string // what is behind it or what to do, "" when Msg says it all
	Err      error  // the cause, nil when there is none
}

// The classes of errors.
const (
	ClassZip              = "zip"                // the archive cannot be read, or is cut off
	ClassMetaMissing      = "meta-missing"       // nothing follows the signature
	ClassMetaNotFirst     = "meta-not-first"     // something else is where meta.conf belongs
	ClassMetaSize         = "meta-size"          // meta.conf cannot be read, is too short or too long
	ClassMetaParse        = "meta-parse"         // meta.conf is not understood, or asks for a newer fwup
	ClassUUIDOverride     = "uuid-override"      // meta.conf gives itself another identity
	ClassSignatureSize    = "signature-size"     // the signature is too short
	ClassSignatureMissing = "signature-missing"  // a key was given, the archive is not signed
	ClassSignatureInvalid = "signature-invalid"  // no key given fits the signature
	ClassKeyDecode        = "key-decode"         // a key is not one
	ClassUnknownFile      = "unknown-file"       // a member that no file-resource names
	ClassDuplicateFile    = "duplicate-file"     // a member that was there before
	ClassResourceMissing  = "resource-missing"   // a resource is not in the archive
	ClassLength           = "length-mismatch"    // a resource is longer or shorter than meta.conf says
	ClassHash             = "hash-mismatch"      // the content of a resource is not the one of meta.conf
	ClassHashMissing      = "hash-missing"       // meta.conf has no usable hash of a resource
	ClassDelta            = "delta-decode"       // a resource is a delta that cannot be used
	ClassNoDelta          = "no-delta"           // a delta is not possible or not worth it, see Reason
	ClassNoTask           = "no-task"            // no task of that name is applicable
	ClassUnknownFunction  = "unknown-function"   // a task calls an action that does not exist
	ClassFunlist          = "funlist"            // the calls of a task are garbled
	ClassErrorFunction    = "error-function"     // the task itself gave up
	ClassDoubleRead       = "double-read"        // a resource was asked for twice
	ClassStrict           = "archive-not-strict" // devices may read it, but it is not as it should be
	ClassCommand          = "command-failed"     // a command of the task failed
	ClassUnsafe           = "needs-unsafe"       // an action that has to be allowed
	ClassCrypto           = "crypto-option"      // an unknown cipher, or a key that is not one
	ClassFAT              = "fat"                // something is wrong with a FAT file system, or with what is in it
	ClassConfig           = "config"             // the configuration to create from is wrong
	ClassOther            = "other"
)

// The reasons why Diff makes no delta. Devices can still take the complete
// firmware.
const (
	// ReasonNoSupport: no task of the target says where old content lies.
	ReasonNoSupport = "no_delta_support_in_firmware"
	// ReasonInvalid: the delta sources of the target do not fit what the source
	// writes. The message says which.
	ReasonInvalid = "delta_validation_failed"
	// ReasonNoChanges: no resource gets smaller as a delta.
	ReasonNoChanges = "no_changes_in_delta"
	// ReasonTooLarge: the delta is not smaller than the target.
	ReasonTooLarge = "delta_larger_than_target"
)

func (e *Error) Error() string { return e.Msg }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// errorf makes an *Error of a class.
func errorf(class, format string, args ...any) *Error {
	return &Error{Class: class, Msg: fmt.Sprintf(format, args...)}
}

// about names the resource an error is about.
func (e *Error) about(resource string) *Error {
	e.Resource = resource
	return e
}

// because adds the cause of an error.
func (e *Error) because(err error) *Error {
	e.Err = err
	if e.Hint == "" && err != nil {
		e.Hint = err.Error()
	}
	return e
}

// classify makes an *Error of any error but those of a context, which stay as
// they are. An *Error keeps its class.
func classify(err error, class string) error {
	var known *Error
	if err == nil || errors.As(err, &known) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &Error{Class: class, Msg: err.Error(), Err: err}
}
