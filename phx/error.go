package phx

import "strconv"

// Kind says what is wrong with a frame, a message or a version.
type Kind string

// The kinds of errors.
const (
	KindTooLarge Kind = "too_large" // the frame or a name in it exceeds its limit
	KindDepth    Kind = "depth"     // JSON or MessagePack nested deeper than MaxDepth
	KindUTF8     Kind = "utf8"      // text that is not UTF-8, or an escaped lone surrogate
	KindSyntax   Kind = "syntax"    // not JSON, not MessagePack, or a truncated frame
	KindEnvelope Kind = "envelope"  // well-formed, but not a channel message
	KindVersion  Kind = "version"   // a protocol version that is not spoken here
	KindState    Kind = "state"     // the client may not do this now
)

// Error is every error this package returns.
type Error struct {
	Kind    Kind
	Message string
	Offset  int // byte of the frame at which it was noticed; 0 where that means nothing
}

func (e *Error) Error() string {
	if e.Offset > 0 {
		return "phx: " + e.Message + " at byte " + strconv.Itoa(e.Offset)
	}
	return "phx: " + e.Message
}

// Errors that callers compare with.
var (
	// ErrNotJoined refuses a push on a topic that is not joined.
	ErrNotJoined = &Error{Kind: KindState, Message: "topic is not joined"}
	// ErrJoining refuses a second join while one is open or accepted.
	ErrJoining = &Error{Kind: KindState, Message: "topic is joined or being joined"}
	// ErrHeartbeatLost says the server did not acknowledge the last heartbeat
	// in time; the connection is dead.
	ErrHeartbeatLost = &Error{Kind: KindState, Message: "the last heartbeat was not acknowledged"}
)

func fail(kind Kind, offset int, message string) error {
	return &Error{Kind: kind, Offset: offset, Message: message}
}
