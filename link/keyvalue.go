package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"sync"
)

// KeyValue is a device's store of small texts that outlives updates: its
// serial number, its credentials, what each firmware slot holds. Nerves keeps
// it in the environment of the boot loader, see UBootStore; JSONFile and
// MemoryStore are others. Implementations may be used by several goroutines.
type KeyValue interface {
	// All reads everything. The map belongs to the caller.
	All(ctx context.Context) (map[string]string, error)
	// Put sets some keys, durably and all or none of them. Other keys stay.
	Put(ctx context.Context, values map[string]string) error
}

// Get reads one key. A key that is not there reads as "".
func Get(ctx context.Context, store KeyValue, key string) (string, error) {
	all, err := store.All(ctx)
	return all[key], err
}

// GetActive reads a key of the active firmware slot: with "a" active,
// "nerves_fw_version" is what the store has as "a.nerves_fw_version".
func GetActive(ctx context.Context, store KeyValue, key string) (string, error) {
	all, err := store.All(ctx)
	if err != nil {
		return "", err
	}
	active := all[varActive]
	if active == "" {
		return "", errNoActive
	}
	return all[active+"."+key], nil
}

// MemoryStore is a KeyValue that lives as long as the program. Its zero value
// is empty.
type MemoryStore struct {
	mu     sync.Mutex
	values map[string]string
}

var _ KeyValue = (*MemoryStore)(nil)

// All implements KeyValue.
func (m *MemoryStore) All(context.Context) (map[string]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Collect(maps.All(m.values)), nil
}

// Put implements KeyValue.
func (m *MemoryStore) Put(_ context.Context, values map[string]string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values == nil {
		m.values = map[string]string{}
	}
	maps.Copy(m.values, values)
	return nil
}

// maxJSONFile bounds the size of a JSONFile, in bytes.
const maxJSONFile = 1 << 20

// JSONFile is a KeyValue in a file with one JSON object of texts. A file that
// does not exist is empty. All values that name the same file must be used by
// one program only.
type JSONFile string

var _ KeyValue = JSONFile("")

// jsonLock keeps two Puts from losing each other's keys.
var jsonLock sync.Mutex

// All implements KeyValue.
func (j JSONFile) All(context.Context) (map[string]string, error) {
	f, err := os.Open(string(j))
	if errors.Is(err, os.ErrNotExist) {
		return map[string]string{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxJSONFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxJSONFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", string(j), maxJSONFile)
	}
	values := map[string]string{}
	if err := json.Unmarshal(text, &values); err != nil {
		return nil, fmt.Errorf("%s: %w", string(j), err)
	}
	if values == nil { // the text was null
		values = map[string]string{}
	}
	return values, nil
}

// Put implements KeyValue. A power cut leaves the old file or the new one. Only
// the owner can read the file: it may hold secrets.
func (j JSONFile) Put(ctx context.Context, values map[string]string) error {
	jsonLock.Lock()
	defer jsonLock.Unlock()
	all, err := j.All(ctx)
	if err != nil {
		return err
	}
	maps.Copy(all, values)
	text, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		return err
	}
	if len(text) > maxJSONFile {
		return fmt.Errorf("%s: would be larger than %d bytes", string(j), maxJSONFile)
	}
	return replaceFile(string(j), append(text, '\n'))
}

// replaceFile puts a new file in the place of an old one, durably.
func replaceFile(name string, text []byte) error {
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, filepath.Base(name)+".new*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
