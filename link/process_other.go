//go:build !unix

package link

import (
	"os"
	"os/exec"
	"syscall"
)

// Without process groups a program is ended alone.

func ownGroup(*exec.Cmd) {}

func signalGroup(cmd *exec.Cmd, _ syscall.Signal) error { return cmd.Process.Kill() }

func killed(*os.ProcessState) syscall.Signal { return 0 }

func pollable(f *os.File) (*os.File, error) { return f, nil }
