package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/fwup"
)

const signHelp = `The key is the one --key names on this machine; without --key it is the text in
GANGLION_FW_PRIVATE_KEY (or NERVES_HUB_FW_PRIVATE_KEY), or the file that
GANGLION_FW_PRIVATE_KEY_PATH (or NERVES_HUB_FW_PRIVATE_KEY_PATH) names, in the
format of fwup.`

func firmwareSignCommand(inv *invocation) *cobra.Command {
	var key, output string
	cmd := &cobra.Command{
		Use: "sign FILE", Short: "Sign a firmware file; needs no server if --org is known", Args: cobra.ExactArgs(1),
		Long: "Sign a firmware file in place, or to another file.\n\n" + signHelp,
	}
	cmd.Flags().StringVar(&key, "key", "", "name of a key on this machine")
	cmd.Flags().StringVarP(&output, "output", "o", "", "`file` to write instead")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		private, err := inv.signingKey(cmd.Context(), key)
		if err != nil {
			return err
		}
		if private == nil {
			return usage(cmd, errors.New("which key? say --key NAME, or set GANGLION_FW_PRIVATE_KEY"))
		}
		if output == "" {
			output = args[0]
		}
		if err := signFile(cmd.Context(), args[0], output, private); err != nil {
			return err
		}
		inv.say("Signed %s", output)
		return nil
	}
	return cmd
}

// signingKey is the private key to sign with: one named, one from the
// environment, or nil.
func (inv *invocation) signingKey(ctx context.Context, name string) (fwup.PrivateKey, error) {
	if name != "" {
		_, org, err := inv.keyOrg(ctx, true)
		if err != nil {
			return nil, err
		}
		k, err := inv.loadKey(org, name)
		return k.private, err
	}
	for _, prefix := range []string{"GANGLION_FW_PRIVATE_KEY", "NERVES_HUB_FW_PRIVATE_KEY"} {
		if file := inv.getenv(prefix + "_PATH"); file != "" {
			return readPrivateKey(file)
		}
		if text := inv.getenv(prefix); text != "" {
			private, err := fwup.ParsePrivateKey([]byte(text))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", prefix, err)
			}
			return private, nil
		}
	}
	return nil, nil
}

// signFile signs a file to another, or to itself, in one step: half a
// firmware is never left under its name.
func signFile(ctx context.Context, from, to string, key fwup.PrivateKey) (err error) {
	in, err := openFirmware(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.CreateTemp(filepath.Dir(to), ".signing-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(out.Name()))
		}
	}()
	if err := fwup.Sign(ctx, in, out, fwup.SignOptions{PrivateKey: key}); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", from, err), out.Close())
	}
	if err := errors.Join(out.Chmod(info.Mode().Perm()), out.Sync(), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), to)
}

// openFirmware opens a firmware file.
func openFirmware(name string) (*os.File, error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fleet.Errorf(fleet.NotFound, "there is no file %s", name).WithHint("give the path of a .fw file")
	}
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s is not a file", name), err, f.Close())
	}
	return f, nil
}

// inspectFirmware reads what a firmware file says about itself.
func inspectFirmware(name string) (*fwup.Info, int64, error) {
	f, err := openFirmware(name)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	info, err := fwup.ReadMetadata(f, nil)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", name, err)
	}
	return info, stat.Size(), nil
}

func firmwareInspectCommand(inv *invocation) *cobra.Command {
	return local(&cobra.Command{
		Use: "inspect FILE", Short: "Show what a firmware file says about itself; needs no server", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			info, bytes, err := inspectFirmware(args[0])
			if err != nil {
				return err
			}
			m := info.Metadata
			value := struct {
				fleet.FirmwareMetadata
				Nickname     string   `json:"nickname"`
				CreationDate string   `json:"creation_date"`
				Signed       bool     `json:"signed"`
				Size         int64    `json:"size"`
				Tasks        []string `json:"tasks"`
			}{
				FirmwareMetadata: fleet.FirmwareMetadata{
					UUID: m.UUID, Product: m.Product, Version: m.Version, Platform: m.Platform, Architecture: m.Architecture,
					Author: m.Author, Description: m.Description, VCSIdentifier: m.VCSIdentifier, Misc: m.Misc,
				},
				Nickname: m.Nickname, CreationDate: m.CreationDate, Signed: info.Signed, Size: bytes, Tasks: info.Tasks,
			}
			return inv.show(value, func() string {
				p := properties{
					{"product", plain(m.Product)}, {"version", plain(m.Version)}, {"platform", plain(m.Platform)},
					{"architecture", plain(m.Architecture)}, {"uuid", plain(m.UUID)},
				}
				p.addIf("nickname", plain(m.Nickname))
				p.addIf("author", plain(m.Author))
				p.addIf("description", plain(m.Description))
				p.addIf("vcs identifier", plain(m.VCSIdentifier))
				p.addIf("misc", plain(m.Misc))
				p.addIf("made", plain(m.CreationDate))
				p.addIf("tasks", plain(strings.Join(info.Tasks, ", ")))
				p.add("signed", yesNo(info.Signed))
				p.add("size", size(bytes))
				return p.render()
			})
		},
	})
}
