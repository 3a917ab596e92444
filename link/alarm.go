package link

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// The alarms a link sets and clears itself. Their names are those of NervesHub
// devices.
const (
	AlarmDisconnected     = "NervesHubLink.Disconnected"     // no connection to the server
	AlarmUpdateInProgress = "NervesHubLink.UpdateInProgress" // an update is being taken
)

// maxAlarms bounds how many alarms can be set at once.
const maxAlarms = 256

// Alarms are conditions of a device that somebody should know of. They are
// reported to the server with its health. The zero value has none set; it may
// be used by several goroutines, and must not be copied.
type Alarms struct {
	mu   sync.Mutex
	set  map[string]string
	wake chan struct{} // closed at the next change; nil while nobody waits
}

// AlarmChange is an alarm that was set, set with another description, or
// cleared.
type AlarmChange struct {
	Name        string
	Description string // "" when cleared
	Set         bool
}

// Set raises an alarm, or changes its description. Past 256 alarms no others
// are taken.
func (a *Alarms) Set(name, description string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	old, known := a.set[name]
	if known && old == description || !known && len(a.set) >= maxAlarms {
		return
	}
	if a.set == nil {
		a.set = map[string]string{}
	}
	a.set[name] = description
	a.changed()
}

// Clear takes an alarm back. One that is not set is no error.
func (a *Alarms) Clear(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.set[name]; known {
		delete(a.set, name)
		a.changed()
	}
}

func (a *Alarms) changed() {
	if a.wake != nil {
		close(a.wake)
		a.wake = nil
	}
}

// Current is a copy of the alarms that are set, with their descriptions.
func (a *Alarms) Current() map[string]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Collect(maps.All(a.set))
}

// Subscribe calls fn with each alarm that is set, and then with each change,
// until ctx ends; it returns the error of ctx. Only where things stand counts:
// an alarm set and cleared while fn runs may never be told, but what holds in
// the end always is. Alarms may be set and cleared in fn.
func (a *Alarms) Subscribe(ctx context.Context, fn func(AlarmChange)) error {
	told := map[string]string{}
	for {
		a.mu.Lock()
		now := maps.Collect(maps.All(a.set))
		if a.wake == nil {
			a.wake = make(chan struct{})
		}
		wake := a.wake
		a.mu.Unlock()
		for _, name := range slices.Sorted(maps.Keys(told)) {
			if _, still := now[name]; !still {
				fn(AlarmChange{Name: name})
			}
		}
		for _, name := range slices.Sorted(maps.Keys(now)) {
			if old, known := told[name]; !known || old != now[name] {
				fn(AlarmChange{Name: name, Description: now[name], Set: true})
			}
		}
		told = now
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake:
		}
	}
}
