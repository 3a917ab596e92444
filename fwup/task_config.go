package fwup

import (
	"errors"
	"fmt"
)

// task is one task of a configuration. Its lists of calls are kept as they are
// written in meta.conf, see parseCalls: what is wrong in a task matters only
// once that task runs.
type task struct {
	name                      string
	requirements              []string
	partition1Offset          int64 // require-partition1-offset, -1 when unset
	onInit, onFinish, onError []string
	onResource                []*resourceTask // in declaration order
}

// resourceTask says what a task does with a resource.
type resourceTask struct {
	resource string
	calls    []string
	delta    deltaSource
}

// deltaSource says where the old content lies that a delta of the resource
// starts from.
type deltaSource struct {
	rawOffset, rawCount int64 // in blocks; a count of 0 means there is no raw source
	rawOptions          string
	fatOffset           int64 // in blocks
	fatPath             string
}

// forResource returns what the task does with a resource, nil when nothing.
func (t *task) forResource(name string) *resourceTask {
	for _, r := range t.onResource {
		if r.resource == name {
			return r
		}
	}
	return nil
}

// tasksOf returns the tasks of a configuration in declaration order.
func tasksOf(s *section) ([]*task, error) {
	var tasks []*task
	for _, sub := range s.sections("task") {
		t := &task{name: sub.title, requirements: sub.list("reqlist"), partition1Offset: -1}
		if sub.has("require-partition1-offset") {
			n, err := sub.integer("require-partition1-offset")
			if err != nil {
				return nil, err
			}
			t.partition1Offset = n
		}
		t.onInit = eventCalls(sub, "on-init")
		t.onFinish = eventCalls(sub, "on-finish")
		t.onError = eventCalls(sub, "on-error")
		for _, on := range sub.sections("on-resource") {
			r, err := resourceTaskOf(on)
			if err != nil {
				return nil, err
			}
			t.onResource = append(t.onResource, r)
		}
		tasks = append(tasks, t)
	}
	return tasks, nil
}

func eventCalls(s *section, event string) []string {
	var calls []string
	for _, on := range s.sections(event) {
		calls = append(calls, on.list("funlist")...)
	}
	return calls
}

func resourceTaskOf(s *section) (*resourceTask, error) {
	r := &resourceTask{resource: s.title, calls: s.list("funlist")}
	r.delta.rawOptions = s.str("delta-source-raw-options")
	r.delta.fatPath = s.str("delta-source-fat-path")
	for _, o := range []struct {
		name string
		to   *int64
	}{
		{"delta-source-raw-offset", &r.delta.rawOffset},
		{"delta-source-raw-count", &r.delta.rawCount},
		{"delta-source-fat-offset", &r.delta.fatOffset},
	} {
		n, err := s.integer(o.name)
		if err != nil {
			return nil, err
		}
		*o.to = n
	}
	// What begins nowhere is not a source, other than what begins at block 0.
	if !s.has("delta-source-raw-offset") {
		r.delta.rawCount = 0
	}
	if !s.has("delta-source-fat-offset") {
		r.delta.fatPath = ""
	}
	return r, nil
}

// resource is a file-resource of a configuration.
type resource struct {
	name   string
	layout layout
	hash   string // BLAKE2b-256 of the data bytes, as written; "" when missing

	// The rest is there when creating only.
	fromFiles     bool   // hostPaths say what it is made of
	hostPaths     string // the files one after the other, with semicolons in between
	contents      string // its bytes, when it is not made of files
	skipHoles     bool
	assertAtMost  int64 // in blocks, -1 when not asked for
	assertAtLeast int64
}

// resourcesOf returns the resources of a configuration in declaration order.
func resourcesOf(s *section) ([]*resource, error) {
	var resources []*resource
	for _, sub := range s.sections("file-resource") {
		r, err := resourceOf(sub)
		if err != nil {
			return nil, err
		}
		resources = append(resources, r)
	}
	return resources, nil
}

// maxLayoutParts bounds the holes and data runs of a resource.
const maxLayoutParts = 256

var errLayout = errors.New("the length of a file-resource is not understood")

// layout says which bytes of a resource are in the archive: the lengths of
// data, hole, data, hole and so on.
type layout []int64

// dataSize returns the number of bytes in the archive.
func (l layout) dataSize() int64 { return l.sum(0) }

func (l layout) sum(from int) (n int64) {
	for i := from; i < len(l); i += 2 {
		n += l[i]
	}
	return n
}

// size returns the number of bytes of the resource, with its holes.
func (l layout) size() int64 { return l.sum(0) + l.sum(1) }

// endingHole returns the length of the hole at the end, 0 when there is none.
func (l layout) endingHole() int64 {
	if len(l) > 0 && len(l)%2 == 0 {
		return l[len(l)-1]
	}
	return 0
}

// mbrTable returns the mbr section of a name.
func (s *section) mbrTable(name string) (*mbrTable, error) {
	m := s.section("mbr", name)
	if m == nil {
		return nil, errors.New("mbr_write can't find mbr reference")
	}
	return mbrTableOf(m)
}

// ubootEnv returns where the uboot-environment of a name lies.
func (s *section) ubootEnv(name string) (UBootEnvLocation, error) {
	u := s.section("uboot-environment", name)
	if u == nil {
		return UBootEnvLocation{}, fmt.Errorf("can't find uboot-environment reference %s", name)
	}
	return ubootEnvOf(u)
}
