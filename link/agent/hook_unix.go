//go:build unix

package agent

import (
	"os/exec"
	"syscall"
)

// stopWithChildren lets a command that is stopped take along what it started.
func stopWithChildren(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
