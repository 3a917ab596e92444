package link

import (
	"context"
	"maps"
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
