package fwup

import (
	"context"
	"os"
	"os/exec"
	"syscall"
)

// shellCommand hands the text to the command interpreter as it is: that has
// its own rules for quotes.
func shellCommand(ctx context.Context, text string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "cmd.exe")
	cmd.SysProcAttr = &syscall.SysProcAttr{CmdLine: `cmd.exe /s /c "` + text + `"`}
	return cmd
}

// killTogether leaves it at the command itself.
func killTogether(*exec.Cmd) {}

func rawStatus(state *os.ProcessState) int { return state.ExitCode() << 8 }
