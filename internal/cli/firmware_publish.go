package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

// publishing is what the publishing of a file was asked for.
type publishing struct {
	cmd    *cobra.Command
	sign   bool
	key    string
	groups []string
}

func firmwarePublishCommand(inv *invocation) *cobra.Command {
	var o publishing
	cmd := &cobra.Command{
		Use: "publish FILE", Short: "Send a firmware to the server, and to deployment groups if asked", Args: cobra.ExactArgs(1),
		Long: `Send a firmware to the server. It must be signed with a key of the org; with
--key or --sign a signed copy is made and sent, and the file stays as it is.

` + signHelp,
		Example: "  ganglion firmware publish thermostat.fw\n  ganglion firmware publish thermostat.fw --key devkey --deploy qa",
	}
	o.flags(cmd)
	cmd.Flags().StringSliceVar(&o.groups, "deploy", nil, "release it to this deployment `group`; may be repeated")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return inv.publish(cmd.Context(), args[0], o) }
	return cmd
}

func (o *publishing) flags(cmd *cobra.Command) {
	o.cmd = cmd
	cmd.Flags().StringVar(&o.key, "key", "", "sign with this key of this machine")
	cmd.Flags().BoolVar(&o.sign, "sign", false, "sign first, with --key or the key in the environment")
}

// publish checks what can be checked here, signs, sends and releases.
func (inv *invocation) publish(ctx context.Context, file string, o publishing) error {
	ready, err := inv.prepare(ctx, file, o)
	if err != nil {
		return err
	}
	defer ready.done()
	p := ready.product
	f, err := send(inv, ctx, ready, p.PublishFirmware)
	if err != nil {
		return inv.explain(ctx, err, inv.about(p, "", ""))
	}
	inv.say("%s %s as %s", styleGood.Render("Published"), plain(f.Version), f.UUID)
	for _, group := range o.groups {
		if _, err := p.ChangeDeploymentGroup(ctx, group, rest.DeploymentGroupChange{Firmware: f.UUID}); err != nil {
			return fmt.Errorf("published, but not released to %s: %w", group, err)
		}
		inv.say("Released to %s", group)
	}
	if inv.json {
		return inv.show(f, nil)
	}
	if len(o.groups) == 0 {
		inv.next("ganglion deployment create NAME --firmware "+plain(f.Version), "ganglion deployment release NAME "+plain(f.Version))
	}
	return nil
}

// readyFile is a signed file that may be sent.
type readyFile struct {
	product      *rest.ProductClient
	signed, name string
	done         func() // removes what was made on the way
}

// prepare checks what can be checked here and signs.
func (inv *invocation) prepare(ctx context.Context, file string, o publishing) (ready readyFile, err error) {
	if o.sign && o.key == "" {
		key, err := inv.signingKey(ctx, "")
		if err != nil {
			return ready, err
		}
		if key == nil {
			return ready, usage(o.cmd, errors.New("sign with which key? say --key NAME, or set GANGLION_FW_PRIVATE_KEY"))
		}
	}
	info, _, err := inspectFirmware(file)
	if err != nil {
		return ready, err
	}
	if inv.flags.Product == "" {
		// The file says what it is for; a setting must agree with it.
		s, err := inv.settings()
		if err != nil {
			return ready, err
		}
		if s.Product == "" {
			inv.flags.Product = info.Product
		}
	}
	p, err := inv.inProduct(ctx)
	if err != nil {
		return ready, err
	}
	if info.Product != p.Product {
		return ready, fleet.Errorf(fleet.Conflict, "%s is built for the product %q, not for %q", file, plain(info.Product), p.Product).
			WithHint(fmt.Sprintf("say --product %q if that is where it belongs", info.Product))
	}
	for _, group := range o.groups {
		if _, err := p.DeploymentGroup(ctx, group); err != nil {
			return ready, inv.explain(ctx, err, inv.aboutGroup(ctx, p, group))
		}
	}
	signed, done, err := inv.signedCopy(ctx, file, o)
	if err != nil {
		return ready, err
	}
	if !info.Signed && signed == file {
		done()
		return ready, fleet.Errorf(fleet.Invalid, "%s is not signed", file).
			WithHint("sign it on the way with --key NAME; `ganglion key list` shows the keys")
	}
	inv.say("%s %s for %s (%s), %s", plain(info.Product), plain(info.Version), plain(or(info.Platform, "any platform")),
		plain(or(info.Architecture, "any architecture")), plain(info.UUID))
	return readyFile{product: p, signed: signed, name: filepath.Base(file), done: done}, nil
}

// signedCopy signs the file to a temporary one if a key was asked for. done
// removes it again.
func (inv *invocation) signedCopy(ctx context.Context, file string, o publishing) (name string, done func(), err error) {
	if !o.sign && o.key == "" {
		return file, func() {}, nil
	}
	key, err := inv.signingKey(ctx, o.key)
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "ganglion-sign-*")
	if err != nil {
		return "", nil, err
	}
	done = func() { _ = os.RemoveAll(dir) } // a copy in the temporary directory is no harm
	name = filepath.Join(dir, "signed.fw")
	inv.say("Signing a copy of %s", file)
	if err := signFile(ctx, file, name, key); err != nil {
		done()
		return "", nil, err
	}
	return name, done, nil
}

// send sends the file, with a bar on a terminal.
func send[T any](inv *invocation, ctx context.Context, ready readyFile, publish func(context.Context, rest.Upload) (T, error)) (none T, err error) {
	f, err := openFirmware(ready.signed)
	if err != nil {
		return none, err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return none, err
	}
	up := rest.Upload{Name: ready.name, Size: stat.Size(), File: f}
	if inv.json || !isTerminal(inv.err) {
		return publish(ctx, up)
	}
	bar, finish := uploadBar(inv.err, stat.Size())
	up.Progress = func(read []byte) { bar.IncrBy(len(read)) }
	sent, err := publish(ctx, up)
	finish(err == nil)
	return sent, err
}

// uploadBar shows how much is sent; a full bar means that the server verifies.
func uploadBar(w io.Writer, total int64) (bar *mpb.Bar, finish func(ok bool)) {
	progress := mpb.New(mpb.WithOutput(w), mpb.WithWidth(40))
	bar = progress.New(0, mpb.BarStyle().Lbound("").Rbound("").Filler("█").Tip("█").Padding("░"),
		mpb.PrependDecorators(decor.Any(func(s decor.Statistics) string {
			if s.Current < s.Total {
				return "uploading "
			}
			return "verifying "
		})),
		mpb.AppendDecorators(
			decor.CountersKibiByte("% .1f of % .1f", decor.WC{W: 20}),
			decor.AverageSpeed(decor.SizeB1024(0), " % .1f"),
		),
		mpb.BarRemoveOnComplete(),
	)
	bar.SetTotal(total, false) // all bytes sent is not the end
	return bar, func(ok bool) {
		if ok {
			bar.SetTotal(-1, true)
		} else {
			bar.Abort(true)
		}
		progress.Wait()
	}
}
