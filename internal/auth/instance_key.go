package auth

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// InstanceKeySize is the size of the key everything secret on a server
// derives from, in bytes.
const InstanceKeySize = 32

// LoadOrCreateInstanceKey returns the instance key. A value, from the
// configuration, wins: base64 of 32 bytes. Otherwise the key is read from the
// file at path, which must be readable by its owner only; if there is no such
// file it is made with a new key. Whoever has the key can read every secret in
// the database; without it they are lost.
func LoadOrCreateInstanceKey(path, value string) ([]byte, error) {
	if value = strings.TrimSpace(value); value != "" {
		key, err := decodeInstanceKey(value)
		if err != nil {
			return nil, fmt.Errorf("instance key from the configuration: %w", err)
		}
		return key, nil
	}
	key, err := loadInstanceKey(path)
	if !errors.Is(err, os.ErrNotExist) {
		return key, err
	}
	if err := createInstanceKey(path); err != nil {
		return nil, fmt.Errorf("make instance key: %w", err)
	}
	return loadInstanceKey(path)
}

func decodeInstanceKey(text string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != InstanceKeySize {
		return nil, fmt.Errorf("must be the base64 of %d bytes, such as: openssl rand -base64 %d", InstanceKeySize, InstanceKeySize)
	}
	return key, nil
}

func loadInstanceKey(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("instance key file %s can be read by others: run chmod 600 on it", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := decodeInstanceKey(string(bytes.TrimSpace(b)))
	if err != nil {
		return nil, fmt.Errorf("instance key file %s: %w", path, err)
	}
	return key, nil
}

// createInstanceKey makes the file whole or not at all, and leaves one that
// another process made meanwhile.
func createInstanceKey(path string) error {
	var key [InstanceKeySize]byte
	if _, err := rand.Read(key[:]); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".instance-key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(key[:]) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
