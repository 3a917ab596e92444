package fleet

// TerminalKind says which of a device's two terminals is meant.
type TerminalKind string

// The terminals of a device.
const (
	TerminalConsole TerminalKind = "console" // the program the device runs for it, such as IEx
	TerminalShell   TerminalKind = "shell"   // a shell of its system, by the extension local_shell
)

// Valid reports whether k is one of the two.
func (k TerminalKind) Valid() bool { return k == TerminalConsole || k == TerminalShell }

// What a viewer does in a terminal, and what it is told. Some words go both
// ways.
const (
	TerminalOpen    = "open"    // in: a viewer comes
	TerminalKeep    = "keep"    // in: the viewer is still there
	TerminalClose   = "close"   // in: the viewer leaves
	TerminalData    = "data"    // both: what was typed, what was printed
	TerminalResize  = "resize"  // in: the size of the viewer's window
	TerminalRestart = "restart" // in: start the program anew

	TerminalFileStart = "file_start" // both: a file begins
	TerminalFileData  = "file_data"  // both: a piece of it, in order; Data is standard base64
	TerminalFileStop  = "file_stop"  // both: it is complete

	TerminalReplay  = "replay"   // out: what was printed before the viewer came
	TerminalStatus  = "status"   // out: Data is one of the states below
	TerminalFileAck = "file_ack" // out: the device was sent the piece Chunk
	TerminalClosed  = "closed"   // out: nothing more comes; Data says why
)

// The states of a terminal, as TerminalStatus tells them.
const (
	TerminalReady   = "ready"   // the device has it and takes input; Files says whether it takes files
	TerminalAbsent  = "absent"  // the device is there and does not offer it
	TerminalOffline = "offline" // the device is gone; the terminal comes back with it
	TerminalFailed  = "failed"  // the device could not start it; Name says why
	TerminalExited  = "exited"  // the program ended; Name has its exit code, if it was told
	TerminalBusy    = "busy"    // somebody else is sending a file
	TerminalOverrun = "overrun" // the device takes input too slowly; some was dropped
)

// Limits of terminals.
const (
	MaxTerminalInput = 64 << 10 // bytes of one input
	MaxTerminalFile  = 10 << 20 // bytes of a file, either way
	MaxTerminalPiece = 16 << 10 // bytes of a file in one input, before base64
	MaxTerminalSide  = 1000     // rows or columns of a window
)

// Numbers that acknowledgements have for what is not a piece of a file; the
// start of a file is 0.
const (
	TerminalChunkStop    = -1 // the file is complete
	TerminalChunkRefused = -2 // nothing more of the file is taken
)

// TerminalInput is what a viewer does, on its way to the node that holds the
// device.
type TerminalInput struct {
	DeviceID int64        `json:"device"`
	Kind     TerminalKind `json:"kind"`
	Viewer   string       `json:"viewer"` // names this viewer among all
	Op       string       `json:"op"`
	Data     string       `json:"data,omitempty"`
	Rows     int          `json:"rows,omitempty"`
	Cols     int          `json:"cols,omitempty"`
	Name     string       `json:"name,omitempty"`  // of a file
	Chunk    int          `json:"chunk,omitempty"` // number of a piece, from 1
	User     int64        `json:"user,omitempty"`  // who sends a file
}

// TerminalOutput is what a terminal tells its viewers.
type TerminalOutput struct {
	DeviceID int64        `json:"device"`
	Kind     TerminalKind `json:"kind"`
	Viewer   string       `json:"viewer,omitempty"` // "": all of them
	Op       string       `json:"op"`
	Data     string       `json:"data,omitempty"`
	Name     string       `json:"name,omitempty"`
	Chunk    int          `json:"chunk,omitempty"`
	Files    bool         `json:"files,omitempty"` // status ready: the device takes files
}

// ScriptResult is what came of a script that a device ran.
type ScriptResult struct {
	Output string `json:"output"`           // what it printed, and what it returned on a line of its own; trimmed
	Return string `json:"return,omitempty"` // what it returned, in the notation of the device
	Result string `json:"result,omitempty"` // "completed" or "error"; "" from devices that do not tell
	Reason string `json:"reason,omitempty"` // why, of an error
}

// ScriptAnswer brings the result of a script from the node that holds the
// device to who asked for it.
type ScriptAnswer struct {
	DeviceID int64        `json:"device"`
	Ref      string       `json:"ref"` // of the one run
	Result   ScriptResult `json:"result"`
	Problem  string       `json:"problem,omitempty"` // why the device was not even asked
}
