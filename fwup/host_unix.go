//go:build unix

package fwup

import (
	"context"
	"os"
	"os/exec"
	"syscall"
)

func shellCommand(ctx context.Context, text string) *exec.Cmd {
	return exec.CommandContext(ctx, "/bin/sh", "-c", text)
}

// killTogether makes the end of the context end whatever the command started,
// too.
func killTogether(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}

func rawStatus(state *os.ProcessState) int {
	if s, ok := state.Sys().(syscall.WaitStatus); ok {
		return int(s)
	}
	return state.ExitCode() << 8
}
