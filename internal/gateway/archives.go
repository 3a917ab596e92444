package gateway

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/phx"
)

// Archives says which archive the devices of a deployment group are to have.
type Archives interface {
	// ArchiveFor returns what devices are told of the archive of the group's
	// current release, and its UUID; "" if it has none. It is asked whenever a
	// device joins, so it must answer from memory mostly.
	ArchiveFor(ctx context.Context, orgID, groupID int64) (payload json.RawMessage, uuid string, err error)
	// ForgetArchive makes the next question about the group go to the database.
	ForgetArchive(groupID int64)
}

const (
	archiveTimeout = 5 * time.Second
	archiveBatch   = 500 // devices read in one transaction
)

// sendArchive tells a device of its archive, once per connection and archive,
// if it knows archives and may be given anything now.
func (s *session) sendArchive(joinRef string) {
	group := s.group.Load()
	s.mu.Lock()
	may := s.archives && s.understands(phx.EventArchive)
	s.mu.Unlock()
	if s.g.archives == nil || group == 0 || !may {
		return
	}
	payload, uuid, err := s.g.archiveFor(s.orgID, group)
	if err != nil {
		s.g.log.Error("the archive of a group was not found out", "device", s.identifier, "group", group, "error", err)
		return
	}
	s.tellArchive(joinRef, payload, uuid)
}

func (g *Gateway) archiveFor(orgID, group int64) (json.RawMessage, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), archiveTimeout)
	defer cancel()
	return g.archives.ArchiveFor(ctx, orgID, group)
}

func (s *session) tellArchive(joinRef string, payload json.RawMessage, uuid string) {
	if uuid == "" {
		return
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(uuid)) // which never fails
	digest := h.Sum64()
	s.mu.Lock()
	again := s.archive == digest
	s.archive = digest
	s.mu.Unlock()
	if !again {
		s.tell(phx.AppendPush(nil, joinRef, phx.TopicDevice, phx.EventArchive, payload))
	}
}

// changes follows what changes of groups and devices mean for connected
// devices. The bus's handler only takes them down.
type changes struct {
	work chan struct{}

	mu      sync.Mutex
	groups  map[int64]bool // whose release changed
	devices map[int64]bool // that changed
}

func newChanges() *changes {
	return &changes{work: make(chan struct{}, 1), groups: map[int64]bool{}, devices: map[int64]bool{}}
}

// heard takes a change down, if it may concern a device that is connected
// here.
func (g *Gateway) heard(c fleet.Change) {
	device := c.Noun == "device"
	if device {
		s := g.registry.get(c.ID)
		if s == nil {
			return
		}
		if c.Action == "device.move" {
			s.joinedGroup(c.GroupID)
		}
	}
	release := g.archives != nil && c.GroupID != 0 && (c.Noun == "release" || c.Noun == "deployment_group")
	if release {
		// The word may have come here first.
		g.archives.ForgetArchive(c.GroupID)
	}
	g.changes.mu.Lock()
	switch {
	case device:
		g.changes.devices[c.ID] = true
	case release:
		g.changes.groups[c.GroupID] = true
	}
	g.changes.mu.Unlock()
	signal(g.changes.work)
}

// followChanges tells devices of archives that they are to have now.
func (g *Gateway) followChanges(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.changes.work:
		}
		g.changes.mu.Lock()
		groups, devices := g.changes.groups, g.changes.devices
		g.changes.groups, g.changes.devices = map[int64]bool{}, map[int64]bool{}
		g.changes.mu.Unlock()
		for part := range slices.Chunk(slices.Collect(maps.Keys(devices)), archiveBatch) {
			if err := g.lookAgain(ctx, part); err != nil && ctx.Err() == nil {
				g.log.Error("changed devices were not read", "devices", len(part), "error", err)
			}
		}
		if len(groups) == 0 {
			continue
		}
		g.registry.each(func(s *session) {
			if joinRef := s.currentJoin(); joinRef != "" && groups[s.group.Load()] {
				s.sendArchive(joinRef)
			}
		})
	}
}

// lookAgain reads devices whose settings changed. One that is locked out or
// deleted goes: who did that may have known of a connection before this one
// only, and have asked another node to close it.
func (g *Gateway) lookAgain(ctx context.Context, ids []int64) error {
	var list []fleet.Device
	err := g.store.View(ctx, func(tx *store.Tx) error {
		list = list[:0]
		for _, id := range ids {
			d, err := tx.Device(scope, id)
			switch fleet.KindOf(err) {
			case "":
				list = append(list, d)
			case fleet.NotFound:
				list = append(list, fleet.Device{ID: id})
			default:
				return err
			}
		}
		return nil
	})
	now := g.clock.Now()
	for _, d := range list {
		s := g.registry.get(d.ID)
		if s == nil {
			continue
		}
		if d.Admission != fleet.Admitted {
			s.close(closeAway, "disconnected by the server")
			continue
		}
		s.group.Store(d.GroupID)
		s.mu.Lock()
		s.archives = d.UpdatesEnabled && !d.Blocked(now)
		joinRef := s.joinRef
		s.mu.Unlock()
		if joinRef != "" {
			s.sendArchive(joinRef)
		}
	}
	return err
}
