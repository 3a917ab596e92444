package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ganglion-iot/ganglion/internal/rest"
)

func deviceCertificateCommand(inv *invocation) *cobra.Command {
	list := &cobra.Command{
		Use: "list IDENTIFIER", Short: "List a device's certificates", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			p, err := inv.inProduct(ctx)
			if err != nil {
				return err
			}
			certs, err := p.DeviceCertificates(ctx, args[0])
			if err != nil {
				return inv.explain(ctx, err, inv.aboutDevice(ctx, p, args[0]))
			}
			return inv.show(certs, func() string {
				t := table{header: []string{"SERIAL", "NOT BEFORE", "NOT AFTER"}, empty: "No certificates."}
				for _, k := range certs {
					t.add(k.Serial, k.NotBefore.Format("2006-01-02"), k.NotAfter.Format("2006-01-02"))
				}
				return t.render(0)
			})
		},
	}
	add := &cobra.Command{
		Use: "import IDENTIFIER FILE", Short: "Let a device sign in with the certificate of a PEM file", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readCertificate(args[1])
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			p, err := inv.inProduct(ctx)
			if err != nil {
				return err
			}
			k, err := p.CreateDeviceCertificate(ctx, args[0], rest.NewDeviceCertificate{Cert: text})
			if err != nil {
				return inv.explain(ctx, err, inv.aboutDevice(ctx, p, args[0]))
			}
			inv.say("%s may sign in with certificate %s until %s", args[0], k.Serial, k.NotAfter.Format("2006-01-02"))
			if inv.json {
				return inv.show(k, nil)
			}
			return nil
		},
	}
	remove := &cobra.Command{
		Use: "delete IDENTIFIER SERIAL", Short: "Forget a device's certificate", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			serial, err := decimalSerial(args[1])
			if err != nil {
				return usage(cmd, err)
			}
			ctx := cmd.Context()
			p, err := inv.inProduct(ctx)
			if err != nil {
				return err
			}
			if err := inv.confirm(ctx, fmt.Sprintf("Delete certificate %s of %s?", serial, args[0])); err != nil {
				return err
			}
			if err := p.DeleteDeviceCertificate(ctx, args[0], serial); err != nil {
				s := inv.about(p, "certificate of "+args[0]+" with the serial", serial)
				s.list = "ganglion device cert list " + args[0]
				return inv.explain(ctx, err, s)
			}
			inv.say("Deleted certificate %s", serial)
			return nil
		},
	}
	cmd := family("cert", "Certificates a device signs in with", list, add, remove)
	cmd.Aliases = []string{"certificate"}
	return cmd
}
