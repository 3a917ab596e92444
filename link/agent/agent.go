package agent

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/ganglion-iot/ganglion/internal/version"
	"github.com/ganglion-iot/ganglion/link"
)

// DefaultConfig is the file with the settings unless another is named.
const DefaultConfig = "/etc/ganglion/link.toml"

// Exit statuses.
const (
	exitFailed    = 1
	exitUsage     = 2
	exitRebooting = 75 // the reboot hook returned and the device still runs
)

// errUsage is wrong use that has been told.
var errUsage = errors.New("wrong use")

// errChecks is a failure the output tells of.
var errChecks = errors.New("something is wrong")

// command is one of the program's.
type command struct {
	name, args, help string
	run              func(ctx context.Context, p *program, args []string) error
}

// program is where a command writes to.
type program struct {
	stdout, stderr io.Writer
	command        command
}

func commands() []command {
	return []command{
		{"", "", "keep the device connected and up to date", runAgent},
		{"doctor", "", "look for what keeps the device from its server", runDoctor},
		{"identity", "", "tell who the device is to its server", runIdentity},
		{"send", "FILE", "send a file to the operators at the console", runSend},
		{"tpm create-key", "", "make a private key in the TPM", runTPMCreateKey},
		{"tpm request", "", "print a certificate request for a key in the TPM", runTPMRequest},
		{"tpm store-certificate", "FILE", "keep a certificate in the TPM", runTPMStore},
	}
}

// Main runs the program and returns its exit status: 0 after a signal, 1 on
// failure, 2 for wrong use, 75 when the reboot hook returned and the device
// still runs (a supervisor may start the agent again).
func Main(args []string, stdout, stderr io.Writer) int {
	p := &program{stdout: stdout, stderr: stderr}
	rest, ok := p.find(args)
	if !ok {
		fmt.Fprintf(stderr, "ganglion-link: unexpected argument %q; see ganglion-link --help\n", args[0])
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := p.command.run(ctx, p, rest)
	switch {
	case err == nil, errors.Is(err, context.Canceled) && ctx.Err() != nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, link.ErrRebooting):
		return exitRebooting
	case errors.Is(err, errUsage):
		return exitUsage
	case !errors.Is(err, errChecks):
		fmt.Fprintln(stderr, "ganglion-link:", err)
	}
	return exitFailed
}

// find takes the command off the arguments.
func (p *program) find(args []string) (rest []string, ok bool) {
	words := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "-") })
	if words < 0 {
		words = len(args)
	}
	for n := min(words, 2); n >= 0; n-- {
		name := strings.Join(args[:n], " ")
		for _, c := range commands() {
			if c.name == name && (n > 0 || words == 0) {
				p.command = c
				return args[n:], true
			}
		}
	}
	return nil, false
}

// parse reads the flags of the command and checks how many arguments are left.
func (p *program) parse(fs *flag.FlagSet, args []string) error {
	fs.SetOutput(p.stderr)
	fs.Usage = func() { p.usage(fs) }
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil {
		return errUsage
	}
	want := len(strings.Fields(p.command.args))
	switch {
	case fs.NArg() > want:
		fmt.Fprintf(p.stderr, "ganglion-link: unexpected argument %q\n", fs.Arg(want))
		return errUsage
	case fs.NArg() < want:
		fmt.Fprintf(p.stderr, "ganglion-link %s: %s is missing\n", p.command.name, p.command.args)
		return errUsage
	}
	return nil
}

func (p *program) usage(fs *flag.FlagSet) {
	fmt.Fprintln(p.stderr, strings.Join(strings.Fields("Usage: ganglion-link "+p.command.name+" [flags] "+p.command.args), " "))
	fs.PrintDefaults()
	if p.command.name != "" {
		return
	}
	fmt.Fprintln(p.stderr, "Commands:")
	for _, c := range commands()[1:] {
		fmt.Fprintf(p.stderr, "  %-27s %s\n", strings.TrimSpace(c.name+" "+c.args), c.help)
	}
}

func configFlag(fs *flag.FlagSet) *string {
	return fs.String("config", DefaultConfig, "the `file` with the settings")
}

// load reads the file, lets the configure hook change it, and makes settings
// of it.
func load(ctx context.Context, file string) (Config, *Settings, error) {
	c, err := ReadConfig(file)
	if err != nil {
		return c, nil, err
	}
	if err := c.configure(ctx); err != nil {
		return c, nil, fmt.Errorf("%s: %w", file, err)
	}
	s, err := c.Settings(ctx)
	if err != nil {
		return c, nil, fmt.Errorf("%s: %w", file, err)
	}
	return c, s, nil
}

// configure lets what the configure hook prints go before the file.
func (c *Config) configure(ctx context.Context) error {
	h := c.Hooks.Configure
	if len(h.Command) == 0 {
		return nil
	}
	out, err := runner{timeout: c.hookTimeout()}.output(ctx, "configure", h)
	if err != nil {
		return err
	}
	return c.decode("hooks.configure", out)
}

func runAgent(ctx context.Context, p *program, args []string) error {
	fs := flag.NewFlagSet("ganglion-link", flag.ContinueOnError)
	file := configFlag(fs)
	check := fs.Bool("check", false, "check the settings and all they name, and exit")
	showVersion := fs.Bool("version", false, "print the version and exit")
	if err := p.parse(fs, args); err != nil {
		return err
	}
	if *showVersion {
		fmt.Fprintln(p.stdout, "ganglion-link", version.Version)
		return nil
	}
	service := findManager()
	defer service.close()
	config, settings, err := load(ctx, *file)
	if err != nil {
		return err
	}
	defer settings.Close()
	config.forgetSecrets()
	log, closeLog, err := config.logger(p.stderr)
	if err != nil {
		return fmt.Errorf("%s: %w", *file, err)
	}
	defer closeLog()
	if settings.lines != nil {
		log = slog.New(slog.NewMultiHandler(log.Handler(), settings.lines))
	}
	settings.Logger = log
	if *check {
		if err := config.check(ctx, settings); err != nil {
			return fmt.Errorf("%s: %w", *file, err)
		}
		return nil
	}
	a := &agent{config: config, log: log, manager: service}
	return a.run(ctx, settings.Options)
}

// forgetSecrets takes the secrets that were read out of the environment away:
// the console and scripts are given it.
func (c Config) forgetSecrets() {
	for _, name := range []string{secretVariable, c.PKCS11.PINEnv} {
		if name != "" {
			os.Unsetenv(name)
		}
	}
}

// agent is what surrounds a link.
type agent struct {
	config  Config
	log     *slog.Logger
	manager *manager
	client  *client
	link    *link.Link
}

// run keeps the link running until ctx ends or the device restarts.
func (a *agent) run(ctx context.Context, o link.Options) (err error) {
	a.client = newClient(a.config, o, a.log, a.manager.status)
	defer a.client.close()
	o.Client = a.client
	if a.link, err = link.New(o); err != nil {
		return err
	}
	var files *alarmFiles
	if dir := a.config.Alarms.Dir; dir != "" {
		if files, err = newAlarmFiles(dir, o.Alarms, a.log); err != nil {
			return err
		}
	}
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var beside sync.WaitGroup
	defer beside.Wait()
	defer cancel()
	beside.Go(func() { a.manager.feed(inner, a.client.busy, a.link.Alive) })
	beside.Go(func() { a.watchAlarms(inner, o.Alarms, files) })
	if files != nil {
		beside.Go(func() { files.watch(inner) })
	}
	orders, stopOrders := connectOrders()
	defer stopOrders()
	beside.Go(func() { a.connectOnOrder(inner, orders) })
	a.manager.tell("READY=1\nSTATUS=connecting")
	told := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(told)
		a.manager.tell("STOPPING=1\nSTATUS=stopping")
	})
	err = a.link.Run(ctx)
	if !stop() {
		<-told
	}
	return err
}

func (a *agent) connectOnOrder(ctx context.Context, orders <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-orders:
			a.link.Connect()
		}
	}
}

func (a *agent) watchAlarms(ctx context.Context, alarms *link.Alarms, files *alarmFiles) {
	_ = alarms.Subscribe(ctx, func(c link.AlarmChange) { // ends with ctx
		if files != nil {
			files.change(c)
		}
		a.client.alarm(c)
	})
}

// check looks for what only shows when it is needed: programs, directories and
// credentials.
func (c Config) check(ctx context.Context, s *Settings) error {
	if _, err := link.New(s.Options); err != nil {
		return err
	}
	if err := c.checkPrograms(); err != nil {
		return err
	}
	if s.Secret != nil || s.Certificate != nil {
		return nil
	}
	stored, err := s.Store.All(ctx)
	if err != nil {
		return fmt.Errorf("shared_secret.key: missing; give a shared secret or a certificate. The store has none: %w", err)
	}
	for _, key := range []string{"nerves_hub_cert", "nh_shared_key", "nh_shared_product_key"} {
		if stored[key] != "" {
			return nil
		}
	}
	return errors.New("shared_secret.key: missing; give a shared secret or a certificate, or keep one in the store")
}
