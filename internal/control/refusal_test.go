package control

import (
	"fmt"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// TestStrangersLeaveRoomInTheNotes: who proved nothing, and may call himself
// anything, does not keep others from being noted.
func TestStrangersLeaveRoomInTheNotes(t *testing.T) {
	t.Parallel()
	b := newNotebook()
	note := func(name string, code fleet.RefusalCode) {
		b.refusal(claimant{orgID: 1, identifier: name}, code, "m", time.Time{})
	}
	for round := range 2 { // the second after all was taken out
		for i := range maxNotes + 10 {
			note(fmt.Sprint("stranger-", i), fleet.RefusedSignature)
		}
		note("device", fleet.RefusedPending)
		if len(b.refusals) != maxStrangers+1 {
			t.Fatalf("round %d: %d refusals are noted", round, len(b.refusals))
		}
		p := b.tear()
		b.putBack(p)
		if b.strangers != maxStrangers {
			t.Errorf("%d strangers after a page was put back", b.strangers)
		}
		for p = b.tear(); !p.empty(); p = b.tear() {
			continue
		}
		if b.strangers != 0 {
			t.Errorf("%d strangers remain", b.strangers)
		}
	}
}
