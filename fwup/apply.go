package fwup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"

	"github.com/ganglion-iot/ganglion/fwup/vcdiff"
)

// ApplyOptions says what to do with an archive.
type ApplyOptions struct {
	// Task is the task to run, or the start of its name: the first applicable
	// one in the order of the configuration is taken.
	Task string
	// PublicKeys are the keys that are trusted. When there are any, the archive
	// has to be signed with one of them.
	PublicKeys []PublicKey
	// VerifyFirst reads the archive twice: the first time everything the task
	// takes is verified, and nothing is written unless all of it is good. The
	// reader has to be an io.Seeker. Without it hashes are known only after the
	// bytes were written.
	VerifyFirst bool
	// Low and High bound the percentages of Progress; both 0 means 0 to 100.
	Low, High int
	// MaxSize is the end of the destination in bytes, 0 for that of the device.
	MaxSize int64
	// VerifyWrites reads everything back. MinimizeWrites reads first and does
	// not write what is there already.
	VerifyWrites, MinimizeWrites bool
	// Trim tells the device what trim() says, if it is a Trimmer. Without it,
	// what was trimmed is only not read any more.
	Trim bool
	// Unsafe allows actions that run commands or write to paths of the host.
	// Without it they are refused.
	Unsafe bool
	// Stdout and Stderr get the output of commands; nil for nowhere. They may
	// be written to while Progress and Warn are called, by another goroutine.
	Stdout, Stderr io.Writer
	// Environ is the environment of commands, as name=value; nil for nothing
	// but PATH.
	Environ []string
	// RebootParamPath is the file that reboot_param() writes; "" for
	// /run/systemd/reboot-param or, if that cannot be written,
	// /run/reboot-param.
	RebootParamPath string
	// LookupEnv finds the variables of the environment that the tasks may use;
	// nil for none.
	LookupEnv func(string) (string, bool)
	// Progress is called with rising percentages, in the goroutine of Apply;
	// nil is allowed.
	Progress func(Progress)
	// Warn gets the texts of info() and warnings; nil is allowed.
	Warn func(string)
}

// ApplyResult says what Apply did.
type ApplyResult struct {
	Task string // the name of the task that ran
	Info *Info  // what was applied
	In   int64  // bytes of the archive that were read
	Out  int64  // units of work done, about the bytes written
}

// Apply runs a task of an archive on a device. The archive is read once, in
// stream order, and the device is read and written in segments of 128 KiB.
//
// What decides which firmware boots – master boot records and U-Boot
// environments – is written last, after all else is durable. When Apply fails,
// what is still in memory is discarded and the task's on-error runs; what was
// streamed to the device before stays there. Applying again is safe.
//
// The error is an *Error when the archive or its task is to blame. When ctx
// ends, it is that of ctx.
func Apply(ctx context.Context, r io.Reader, dev BlockDevice, o ApplyOptions) (*ApplyResult, error) {
	var verified, task string // the archive by its uuid, and the task
	if o.VerifyFirst {
		err := rewindAfter(r, func() (err error) {
			verified, task, err = rehearse(ctx, r, dev, o)
			return err
		})
		if err != nil {
			return nil, err
		}
		runtime.GC() // devices are small: what follows needs as much memory again
	}
	in := &countingReader{r: r}
	meter := newProgressMeter(o.Progress, o.Low, o.High, in)
	a, err := newApplier(ctx, in, dev, o)
	if err != nil {
		return nil, err
	}
	a.meter = meter
	t, err := a.choose(o.Task)
	if err != nil {
		return nil, err
	}
	if o.VerifyFirst && (a.archive.info.UUID != verified || t.name != task) {
		return nil, errors.New("the archive, or what it depends on, changed after it was verified")
	}
	if err := a.run(t); err != nil {
		return nil, a.archive.zip.placed(err)
	}
	meter.finish()
	return &ApplyResult{Task: t.name, Info: a.archive.info, In: in.n, Out: meter.done}, nil
}

// rehearse does all of Apply but the writing. It returns the uuid of the archive
// and the name of the task.
func rehearse(ctx context.Context, r io.Reader, dev BlockDevice, o ApplyOptions) (uuid, task string, err error) {
	a, err := newApplier(ctx, r, dev, o)
	if err != nil {
		return "", "", err
	}
	a.meter = newProgressMeter(nil, 0, 0, &countingReader{})
	t, err := a.choose(o.Task)
	if err != nil {
		return "", "", err
	}
	if _, err := a.plan(t); err != nil {
		return "", "", err
	}
	needs := &taskNeeds{task: t, open: a.open}
	if err := a.archive.verifyResources(false, needs); err != nil {
		return "", "", a.archive.zip.placed(a.blame(err, nil))
	}
	return a.archive.info.UUID, t.name, a.archive.zip.drain()
}

// applier runs a task.
type applier struct {
	ctx     context.Context
	archive *archive
	cache   *blockCache
	meter   *progressMeter
	tasks   []*task
	envs    []UBootEnvLocation // the environments that were changed
	fats    fatVolumes
	decoder vcdiff.Reader // of one delta after the other
	warn    func(string)
	unsafe  bool
	host    host
	size    int64 // of the destination in the beginning, or its given end; 0 when unknown
}

func newApplier(ctx context.Context, r io.Reader, dev BlockDevice, o ApplyOptions) (*applier, error) {
	ar, err := openArchive(ctx, r, archiveOptions{keys: o.PublicKeys, lookupEnv: o.LookupEnv})
	if err != nil {
		return nil, err
	}
	a := &applier{ctx: ctx, archive: ar, tasks: ar.tasks, warn: o.Warn, unsafe: o.Unsafe, size: o.MaxSize, host: hostOf(&o, ar.info)}
	if a.warn == nil {
		a.warn = func(string) {}
	}
	if a.size <= 0 {
		if a.size, err = dev.Size(); err != nil {
			return nil, fmt.Errorf("size of the destination: %w", err)
		}
	}
	if a.cache, err = newBlockCache(dev, cacheSize(ar.conf), o.MaxSize); err != nil {
		return nil, err
	}
	a.cache.verify, a.cache.minimize = o.VerifyWrites, o.MinimizeWrites
	if t, ok := dev.(Trimmer); ok && o.Trim {
		a.cache.trimmer = t
		a.cache.trimFailed = func(off, size int64) {
			a.warn(fmt.Sprintf("BLKDISCARD (TRIM command) failed on range %d to %d (ignoring)", off, off+size))
		}
	}
	a.cache.beforeLast = a.commitEnvs
	return a, nil
}

// cacheSize returns the bytes of cache the configuration asks for, at least
// 1 MiB; the cache has its own upper bound.
func cacheSize(conf *section) int64 {
	mb, err := strconv.ParseInt(conf.str("block-cache-size-mb"), 0, 32)
	if err != nil {
		return defaultCacheSize
	}
	return max(1, mb) << 20
}

// commitEnvs saves what counts of environments whose both copies are about to
// be overwritten.
func (a *applier) commitEnvs() error {
	for _, loc := range a.envs {
		if err := commitUBootEnv(a.cache, loc); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) choose(prefix string) (*task, error) {
	if t := a.selectTask(prefix); t != nil {
		return t, nil
	}
	if err := a.ctx.Err(); err != nil {
		return nil, err
	}
	return nil, errorf(ClassNoTask, "Couldn't find applicable task '%s'. If task is available, the task's requirements may not be met.", prefix)
}

func (a *applier) ubootEnv(name string) (UBootEnvLocation, error) {
	return a.archive.conf.ubootEnv(name)
}

func (a *applier) mbrTable(name string) (*mbrTable, error) { return a.archive.conf.mbrTable(name) }
func (a *applier) gptTable(name string) (*gptTable, error) { return a.archive.conf.gptTable(name) }

// run does everything a task says. When it fails, the task's on-error follows,
// but not when the task is garbled: then nothing of it was done.
func (a *applier) run(t *task) error {
	total, err := a.plan(t)
	var e *Error
	if err != nil && !(errors.As(err, &e) && e.Class == ClassUnsafe) {
		return err
	}
	a.meter.total = total
	if err == nil {
		err = a.events(t)
	}
	if err == nil {
		err = classify(a.cache.flush(), ClassOther)
	}
	if err == nil {
		return nil
	}
	a.cache.discard()
	a.closeFATs()
	a.envs = nil
	if len(t.onError) > 0 {
		a.rescue(t)
	}
	return err
}

// rescue runs on-error, also when the context is what failed. The first error
// is the one that matters: those in here are warnings.
func (a *applier) rescue(t *task) {
	a.ctx = context.WithoutCancel(a.ctx)
	err := a.calls(t.onError, nil)
	if err == nil {
		err = a.cache.flush()
	}
	if err != nil {
		a.cache.discard()
		a.warn("on-error failed: " + err.Error())
	}
}

func (a *applier) events(t *task) error {
	if err := a.calls(t.onInit, nil); err != nil {
		return err
	}
	if err := a.members(t); err != nil {
		return err
	}
	a.closeFATs()
	return a.calls(t.onFinish, nil)
}

// plan checks every call of a task but those of on-error, and returns the
// units of work they are together.
func (a *applier) plan(t *task) (total int64, err error) {
	add := func(list []string, s *resourceStream) {
		if err != nil {
			return
		}
		err = a.eachCall(list, s, func(act *action, c *actionCall) error {
			units, err := act.units(c)
			total += max(0, units)
			return err
		})
	}
	add(t.onInit, nil)
	for _, on := range t.onResource {
		res := a.archive.resources[on.resource]
		if res == nil {
			return 0, errorf(ClassUnknownFile, "Can't find file-resource for %s", on.resource).about(on.resource)
		}
		add(on.calls, newResourceStream(res, nil))
	}
	add(t.onFinish, nil)
	return total, err
}

// members runs on-resource for each member that the task names, in the order
// in which they come.
func (a *applier) members(t *task) error {
	seen := make(map[string]bool, len(t.onResource))
	for {
		m, err := a.archive.zip.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		name := m.resourceName()
		on := t.forResource(name)
		if on == nil {
			continue
		}
		seen[name] = true
		if err := a.resource(m, on); err != nil {
			return err
		}
	}
	for _, on := range t.onResource {
		if !seen[on.resource] {
			return errorf(ClassResourceMissing, "Resource %s not found in archive", on.resource).about(on.resource)
		}
	}
	return nil
}

func (a *applier) resource(m *member, on *resourceTask) error {
	s, err := a.open(m, on)
	if err != nil {
		return err
	}
	a.warnOfOverlap(s, on)
	return a.calls(on.calls, s)
}

// calls runs a list of calls.
func (a *applier) calls(list []string, s *resourceStream) error {
	return a.eachCall(list, s, func(act *action, c *actionCall) error {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		err := act.run(c)
		if act == errorAction {
			return classify(err, ClassErrorFunction)
		}
		return err
	})
}

// unsafeActions are those that reach out of the destination.
const unsafeActions = " execute path_write pipe_write ubi_volume_write "

// eachCall hands every call of a list to f, with the action it means.
func (a *applier) eachCall(list []string, s *resourceStream, f func(*action, *actionCall) error) error {
	calls, err := parseCalls(list)
	if err != nil {
		return classify(err, ClassFunlist)
	}
	for _, c := range calls {
		if !a.unsafe && strings.Contains(unsafeActions, " "+c[0]+" ") {
			return errorf(ClassUnsafe, "%s requires --unsafe", c[0])
		}
		act, err := lookupAction(c, s != nil)
		if err != nil {
			class := ClassOther
			if actions[c[0]] == nil {
				class = ClassUnknownFunction
			}
			return classify(err, class)
		}
		if err := f(act, &actionCall{applier: a, args: c[1:], resource: s}); err != nil {
			return a.blame(err, s)
		}
	}
	return nil
}

// blame makes an *Error of what an action failed with, unless the stream of
// the archive failed.
func (a *applier) blame(err error, s *resourceStream) error {
	if src := a.archive.zip.src.err; src != nil {
		return src
	}
	err = classify(err, ClassOther)
	var e *Error
	if s != nil && errors.As(err, &e) && e.Resource == "" {
		e.Resource = s.name
	}
	return err
}
