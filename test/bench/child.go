package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"
)

// hello is what a child says about itself once it serves.
type hello struct {
	Device, Web, CA string // addresses, and the file of the authority
	Key, Secret     string // shared secret of the product
	OldUUID         string // firmware devices run at first
}

// server is a child process as the parent sees it.
type server struct {
	hello
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

// startChild runs this program again as a child of a kind and waits until it
// serves.
func startChild(ctx context.Context, kind, data string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &server{cmd: exec.CommandContext(ctx, self, "-child", kind, "-data", data)}
	s.cmd.Stderr = os.Stderr
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.lines = bufio.NewScanner(out)
	s.lines.Buffer(nil, 1<<20)
	if !s.lines.Scan() {
		return nil, errors.Join(fmt.Errorf("the %s child did not start", kind), s.cmd.Wait())
	}
	if err := json.Unmarshal(s.lines.Bytes(), &s.hello); err != nil {
		return nil, fmt.Errorf("the %s child: %w: %s", kind, err, s.lines.Text())
	}
	return s, nil
}

// ask sends a command and reads its answer.
func (s *server) ask(command string, answer any) error {
	if _, err := fmt.Fprintln(s.in, command); err != nil {
		return err
	}
	if !s.lines.Scan() {
		return fmt.Errorf("no answer to %q", command)
	}
	if text, failed := strings.CutPrefix(s.lines.Text(), "error "); failed {
		return fmt.Errorf("%s: %s", command, text)
	}
	return json.Unmarshal(s.lines.Bytes(), answer)
}

// calm waits until the child has done what it still had to do: until it takes
// next to no processor time.
func (s *server) calm() error {
	const interval, little = 500 * time.Millisecond, 0.02 // seconds
	var before float64
	if err := s.ask("cpu", &before); err != nil {
		return err
	}
	for {
		time.Sleep(interval)
		var now float64
		if err := s.ask("cpu", &now); err != nil {
			return err
		}
		if now-before < little {
			return nil
		}
		before = now
	}
}

// stop lets the child end in order.
func (s *server) stop() error {
	err := s.in.Close()
	for s.lines.Scan() {
	}
	return errors.Join(err, s.cmd.Wait())
}

// runChild is the child's side: it serves until standard input ends.
func runChild(ctx context.Context, kind, data string) error {
	if ok, err := fileChild(ctx, kind, data); ok {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	switch kind {
	case "prepare":
		return prepareChild(ctx, data, log)
	case "serve":
		return serveChild(ctx, data, log)
	case "bare":
		return bareChild(ctx, data)
	}
	return fmt.Errorf("unknown kind of child %q", kind)
}

// commands answers commands from standard input until it ends.
func commands(handle func(words []string) (any, error)) error {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		words := strings.Fields(in.Text())
		if len(words) == 0 {
			continue
		}
		answer, err := handle(words)
		if err != nil {
			fmt.Printf("error %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
			continue
		}
		if err := say(answer); err != nil {
			return err
		}
	}
	return in.Err()
}

func say(v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		_, err = fmt.Println(string(b))
	}
	return err
}

// sent tells when something was sent.
type sent struct {
	Start time.Time
	Bytes int
}
