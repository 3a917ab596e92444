package fleet

import "time"

// AttemptState is where an update attempt stands.
type AttemptState string

// The states of an attempt. Up to Proving it is open and holds a slot of its
// group; the others are final.
const (
	AttemptOffered     AttemptState = "offered"     // told; nothing heard yet
	AttemptReceived    AttemptState = "received"    // the device accepted it
	AttemptDownloading AttemptState = "downloading" // bytes are flowing
	AttemptApplying    AttemptState = "applying"    // being written to the inactive slot
	AttemptRebooting   AttemptState = "rebooting"   // written; the device restarts
	AttemptProving     AttemptState = "proving"     // runs the new firmware; must stay for the hold time

	AttemptSucceeded   AttemptState = "succeeded"   // proven
	AttemptFailed      AttemptState = "failed"      // the device said so, or forgot it half-way
	AttemptReverted    AttemptState = "reverted"    // the device came back on another firmware
	AttemptRefused     AttemptState = "refused"     // the device ignored it
	AttemptRescheduled AttemptState = "rescheduled" // the device asked for later
	AttemptLost        AttemptState = "lost"        // the device never came back, or fell silent half-way
	AttemptExpired     AttemptState = "expired"     // no response to the offer
	AttemptSuperseded  AttemptState = "superseded"  // another release took its place, or an operator cancelled it
)

// OpenAttemptStates are the states that hold a slot, in order.
var OpenAttemptStates = []AttemptState{
	AttemptOffered, AttemptReceived, AttemptDownloading,
	AttemptApplying, AttemptRebooting, AttemptProving,
}

// Open reports whether the attempt still holds a slot.
func (s AttemptState) Open() bool { return s.Order() > 0 && s.Order() < 10 }

// Order ranks states by progress: 1 to 6 for the open ones, 10 for any final
// one, 0 for an unknown word. An open attempt only ever moves up.
func (s AttemptState) Order() int {
	for i, o := range OpenAttemptStates {
		if s == o {
			return i + 1
		}
	}
	switch s {
	case AttemptSucceeded, AttemptFailed, AttemptReverted, AttemptRefused,
		AttemptRescheduled, AttemptLost, AttemptExpired, AttemptSuperseded:
		return 10
	}
	return 0
}

// CountsAsFailure reports whether the final state counts towards the penalty
// box.
func (s AttemptState) CountsAsFailure() bool {
	switch s {
	case AttemptFailed, AttemptReverted, AttemptRefused, AttemptLost, AttemptExpired:
		return true
	}
	return false
}

// UpdateAttempt is one try to bring one device to one firmware: an entry in
// the ledger. A device has at most one open attempt.
type UpdateAttempt struct {
	ID         int64
	UUID       string
	OrgID      int64
	ProductID  int64
	DeviceID   int64
	GroupID    int64 // 0: pushed by an operator
	ReleaseID  int64
	FirmwareID int64
	SourceUUID string // firmware the device ran when it was offered
	TargetUUID string
	State      AttemptState
	Reason     string // why it ended as it did, in words
	Percent    int    // 0 to 100 within the current state
	Number     int    // 1, 2, 3 … tries of this device at this release
	Bytes      int64  // size of the file offered

	OfferedAt     time.Time
	ReceivedAt    time.Time
	DownloadingAt time.Time
	ApplyingAt    time.Time
	RebootingAt   time.Time
	ProvingAt     time.Time
	FinishedAt    time.Time
	DeadlineAt    time.Time // when silence decides; zero for final states
	UpdatedAt     time.Time

	Identifier    string // filled by reads: the device
	TargetVersion string // filled by reads
}
