package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/blake2b"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/internal/app"
)

const (
	fileBytes  = 128 << 20
	fileRounds = 5
)

// largeFirmware builds signed firmware of fileBytes; versions differ so that
// each is a new firmware.
func largeFirmware(ctx context.Context, dir string, key fwup.PrivateKey, versions int) ([]string, error) {
	rootfs, conf := filepath.Join(dir, "rootfs"), filepath.Join(dir, "fwup.conf")
	f, err := os.Create(rootfs)
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(f, rand.Reader, fileBytes); err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	var paths []string
	for i := range versions {
		text := fmt.Sprintf("meta-product = %q\nmeta-version = \"2.0.%d\"\nmeta-platform = \"board\"\nmeta-architecture = \"arm\"\n"+
			"file-resource rootfs { host-path = %q }\ntask complete { on-resource rootfs { raw_write(0) } }\n", benchProduct, i, rootfs)
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			return nil, err
		}
		path := filepath.Join(dir, fmt.Sprintf("large-%d.fw", i))
		out, err := os.Create(path)
		if err != nil {
			return nil, err
		}
		err = fwup.Create(ctx, out, fwup.CreateOptions{ConfigPath: conf, PrivateKey: key, Time: time.Now(), Level: 1})
		if err := errors.Join(err, out.Close()); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// withServer runs a server in this process, with a product and a key.
func withServer(ctx context.Context, dir string, fn func(s *app.Server, scope fleet.Scope, key fwup.PrivateKey) error) error {
	server, err := openServer(ctx, filepath.Join(dir, "data"), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	err = func() error {
		scope, err := signIn(ctx, server.Control())
		if err != nil {
			return err
		}
		if _, err := server.Control().CreateProduct(ctx, scope, benchProduct); err != nil {
			return err
		}
		public, private, err := fwup.GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		if _, err := server.Control().CreateSigningKey(ctx, scope, "bench", fwup.FormatPublicKey(public)); err != nil {
			return err
		}
		return fn(server, scope, private)
	}()
	cancel()
	return errors.Join(err, <-ended)
}

// upload is publishing — verified, summed and stored in one pass — against
// copying and hashing the same file.
func upload(ctx context.Context, dir string) (rows []row, err error) {
	err = withServer(ctx, dir, func(s *app.Server, scope fleet.Scope, key fwup.PrivateKey) error {
		paths, err := largeFirmware(ctx, dir, key, fileRounds)
		if err != nil {
			return err
		}
		var shares []float64
		for _, path := range paths {
			bare, err := timed(func() error { return copyAndHash(path, filepath.Join(dir, "copy")) })
			if err != nil {
				return err
			}
			ours, err := timed(func() error {
				f, err := os.Open(path)
				if err != nil {
					return err
				}
				defer f.Close()
				_, err = s.Control().PublishFirmware(ctx, scope, benchProduct, f)
				return err
			})
			if err != nil {
				return err
			}
			shares = append(shares, 100*bare.Seconds()/ours.Seconds())
		}
		rows = []row{atLeast("upload, verified and stored, against copy and hash", median(shares), 50)}
		return nil
	})
	return rows, err
}

func timed(fn func() error) (time.Duration, error) {
	start := time.Now()
	err := fn()
	return time.Since(start), err
}

// copyAndHash copies a file durably and hashes it with BLAKE2b-256.
func copyAndHash(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	h, err := blake2b.New256(nil)
	if err != nil {
		return err
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(out, h)}, struct{ io.Reader }{in}, make([]byte, 1<<20)); err != nil {
		return err
	}
	return out.Sync()
}

// download is the signed address against net/http serving the same file.
func download(ctx context.Context, dir string) (rows []row, err error) {
	err = withServer(ctx, dir, func(s *app.Server, scope fleet.Scope, key fwup.PrivateKey) error {
		paths, err := largeFirmware(ctx, dir, key, 1)
		if err != nil {
			return err
		}
		f, err := os.Open(paths[0])
		if err != nil {
			return err
		}
		defer f.Close()
		fw, err := s.Control().PublishFirmware(ctx, scope, benchProduct, f)
		if err != nil {
			return err
		}
		signed, err := s.Control().FirmwareURL(ctx, scope, benchProduct, fw.UUID)
		if err != nil {
			return err
		}
		plain, stop, err := serveFiles(ctx, dir)
		if err != nil {
			return err
		}
		defer stop()
		var shares []float64
		for range 2*fileRounds + 1 {
			bare, err := timed(func() error { return fetch(ctx, plain+filepath.Base(paths[0])) })
			if err != nil {
				return err
			}
			ours, err := timed(func() error { return fetch(ctx, signed) })
			if err != nil {
				return err
			}
			shares = append(shares, 100*bare.Seconds()/ours.Seconds())
		}
		rows = []row{atLeast("download of the signed address, against net/http", median(shares), 90)}
		return nil
	})
	return rows, err
}

func serveFiles(ctx context.Context, dir string) (base string, stop func(), err error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }() // ends with stop
	return "http://" + l.Addr().String() + "/", func() { server.Close() }, nil
}

func fetch(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || n < fileBytes) {
		err = fmt.Errorf("%s: status %d, %d bytes", url, resp.StatusCode, n)
	}
	return err
}
