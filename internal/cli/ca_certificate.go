package cli

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

// maxCertificateFile bounds a certificate file in bytes.
const maxCertificateFile = 64 << 10

func caCertificateCommand(inv *invocation) *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the org's authorities", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, org, err := inv.inOrg(cmd.Context())
			if err != nil {
				return err
			}
			certs, err := c.CACertificates(cmd.Context(), org)
			if err != nil {
				return inv.explain(cmd.Context(), err, subject{c: c, org: org})
			}
			return inv.show(certs, func() string {
				t := table{header: []string{"SERIAL", "NOT BEFORE", "NOT AFTER", "DESCRIPTION"}, empty: "No authorities. Register one with `ganglion ca-certificate register FILE`."}
				for _, k := range certs {
					t.add(k.Serial, k.NotBefore.Format("2006-01-02"), k.NotAfter.Format("2006-01-02"), plain(k.Description))
				}
				return t.render(0)
			})
		},
	}
	unregister := &cobra.Command{
		Use: "unregister SERIAL", Short: "Forget an authority", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			serial, err := decimalSerial(args[0])
			if err != nil {
				return usage(cmd, err)
			}
			c, org, err := inv.inOrg(cmd.Context())
			if err != nil {
				return err
			}
			if err := inv.confirm(cmd.Context(), "New devices with certificates of this authority can not connect any more. Unregister "+serial+"?"); err != nil {
				return err
			}
			if err := c.DeleteCACertificate(cmd.Context(), org, serial); err != nil {
				return inv.explain(cmd.Context(), err, subject{c: c, org: org, noun: "authority with the serial", name: serial, list: "ganglion ca-certificate list"})
			}
			inv.say("Unregistered %s", serial)
			return nil
		},
	}
	cmd := family("ca-certificate", "Authorities whose certificates devices have", list, caRegisterCommand(inv), unregister)
	cmd.Aliases = []string{"cacert", "ca_certificate"}
	return cmd
}

func caRegisterCommand(inv *invocation) *cobra.Command {
	var description string
	cmd := &cobra.Command{Use: "register FILE", Short: "Register an authority from its PEM file", Args: cobra.ExactArgs(1)}
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		text, err := readCertificate(args[0])
		if err != nil {
			return err
		}
		c, org, err := inv.inOrg(cmd.Context())
		if err != nil {
			return err
		}
		k, err := c.CreateCACertificate(cmd.Context(), org, rest.NewCACertificate{Cert: text, Description: description})
		if err != nil {
			return inv.explain(cmd.Context(), err, subject{c: c, org: org})
		}
		inv.say("Registered authority %s, good until %s", k.Serial, k.NotAfter.Format("2006-01-02"))
		if inv.json {
			return inv.show(k, nil)
		}
		return nil
	}
	return cmd
}

// readCertificate reads a PEM file as the API takes it: base64 of its text.
func readCertificate(name string) (string, error) {
	data, err := readSmall(name, maxCertificateFile)
	if err != nil {
		return "", err
	}
	if block, _ := pem.Decode(data); block == nil || block.Type != "CERTIFICATE" {
		return "", fleet.Errorf(fleet.Invalid, "%s holds no PEM certificate", name).
			WithHint("it must begin with -----BEGIN CERTIFICATE-----")
	}
	return base64.StdEncoding.EncodeToString(data), nil
}

// decimalSerial reads a serial in decimal, or in hex with colons.
func decimalSerial(text string) (string, error) {
	base := 10
	if strings.Contains(text, ":") {
		base = 16
	}
	n, ok := new(big.Int).SetString(strings.ReplaceAll(text, ":", ""), base)
	if !ok || n.Sign() < 0 || len(text) > 128 {
		return "", fmt.Errorf("%q is not a serial in decimal or in hex with colons", text)
	}
	return n.String(), nil
}
