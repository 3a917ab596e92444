package jobs

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/riverdriver/riversqlite"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/blob"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/store"
)

const (
	// pollInterval is how often the queue is looked at without a reason. Work
	// of this process is noticed at once, so that this is for the work of
	// other nodes and of a process before; each look is a write.
	pollInterval = time.Second
	// jobTimeout bounds one try of a job: 4 GiB from a slow blob store fit.
	jobTimeout = 30 * time.Minute
	// rescueAfter is when a job of a process that died is taken up again.
	rescueAfter = jobTimeout + 5*time.Minute
	// stopTimeout is how long a job may go on after the end is asked for.
	stopTimeout = 5 * time.Second
	// keepJobs is how long finished jobs are kept to be looked at.
	keepJobs = 24 * time.Hour
	// workers is how many jobs run at once.
	workers = 2
)

// Options are the parts jobs work with. Zero durations mean the defaults.
type Options struct {
	Store   *store.DB
	Blob    blob.Store
	Control *control.Control
	Logger  *slog.Logger
	Clock   fleet.Clock

	KeepAudit    time.Duration // how long audit events are kept; 0: DefaultKeepAudit
	KeepAttempts time.Duration // how long ended update attempts are kept; 0: DefaultKeepAttempts

	KeepMetrics     time.Duration // single values of metrics; 0: control.DefaultKeepMetrics
	KeepMetricHours time.Duration // metrics by the hour; 0: DefaultKeepMetricHours
	KeepAlarms      time.Duration // alarms after they were cleared; 0: DefaultKeepAlarms
	KeepLogs        time.Duration // log lines; 0: DefaultKeepLogs
	KeepConnections time.Duration // connections after they ended; 0: DefaultKeepConnections
	FlappingLimit   int           // as gateway.Options has it; 0: fleet.DefaultFlappingLimit
}

// Jobs is the queue and its workers.
type Jobs struct {
	client  *river.Client[*sql.Tx]
	store   *store.DB
	blob    blob.Store
	control *control.Control
	log     *slog.Logger
	clock   fleet.Clock
	scope   fleet.Scope

	keepAudit, keepAttempts               time.Duration
	keepMetrics, keepMetricHours          time.Duration
	keepAlarms, keepLogs, keepConnections time.Duration
	flappingLimit                         int

	// starting is held while the queue starts: it wakes its fetcher at every
	// insert, and must not do so while it makes it.
	starting sync.RWMutex
}

var _ control.Enqueuer = (*Jobs)(nil)

// New makes the queue. Work can be handed over at once; Run does it.
func New(o Options) (*Jobs, error) {
	j := &Jobs{
		store: o.Store, blob: o.Blob, control: o.Control, log: o.Logger, clock: o.Clock,
		scope:     fleet.SystemScope("jobs"),
		keepAudit: or(o.KeepAudit, DefaultKeepAudit), keepAttempts: or(o.KeepAttempts, DefaultKeepAttempts),
		keepMetrics: or(o.KeepMetrics, control.DefaultKeepMetrics), keepMetricHours: or(o.KeepMetricHours, DefaultKeepMetricHours),
		keepAlarms: or(o.KeepAlarms, DefaultKeepAlarms), keepLogs: or(o.KeepLogs, DefaultKeepLogs),
		keepConnections: or(o.KeepConnections, DefaultKeepConnections), flappingLimit: or(o.FlappingLimit, fleet.DefaultFlappingLimit),
	}
	if j.log == nil {
		j.log = slog.New(slog.DiscardHandler)
	}
	c := j.config()
	_, writer := o.Store.SQL()
	var err error
	if o.Store.Dialect() == store.SQLite {
		j.client, err = river.NewClient(riversqlite.New(writer), c)
	} else {
		j.client, err = river.NewClient(riverdatabasesql.New(writer), c)
	}
	if err != nil {
		return nil, fmt.Errorf("job queue: %w", err)
	}
	return j, nil
}

// or returns v, or the default if v is not above zero.
func or[T int | time.Duration](v, byDefault T) T {
	if v <= 0 {
		return byDefault
	}
	return v
}

func (j *Jobs) config() *river.Config {
	w := river.NewWorkers()
	river.AddWorker(w, &firmwareWorker{jobs: j})
	river.AddWorker(w, &sweepWorker{jobs: j})
	return &river.Config{
		Logger: slog.New(quiet{j.log.Handler()}), Workers: w, PeriodicJobs: sweeps(),
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}},
		FetchPollInterval: pollInterval, PollOnly: true,
		JobTimeout: jobTimeout, RescueStuckJobsAfter: rescueAfter, SoftStopTimeout: stopTimeout,
		CompletedJobRetentionPeriod: keepJobs, CancelledJobRetentionPeriod: keepJobs,
	}
}

// Run works until ctx ends, then lets the jobs in hand finish for a short
// while. What it does not finish is done after the next start.
func (j *Jobs) Run(ctx context.Context) error {
	j.starting.Lock()
	err := j.client.Start(ctx)
	j.starting.Unlock()
	if err != nil {
		return fmt.Errorf("start the job queue: %w", err)
	}
	<-j.client.Stopped()
	return ctx.Err()
}

// quiet lets through what the queue's own workings warn of, not what they do
// all day.
type quiet struct{ slog.Handler }

func (quiet) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }
