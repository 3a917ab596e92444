package fwup

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"time"
)

// host is what tasks reach outside of the archive and the destination.
type host struct {
	stdout, stderr io.Writer // of commands
	environ        []string  // of commands
	rebootParam    []string  // paths, of which the first that can be written counts
	sysfs          string    // where Linux shows its devices
	openUBI        func(path string) (ubiVolume, error)
}

// hostOf returns the real one. The commands of an update see its identity.
func hostOf(o *ApplyOptions, info *Info) host {
	h := host{stdout: o.Stdout, stderr: o.Stderr, environ: o.Environ, rebootParam: rebootParamPaths, sysfs: "/sys", openUBI: openUBI}
	if o.RebootParamPath != "" {
		h.rebootParam = []string{o.RebootParamPath}
	}
	if h.environ == nil {
		h.environ = []string{"PATH=" + os.Getenv("PATH")}
	}
	h.environ = append(h.environ[:len(h.environ):len(h.environ)], uuidVariable+"="+info.UUID, nicknameVariable+"="+info.Nickname)
	return h
}

// outputGrace is how long the output of a command that has ended is waited
// for, when some other process that it left behind holds it open.
const outputGrace = time.Second

// shell prepares a command line for the shell. It reads nothing from stdin, as
// that may be the archive, and has no other files of this process. When the
// context ends, it is killed.
func (a *applier) shell(text string) *exec.Cmd {
	cmd := shellCommand(a.ctx, text)
	cmd.Env = a.host.environ
	cmd.Stdout, cmd.Stderr = a.host.stdout, a.host.stderr
	cmd.WaitDelay = outputGrace
	if a.ctx.Done() != nil {
		// Who starts this program in a terminal ends it together with its
		// commands; here they have to be ended by this program.
		killTogether(cmd)
	}
	return cmd
}

// exitStatus returns how a command ended, in the form that wait(2) gives: 0
// when all went well, 256 times the exit status, or the number of the signal.
// err is what Wait or Run said; it is returned when there is no status.
func exitStatus(err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return 0, nil
	case errors.As(err, &exit):
		return rawStatus(exit.ProcessState), nil
	}
	return 0, err
}
