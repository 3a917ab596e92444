package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ganglion-iot/ganglion/internal/rest"
)

func productCommand(inv *invocation) *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the org's products", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, org, err := inv.inOrg(cmd.Context())
			if err != nil {
				return err
			}
			products, err := c.Products(cmd.Context(), org)
			if err != nil {
				return inv.explain(cmd.Context(), err, subject{c: c, org: org})
			}
			return inv.show(products, func() string {
				t := table{header: []string{"NAME", "DEVICES", "CONNECTED"}, empty: "No products. Make one with `ganglion product create NAME`."}
				for _, p := range products {
					t.add(plain(p.Name), fmt.Sprint(p.DeviceCount), fmt.Sprint(p.ConnectedCount))
				}
				return t.render(0)
			})
		},
	}
	show := &cobra.Command{
		Use: "show [NAME]", Short: "Show a product", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := inv.namedProduct(cmd.Context(), args)
			if err != nil {
				return err
			}
			c, _, err := inv.client()
			if err != nil {
				return err
			}
			product, err := c.Product(cmd.Context(), p.Org, p.Product)
			if err != nil {
				return inv.explain(cmd.Context(), err, inv.about(p, "", ""))
			}
			return inv.show(product, func() string { return productProperties(product).render() })
		},
	}
	return family("product", "Families of devices that take the same firmware",
		list, show, productCreateCommand(inv), productUpdateCommand(inv), productRefusalsCommand(inv), productDeleteCommand(inv))
}

func productProperties(p rest.Product) properties {
	return properties{
		{"name", plain(p.Name)}, {"devices", fmt.Sprint(p.DeviceCount)}, {"connected", fmt.Sprint(p.ConnectedCount)},
		{"one firmware per version", yesNo(p.RequireUniqueFirmwareVersion)}, {"extensions", strings.Join(p.Extensions, ", ")},
		{"new devices wait for approval", yesNo(p.ApproveDevices)}, {"clones are quarantined", yesNo(p.QuarantineClones)},
	}
}

func productUpdateCommand(inv *invocation) *cobra.Command {
	var unique, approve, quarantine bool
	var extensions []string
	cmd := &cobra.Command{
		Use: "update [NAME]", Short: "Change what a product demands of its firmware and what its devices run", Args: cobra.MaximumNArgs(1),
		Example: "  ganglion product update thermostat --unique-versions=false\n  ganglion product update thermostat --extensions health,logging",
	}
	cmd.Flags().BoolVar(&unique, "unique-versions", true, "one firmware for each version, platform and architecture")
	cmd.Flags().BoolVar(&approve, "approve-devices", true, "devices that register themselves with a shared secret wait for approval")
	cmd.Flags().BoolVar(&quarantine, "quarantine-clones", true, "lock a device out when two units share its identity")
	cmd.Flags().StringSliceVar(&extensions, "extensions", nil, "all extensions that are on: health, geo, local_shell, logging, network_identity; --extensions= switches all off")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var in rest.ProductChange
		if cmd.Flags().Changed("unique-versions") {
			in.RequireUniqueFirmwareVersion = &unique
		}
		if cmd.Flags().Changed("extensions") {
			in.Extensions = &extensions
		}
		if cmd.Flags().Changed("approve-devices") {
			in.ApproveDevices = &approve
		}
		if cmd.Flags().Changed("quarantine-clones") {
			in.QuarantineClones = &quarantine
		}
		if in == (rest.ProductChange{}) {
			return usage(cmd, errors.New("nothing to change"))
		}
		p, err := inv.namedProduct(cmd.Context(), args)
		if err != nil {
			return err
		}
		c, _, err := inv.client()
		if err != nil {
			return err
		}
		product, err := c.ChangeProduct(cmd.Context(), p.Org, p.Product, in)
		if err != nil {
			return inv.explain(cmd.Context(), err, inv.about(p, "", ""))
		}
		return inv.show(product, func() string { return productProperties(product).render() })
	}
	return cmd
}

func productCreateCommand(inv *invocation) *cobra.Command {
	var flagName string
	cmd := &cobra.Command{Use: "create NAME", Short: "Make a product", Args: cobra.MaximumNArgs(1)}
	cmd.Flags().StringVar(&flagName, "name", "", "the same as NAME")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := flagName
		if len(args) == 1 {
			name = args[0]
		}
		if name == "" {
			return usage(cmd, fmt.Errorf("a product needs a name: the one its firmware has as meta-product"))
		}
		c, org, err := inv.inOrg(cmd.Context())
		if err != nil {
			return err
		}
		product, err := c.CreateProduct(cmd.Context(), org, name)
		if err != nil {
			return inv.explain(cmd.Context(), err, subject{c: c, org: org})
		}
		if inv.json {
			return inv.show(product, nil)
		}
		inv.say("Made product %s in %s", plain(product.Name), org)
		inv.next("ganglion key create NAME", "ganglion shared-secret create", "ganglion firmware publish FILE")
		return nil
	}
	return cmd
}

func productDeleteCommand(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Delete a product", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, org, err := inv.inOrg(cmd.Context())
			if err != nil {
				return err
			}
			if err := inv.confirm(cmd.Context(), fmt.Sprintf("Delete product %s of %s?", args[0], org)); err != nil {
				return err
			}
			if err := c.DeleteProduct(cmd.Context(), org, args[0]); err != nil {
				return inv.explain(cmd.Context(), err, subject{c: c, org: org, product: args[0]})
			}
			inv.say("Deleted product %s", args[0])
			return nil
		},
	}
}

// namedProduct is the product an argument names, or else the one to work with.
func (inv *invocation) namedProduct(ctx context.Context, args []string) (*rest.ProductClient, error) {
	if len(args) == 0 {
		return inv.inProduct(ctx)
	}
	c, org, err := inv.inOrg(ctx)
	if err != nil {
		return nil, err
	}
	return c.In(org, args[0]), nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
