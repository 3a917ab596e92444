package cli

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

// maxKeyFile bounds a key file in bytes.
const maxKeyFile = 4 << 10

func keyCommand(inv *invocation) *cobra.Command {
	return family("key", "Keys that firmware is signed with",
		keyListCommand(inv), keyCreateCommand(inv), keyImportCommand(inv), keyExportCommand(inv), keyDeleteCommand(inv))
}

// keyPair is a signing key kept on this machine, in the formats of fwup.
type keyPair struct {
	name     string
	private  fwup.PrivateKey
	privFile string
	pubFile  string
}

// keyFiles names the files of a key. Names of orgs and keys come from people:
// they must not lead out of the directory.
func (inv *invocation) keyFiles(org, name string) (keyPair, error) {
	dir, err := configDir(inv.getenv)
	if err != nil {
		return keyPair{}, err
	}
	for _, part := range []string{org, name} {
		if part == "" || part == "." || part == ".." || strings.ContainsAny(part, `/\`+"\x00") {
			return keyPair{}, fleet.InvalidField("name", "%q can not be the name of a file", part)
		}
	}
	base := filepath.Join(dir, "keys", org, name)
	return keyPair{name: name, privFile: base + ".priv", pubFile: base + ".pub"}, nil
}

// save writes both halves, but never over another key.
func (k keyPair) save() error {
	if _, err := os.Stat(k.privFile); err == nil {
		return fleet.Errorf(fleet.Conflict, "there is a key %s on this machine already, in %s", k.name, k.privFile).
			WithHint("choose another name, or delete it with `ganglion key delete " + k.name + " --local`")
	}
	if err := writePrivate(k.privFile, []byte(fwup.FormatPrivateKey(k.private))); err != nil {
		return err
	}
	return writePrivate(k.pubFile, []byte(k.public()))
}

func (k keyPair) public() string {
	return fwup.FormatPublicKey(k.private.Public().(ed25519.PublicKey))
}

func (k keyPair) remove() error {
	err := os.Remove(k.privFile)
	if err2 := os.Remove(k.pubFile); err2 != nil && !errors.Is(err2, os.ErrNotExist) {
		err = errors.Join(err, err2)
	}
	return err
}

// loadKey reads a key of this machine by name.
func (inv *invocation) loadKey(org, name string) (keyPair, error) {
	k, err := inv.keyFiles(org, name)
	if err != nil {
		return k, err
	}
	text, err := readSmall(k.privFile, maxKeyFile)
	if errors.Is(err, os.ErrNotExist) {
		known, _ := inv.localKeys(org) // without a list there is no suggestion
		err := absent("key on this machine named", name, known, "")
		if err.Hint == "" {
			return k, err.WithHint("make one with `ganglion key create " + name + "`, or bring one with `ganglion key import`")
		}
		return k, err
	}
	if err == nil {
		k.private, err = fwup.ParsePrivateKey(text)
	}
	if err != nil {
		return k, fmt.Errorf("key %s: %w", name, err)
	}
	return k, nil
}

// localKeys lists the keys of this machine for an org by name.
func (inv *invocation) localKeys(org string) ([]string, error) {
	dir, err := configDir(inv.getenv)
	if err != nil {
		return nil, err
	}
	found, err := filepath.Glob(filepath.Join(dir, "keys", globQuote(org), "*.priv"))
	if err != nil {
		return nil, err
	}
	out := []string{}
	for _, f := range found {
		out = append(out, strings.TrimSuffix(filepath.Base(f), ".priv"))
	}
	sort.Strings(out)
	return out, nil
}

func globQuote(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(text)
}

func keyListCommand(inv *invocation) *cobra.Command {
	var local bool
	cmd := &cobra.Command{Use: "list", Short: "List the org's keys", Args: cobra.NoArgs}
	cmd.Flags().BoolVar(&local, "local", false, "only the keys on this machine")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, org, err := inv.keyOrg(cmd.Context(), local)
		if err != nil {
			return err
		}
		mine, err := inv.localKeys(org)
		if err != nil {
			return err
		}
		type row struct {
			rest.SigningKey
			Local bool `json:"local"`
		}
		rows := []row{}
		if local {
			for _, name := range mine {
				k, err := inv.loadKey(org, name)
				if err != nil {
					return err
				}
				rows = append(rows, row{rest.SigningKey{Name: name, Key: k.public(), Scheme: "ed25519"}, true})
			}
		} else {
			keys, err := c.SigningKeys(cmd.Context(), org)
			if err != nil {
				return inv.explain(cmd.Context(), err, subject{c: c, org: org})
			}
			for _, k := range keys {
				have, err := inv.loadKey(org, k.Name)
				rows = append(rows, row{k, err == nil && have.public() == k.Key})
			}
		}
		return inv.show(rows, func() string {
			t := table{header: []string{"NAME", "PUBLIC KEY", "PRIVATE HALF"}, empty: "No keys. Make one with `ganglion key create NAME`."}
			for _, r := range rows {
				where := styleFaint.Render("not here")
				if r.Local {
					where = "on this machine"
				}
				t.add(plain(r.Name), r.Key, where)
			}
			return t.render(0)
		})
	}
	return cmd
}

// keyOrg is the org whose keys are meant. Local keys need no server when the
// org is named.
func (inv *invocation) keyOrg(ctx context.Context, local bool) (*rest.Client, string, error) {
	if local {
		s, err := inv.settings()
		if err != nil || s.Org != "" {
			return nil, s.Org, err
		}
	}
	return inv.inOrg(ctx)
}

func keyCreateCommand(inv *invocation) *cobra.Command {
	var local bool
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a key pair here and register its public half", Args: cobra.ExactArgs(1),
		Long: `Make an Ed25519 key pair on this machine and register the public half with the
org. The private half never leaves the machine: it is kept, readable by you
only, below your configuration directory. Keep a copy in a safe place: firmware
signed by another key is refused.`,
	}
	cmd.Flags().BoolVar(&local, "local", false, "do not register it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, org, err := inv.keyOrg(cmd.Context(), local)
		if err != nil {
			return err
		}
		k, err := inv.keyFiles(org, args[0])
		if err != nil {
			return err
		}
		if _, k.private, err = fwup.GenerateKey(rand.Reader); err != nil {
			return err
		}
		return inv.keep(cmd.Context(), c, org, k, local)
	}
	return cmd
}

// keep saves a key and registers it. A key the server refuses is not kept.
func (inv *invocation) keep(ctx context.Context, c *rest.Client, org string, k keyPair, local bool) error {
	if err := k.save(); err != nil {
		return err
	}
	out := rest.SigningKey{Name: k.name, Key: k.public(), Scheme: "ed25519"}
	if !local {
		var err error
		if out, err = c.CreateSigningKey(ctx, org, rest.NewSigningKey{Name: k.name, Key: k.public(), Scheme: "ed25519"}); err != nil {
			return errors.Join(inv.explain(ctx, err, subject{c: c, org: org}), k.remove())
		}
	}
	if inv.json {
		return inv.show(out, nil)
	}
	inv.say("Key %s\n  public   %s\n  private  %s", plain(out.Name), out.Key, k.privFile)
	inv.next("ganglion firmware publish FILE --key " + k.name)
	return nil
}

func keyImportCommand(inv *invocation) *cobra.Command {
	var local bool
	cmd := &cobra.Command{
		Use: "import NAME PRIVATE-FILE", Short: "Bring a key that fwup made", Args: cobra.RangeArgs(2, 3),
		Long: `Bring a private key that "fwup -g" made and register its public half. The
NervesHub form "import NAME PUBLIC-FILE PRIVATE-FILE" works too.`,
	}
	cmd.Flags().BoolVar(&local, "local", false, "do not register it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		private, err := readPrivateKey(args[len(args)-1])
		if err != nil {
			return err
		}
		c, org, err := inv.keyOrg(cmd.Context(), local)
		if err != nil {
			return err
		}
		k, err := inv.keyFiles(org, args[0])
		if err != nil {
			return err
		}
		k.private = private
		if len(args) == 3 {
			if err := checkPublicKey(args[1], k); err != nil {
				return err
			}
		}
		return inv.keep(cmd.Context(), c, org, k, local)
	}
	return cmd
}

func readPrivateKey(file string) (fwup.PrivateKey, error) {
	text, err := readSmall(file, maxKeyFile)
	if err != nil {
		return nil, err
	}
	private, err := fwup.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if !private.Equal(ed25519.NewKeyFromSeed(private.Seed())) {
		return nil, fleet.Errorf(fleet.Invalid, "%s: the halves of the key do not belong together", file)
	}
	return private, nil
}

// checkPublicKey makes sure that a public file belongs to the key.
func checkPublicKey(file string, k keyPair) error {
	text, err := readSmall(file, maxKeyFile)
	if err != nil {
		return err
	}
	public, err := fwup.ParsePublicKey(text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if fwup.FormatPublicKey(public) != k.public() {
		return fleet.Errorf(fleet.Invalid, "%s is not the public half of the private key", file)
	}
	return nil
}

func keyExportCommand(inv *invocation) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "export NAME", Short: "Write a key of this machine to NAME.priv and NAME.pub", Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&dir, "path", ".", "`directory` to write to")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		_, org, err := inv.keyOrg(cmd.Context(), true)
		if err != nil {
			return err
		}
		k, err := inv.loadKey(org, args[0])
		if err != nil {
			return err
		}
		k.privFile, k.pubFile = filepath.Join(dir, args[0]+".priv"), filepath.Join(dir, args[0]+".pub")
		if err := k.save(); err != nil {
			if fleet.KindOf(err) == fleet.Conflict {
				return fleet.Errorf(fleet.Conflict, "%s exists already", k.privFile).WithHint("choose another directory with --path")
			}
			return err
		}
		inv.say("Wrote %s and %s. Whoever has the first can sign firmware.", k.privFile, k.pubFile)
		return nil
	}
	return cmd
}

func keyDeleteCommand(inv *invocation) *cobra.Command {
	var local bool
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Forget a key: the org's, and the private half on this machine", Args: cobra.ExactArgs(1),
	}
	cmd.Flags().BoolVar(&local, "local", false, "only the private half on this machine")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, org, err := inv.keyOrg(cmd.Context(), local)
		if err != nil {
			return err
		}
		k, err := inv.keyFiles(org, args[0])
		if err != nil {
			return err
		}
		question := fmt.Sprintf("Delete key %s of %s and its private half on this machine?", args[0], org)
		if local {
			question = fmt.Sprintf("Delete the private half %s?", k.privFile)
		}
		if err := inv.confirm(cmd.Context(), question); err != nil {
			return err
		}
		if !local {
			if err := c.DeleteSigningKey(cmd.Context(), org, args[0]); err != nil {
				return inv.explain(cmd.Context(), err, aboutKey(cmd.Context(), c, org, args[0]))
			}
		}
		if err := k.remove(); err != nil && (local || !errors.Is(err, os.ErrNotExist)) {
			return err
		}
		inv.say("Deleted key %s", args[0])
		return nil
	}
	return cmd
}

func aboutKey(ctx context.Context, c *rest.Client, org, name string) subject {
	return subject{c: c, org: org, noun: "key", name: name, list: "ganglion key list", others: func() ([]string, error) {
		keys, err := c.SigningKeys(ctx, org)
		return names(keys, func(k rest.SigningKey) string { return k.Name }), err
	}}
}
