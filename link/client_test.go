package link

import (
	"strings"
	"testing"
)

// teller is a Client that notes what it is told about its own firmware.
type teller struct {
	*witness
	told chan string
}

func (c teller) FirmwareValidated() { c.told <- "validated" }

func (c teller) AutoRevertDetected() { c.told <- "reverted" }

// TestClientIsToldOfItsFirmware: a device that fell back says so once in a run,
// and a firmware that was marked good once.
func TestClientIsToldOfItsFirmware(t *testing.T) {
	for _, c := range []struct {
		vars map[string]string
		want string
	}{
		{map[string]string{"a.nerves_fw_validated": "0"}, "validated"},
		{map[string]string{"b.nerves_fw_validated": "0", "b.nerves_fw_platform": "board", "b.nerves_fw_architecture": "arm"}, "reverted"},
		{nil, ""},
	} {
		client := teller{newWitness(), make(chan string, 64)}
		r := newRig(t, func(r *rig) { r.options.Client = client })
		setVars(t, r.image, c.vars)
		for range 2 {
			conn := r.start()
			for range 2 { // a reconnect tells nothing anew
				conn.join()
				conn.send(`[null,null,"device","identify",{}]`)
				await(t, "identify", client.identified)
				conn.ws.CloseNow()
				conn = r.connection()
			}
			r.stop()
			await(t, "the end", r.done)
			var told []string
			for len(client.told) > 0 {
				told = append(told, <-client.told)
			}
			if got := strings.Join(told, " "); got != c.want {
				t.Errorf("%v: told %q, want %q", c.vars, got, c.want)
			}
			if c.want == "validated" {
				c.want = "" // the mark lasts
			}
		}
	}
}
