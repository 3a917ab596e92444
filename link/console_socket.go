package link

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// socketVariable is the environment variable that tells the console's program
// where files can be handed to the link.
const socketVariable = "GANGLION_LINK_SOCKET"

const (
	maxSocketHead  = 4 << 10 // bytes
	socketPatience = 15 * time.Minute
)

// socketHead is what comes before the bytes of a file: one line of JSON. The
// answer is one line, "ok" or what went wrong.
type socketHead struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// consoleSocket is the path of the socket by which the console's program sends
// files, "" when there cannot be one. It is made when it is first needed and
// lasts until Run ends. Its directory is for this user alone.
func (l *Link) consoleSocket() string {
	if l.socket != "" {
		return l.socket
	}
	dir, err := os.MkdirTemp("", "ganglion-link-")
	if err != nil {
		l.opts.Logger.Warn("the console can send no files", "error", err)
		return ""
	}
	path := filepath.Join(dir, "send")
	ln, err := new(net.ListenConfig).Listen(l.life, "unix", path)
	if err != nil {
		os.RemoveAll(dir)
		l.opts.Logger.Warn("the console can send no files", "error", err)
		return ""
	}
	l.socket = path
	l.work.Go(func() {
		defer os.RemoveAll(dir)
		stop := context.AfterFunc(l.life, func() { ln.Close() })
		defer stop()
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // closed
			}
			l.takeFile(conn)
		}
	})
	return path
}

// takeFile sends the file of one client of the socket.
func (l *Link) takeFile(conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(l.life, func() { conn.Close() })
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(socketPatience)) // fails only on a closed connection
	answer := "ok"
	if err := l.passFile(conn); err != nil {
		answer = err.Error()
	}
	_, _ = io.WriteString(conn, answer+"\n") // the client may have gone
}

func (l *Link) passFile(r io.Reader) error {
	b := bufio.NewReaderSize(r, maxSocketHead)
	line, err := b.ReadSlice('\n')
	if err != nil {
		return err
	}
	var head socketHead
	if err := json.Unmarshal(line, &head); err != nil {
		return err
	}
	if head.Size < 0 || head.Size >= MaxConsoleFile {
		return fmt.Errorf("a file of %d bytes; fewer than %d can be sent", head.Size, MaxConsoleFile)
	}
	return l.sendFile(l.life, head.Name, head.Size, b)
}

// SendFromConsole sends a file to the operators who look at the console. It is
// for programs that run in it: they need not be the link. The file must have
// fewer than MaxConsoleFile bytes.
func SendFromConsole(ctx context.Context, path string) error {
	socket := os.Getenv(socketVariable)
	if socket == "" {
		return errors.New("link: " + socketVariable + " is not set: files can be sent from within the console only")
	}
	f, size, err := openSmall(path)
	if err != nil {
		return err
	}
	defer f.Close()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := json.NewEncoder(conn).Encode(socketHead{Name: filepath.Base(path), Size: size}); err != nil {
		return err
	}
	_, sent := io.CopyN(conn, f, size)
	// The answer says more than a write that failed.
	answer, err := bufio.NewReader(io.LimitReader(conn, maxSocketHead)).ReadString('\n')
	if err != nil {
		return errors.Join(sent, err)
	}
	if answer = strings.TrimSpace(answer); answer != "ok" {
		return errors.New("link: " + answer)
	}
	return nil
}
