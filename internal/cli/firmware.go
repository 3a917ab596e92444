package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

func firmwareCommand(inv *invocation) *cobra.Command {
	return family("firmware", "Signed images of a product",
		firmwareListCommand(inv), firmwareShowCommand(inv), firmwareSignCommand(inv), firmwarePublishCommand(inv),
		firmwareInspectCommand(inv), firmwareDeleteCommand(inv))
}

func firmwareListCommand(inv *invocation) *cobra.Command {
	var limit int
	cmd := &cobra.Command{Use: "list", Short: "List the product's firmware, newest first", Args: cobra.NoArgs}
	cmd.Flags().IntVar(&limit, "limit", 0, "at most so many (default: all)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := inv.inProduct(cmd.Context())
		if err != nil {
			return err
		}
		list, err := p.Firmwares(cmd.Context(), limit)
		if err != nil {
			return inv.explain(cmd.Context(), err, inv.about(p, "", ""))
		}
		return inv.show(list, func() string {
			t := table{header: []string{"VERSION", "PLATFORM", "ARCHITECTURE", "UUID", "SIZE", "ON DEVICES", "PUBLISHED"},
				empty: "No firmware. Publish one with `ganglion firmware publish FILE`."}
			for _, f := range list {
				t.add(plain(f.Version), plain(f.Platform), plain(f.Architecture), f.UUID, size(f.Size), fmt.Sprint(f.Installed), ago(&f.CreatedAt))
			}
			return t.render(0)
		})
	}
	return cmd
}

func firmwareShowCommand(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use: "show FIRMWARE", Short: "Show a firmware by its uuid, the beginning of it, or its version", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := inv.inProduct(cmd.Context())
			if err != nil {
				return err
			}
			f, err := inv.firmware(cmd.Context(), p, args[0], anyTarget)
			if err != nil {
				return err
			}
			return inv.show(f, func() string { return firmwareProperties(f).render() })
		},
	}
}

func firmwareProperties(f rest.Firmware) properties {
	p := properties{
		{"version", plain(f.Version)}, {"uuid", f.UUID}, {"product", plain(f.Product)},
		{"platform", plain(f.Platform)}, {"architecture", plain(f.Architecture)},
	}
	p.addIf("description", plain(f.Description))
	if f.Author != nil {
		p.addIf("author", plain(*f.Author))
	}
	p.addIf("nickname", plain(f.Nickname))
	p.add("size", size(f.Size))
	p.add("sha256", f.SHA256)
	p.add("status", f.Status)
	p.add("on devices", fmt.Sprint(f.Installed))
	p.add("published", ago(&f.CreatedAt))
	p.addIf("by", plain(f.CreatedBy))
	return p
}

func firmwareDeleteCommand(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use: "delete FIRMWARE", Short: "Delete a firmware no release has", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := inv.inProduct(cmd.Context())
			if err != nil {
				return err
			}
			f, err := inv.firmware(cmd.Context(), p, args[0], anyTarget)
			if err != nil {
				return err
			}
			if err := inv.confirm(cmd.Context(), fmt.Sprintf("Delete firmware %s (%s) of %s?", plain(f.Version), f.UUID, p.Product)); err != nil {
				return err
			}
			if err := p.DeleteFirmware(cmd.Context(), f.UUID); err != nil {
				return err
			}
			inv.say("Deleted firmware %s (%s)", plain(f.Version), f.UUID)
			return nil
		},
	}
}

// target is what devices a firmware must be for; the zero target is any.
type target struct{ platform, architecture string }

var anyTarget target

func (t target) fits(f rest.Firmware) bool {
	return t == anyTarget || t.platform == f.Platform && t.architecture == f.Architecture
}

// shortestPrefix is how much of a uuid names a firmware, in characters.
const shortestPrefix = 4

// uuidLength is the length of a whole uuid, in characters.
const uuidLength = 36

// firmware finds the firmware somebody means: by uuid, by version if only one
// for the target has it, or by the beginning of the uuid.
func (inv *invocation) firmware(ctx context.Context, p *rest.ProductClient, name string, t target) (rest.Firmware, error) {
	list, err := p.Firmwares(ctx, 0)
	if err != nil {
		return rest.Firmware{}, inv.explain(ctx, err, inv.about(p, "", ""))
	}
	var same, begin []rest.Firmware
	for _, f := range list {
		switch {
		case strings.EqualFold(f.UUID, name):
			return f, nil
		case f.Version == name && t.fits(f):
			same = append(same, f)
		case len(name) >= shortestPrefix && strings.HasPrefix(f.UUID, strings.ToLower(name)) && t.fits(f):
			begin = append(begin, f)
		}
	}
	if len(same) == 0 {
		same = begin
	}
	switch len(same) {
	case 1:
		return same[0], nil
	case 0:
		known := names(list, func(f rest.Firmware) string { return f.Version })
		if len(list) == 0 {
			return rest.Firmware{}, absent("firmware", name, nil, "").WithHint("the product has none yet; publish one with `ganglion firmware publish FILE`")
		}
		return rest.Firmware{}, absent("firmware", name, known, "ganglion firmware list")
	}
	uuids := names(same, func(f rest.Firmware) string {
		return fmt.Sprintf("%s (%s %s)", f.UUID, plain(f.Platform), plain(f.Architecture))
	})
	return rest.Firmware{}, fleet.Errorf(fleet.Conflict, "%q may be any of %s", name, enumerate(uuids)).WithHint("name it by its uuid")
}
