package link

import (
	"testing"
)

func withShell(command ...string) func(*rig) {
	return withExtensions(&LocalShell{Program: Program{Command: command, Env: []string{"PS1=$ ", "ENV="}}})
}

func (r *rig) shell() *peerConn {
	c := r.start()
	c.join()
	c.attachShell()
	return c
}

func (c *peerConn) attachShell() {
	c.t.Helper()
	c.event("device", "extensions:get", struct{}{})
	c.accept("extensions", `["local_shell"]`)
	c.push("extensions", "local_shell:attached")
}

func (c *peerConn) shell(event string, payload any) {
	c.event("extensions", "local_shell:"+event, payload)
}

func TestLocalShell(t *testing.T) {
	r := newRig(t, withShell("sh"))
	c := r.shell()
	// Nothing runs yet, so nothing is meant.
	c.shell("shell_input", map[string]string{"data": "x"})
	c.shell("window_size", map[string]int{"rows": 1, "cols": 1})
	c.shell("kill_shell", struct{}{})
	c.shell("shell_input", 5)
	c.silent()
	c.shell("request_shell", struct{}{})
	if _, p := c.push("extensions", "local_shell:request_status"); p["status"] != "started" {
		t.Errorf("told %v", p)
	}
	c.shell("request_shell", struct{}{}) // one runs
	c.shell("window_size", map[string]int{"rows": 31, "cols": 101})
	c.shell("shell_input", map[string]string{"data": "stty size; X=kept\r"})
	c.prints("extensions", "local_shell:shell_output", "31 101")
	c.ws.CloseNow()
	c = r.connection()
	c.join()
	c.attachShell()
	c.shell("request_shell", struct{}{})
	c.shell("shell_input", map[string]string{"data": "echo \"<$X>\"; exit 5\r"})
	c.prints("extensions", "local_shell:shell_output", "<kept>")
	for {
		m, p := c.next()
		if m.Event == "local_shell:shell_output" {
			continue
		}
		if m.Event != "local_shell:shell_exited" || p["exit_code"] != 5.0 {
			t.Errorf("told %s %v", m.Event, p)
		}
		break
	}
	c.shell("request_shell", struct{}{})
	c.push("extensions", "local_shell:request_status")
	c.prints("extensions", "local_shell:shell_output", "$ ")
	for _, signal := range []any{99, -1, "x"} {
		c.shell("kill_shell", map[string]any{"signal": signal})
	}
	c.silent()
	c.shell("kill_shell", map[string]int{"signal": 9})
	for {
		m, p := c.next()
		if m.Event == "local_shell:shell_exited" {
			if p["exit_code"] != 137.0 {
				t.Errorf("exit code %v", p["exit_code"])
			}
			break
		}
	}
	c.shell("request_shell", struct{}{})
	c.push("extensions", "local_shell:request_status")
	c.event("extensions", "detach", map[string]string{"extensions": "local_shell"})
	c.until("local_shell:detached", "{}")
}

func TestLocalShellDoesNotStart(t *testing.T) {
	r := newRig(t, withShell("/no/such/shell"))
	c := r.shell()
	c.shell("request_shell", struct{}{})
	if _, p := c.push("extensions", "local_shell:request_status"); p["status"] != "failed" || p["reason"] == "" {
		t.Errorf("told %v", p)
	}
}
