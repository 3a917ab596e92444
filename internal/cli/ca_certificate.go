package cli

import (
	"crypto/x509"
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
				t := table{header: []string{"SERIAL", "NOT AFTER", "VERIFIED", "NEW DEVICES", "DESCRIPTION"}, empty: "No authorities. Register one with `ganglion ca-certificate register FILE`."}
				for _, k := range certs {
					verified := "no"
					if k.VerifiedAt != nil {
						verified = "yes"
					}
					t.add(k.Serial, k.NotAfter.Format("2006-01-02"), verified, newDevices(k.JITP), plain(k.Description))
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
	cmd := family("ca-certificate", "Authorities whose certificates devices have", list, caRegisterCommand(inv), caUpdateCommand(inv), caVerifyCommand(inv), unregister)
	cmd.Aliases = []string{"cacert", "ca_certificate"}
	return cmd
}

// newDevices says what becomes of devices of an authority that are not known.
func newDevices(j *rest.JITP) string {
	if j == nil {
		return "refused"
	}
	text := fmt.Sprintf("%s, %d so far", plain(j.ProductName), j.Created)
	if j.Quota > 0 {
		text = fmt.Sprintf("%s, %d of %d", plain(j.ProductName), j.Created, j.Quota)
	}
	if j.Approval {
		text += ", wait for approval"
	}
	return text
}

// profileFlags are those of a profile for new devices.
type profileFlags struct {
	cmd     *cobra.Command
	profile rest.JITP
	tags    []string
}

func addProfileFlags(cmd *cobra.Command) *profileFlags {
	p := &profileFlags{cmd: cmd}
	f := cmd.Flags()
	f.StringVar(&p.profile.ProductName, "jitp-product", "", "devices that are not known join this product")
	f.StringSliceVar(&p.tags, "jitp-tag", nil, "their tags; may be repeated")
	f.StringVar(&p.profile.Description, "jitp-description", "", "their description")
	f.IntVar(&p.profile.Quota, "jitp-quota", 0, "how many there may be (default any number)")
	f.BoolVar(&p.profile.Approval, "jitp-approval", false, "they wait for approval")
	return p
}

// get is the profile that was asked for; nil: none.
func (p *profileFlags) get() (*rest.JITP, error) {
	if p.profile.ProductName == "" {
		for _, name := range []string{"jitp-tag", "jitp-description", "jitp-quota", "jitp-approval"} {
			if p.cmd.Flags().Changed(name) {
				return nil, usage(p.cmd, fmt.Errorf("--%s needs --jitp-product", name))
			}
		}
		return nil, nil
	}
	p.profile.Tags = append(rest.Tags{}, p.tags...)
	return &p.profile, nil
}

func caRegisterCommand(inv *invocation) *cobra.Command {
	var in rest.NewCACertificate
	var certFile, keyFile string
	cmd := &cobra.Command{
		Use: "register FILE", Short: "Register an authority from its PEM file", Args: cobra.MaximumNArgs(1),
		Long: `Register an authority whose certificates devices have.

With --key the authority signs a proof that its key is yours; the key does not
leave this machine. Then no other organisation can claim the authority.

With --jitp-product devices that are not known become devices of that product
when they first connect.`,
		Example: "  ganglion ca-certificate register signer.pem --key signer-key.pem --jitp-product thermostat --jitp-tag line3",
	}
	cmd.Flags().StringVar(&in.Description, "description", "", "what it is for")
	cmd.Flags().StringVar(&certFile, "cert", "", "the same as FILE")
	cmd.Flags().StringVar(&keyFile, "key", "", "PEM file of its private key, to prove that you have it")
	cmd.Flags().BoolVar(&in.CheckExpiration, "check-expiration", false, "refuse new certificates of it once it has expired")
	profile := addProfileFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if len(args) == 1 {
			certFile = args[0]
		}
		if certFile == "" {
			return usage(cmd, fmt.Errorf("which file is the authority in?"))
		}
		if in.JITP, err = profile.get(); err != nil {
			return err
		}
		if in.Cert, err = readCertificate(certFile); err != nil {
			return err
		}
		ctx := cmd.Context()
		c, org, err := inv.inOrg(ctx)
		if err != nil {
			return err
		}
		if keyFile != "" {
			if in.Proof, err = proveCA(ctx, c, org, certFile, keyFile); err != nil {
				return inv.explain(ctx, err, subject{c: c, org: org})
			}
		}
		k, err := c.CreateCACertificate(ctx, org, in)
		if err != nil {
			return inv.explain(ctx, err, subject{c: c, org: org})
		}
		inv.say("Registered authority %s, good until %s", k.Serial, k.NotAfter.Format("2006-01-02"))
		if inv.json {
			return inv.show(k, nil)
		}
		return nil
	}
	return cmd
}

func caVerifyCommand(inv *invocation) *cobra.Command {
	var keyFile string
	cmd := &cobra.Command{
		Use: "verify FILE --key KEYFILE", Short: "Prove that you have the key of a registered authority", Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&keyFile, "key", "", "PEM file of its private key, which does not leave this machine")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if keyFile == "" {
			return usage(cmd, fmt.Errorf("a proof needs --key, the file of the private key"))
		}
		data, err := readSmall(args[0], maxCertificateFile)
		if err != nil {
			return err
		}
		block, _ := pem.Decode(data)
		if block == nil || block.Type != "CERTIFICATE" {
			return fleet.Errorf(fleet.Invalid, "%s holds no PEM certificate", args[0])
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fleet.Errorf(fleet.Invalid, "%s: %w", args[0], err)
		}
		ctx := cmd.Context()
		c, org, err := inv.inOrg(ctx)
		if err != nil {
			return err
		}
		proof, err := proveCA(ctx, c, org, args[0], keyFile)
		if err != nil {
			return inv.explain(ctx, err, subject{c: c, org: org})
		}
		serial := cert.SerialNumber.String()
		k, err := c.ChangeCACertificate(ctx, org, serial, rest.CACertificateChange{Proof: proof})
		if err != nil {
			return inv.explain(ctx, err, subject{c: c, org: org, noun: "authority with the serial", name: serial, list: "ganglion ca-certificate list"})
		}
		inv.say("You proved to have the key of authority %s", k.Serial)
		if inv.json {
			return inv.show(k, nil)
		}
		return nil
	}
	return cmd
}

func caUpdateCommand(inv *invocation) *cobra.Command {
	var description string
	var checkExpiration, none bool
	cmd := &cobra.Command{
		Use: "update SERIAL", Short: "Change what becomes of an authority's new devices", Args: cobra.ExactArgs(1),
		Example: "  ganglion ca-certificate update 1234 --jitp-product thermostat --jitp-quota 5000 --jitp-approval\n  ganglion ca-certificate update 1234 --no-jitp",
	}
	f := cmd.Flags()
	f.StringVar(&description, "description", "", "what it is for")
	f.BoolVar(&checkExpiration, "check-expiration", false, "refuse new certificates of it once it has expired")
	f.BoolVar(&none, "no-jitp", false, "devices that are not known are refused")
	profile := addProfileFlags(cmd)
	cmd.MarkFlagsMutuallyExclusive("no-jitp", "jitp-product")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		serial, err := decimalSerial(args[0])
		if err != nil {
			return usage(cmd, err)
		}
		in := rest.CACertificateChange{NoJITP: none}
		if in.JITP, err = profile.get(); err != nil {
			return err
		}
		if f.Changed("description") {
			in.Description = &description
		}
		if f.Changed("check-expiration") {
			in.CheckExpiration = &checkExpiration
		}
		if in == (rest.CACertificateChange{}) {
			return usage(cmd, fmt.Errorf("nothing to change"))
		}
		c, org, err := inv.inOrg(cmd.Context())
		if err != nil {
			return err
		}
		k, err := c.ChangeCACertificate(cmd.Context(), org, serial, in)
		if err != nil {
			return inv.explain(cmd.Context(), err, subject{c: c, org: org, noun: "authority with the serial", name: serial, list: "ganglion ca-certificate list"})
		}
		return inv.show(k, func() string {
			var p properties
			p.add("serial", k.Serial)
			p.addIf("description", plain(k.Description))
			p.add("good until", k.NotAfter.Format("2006-01-02"))
			p.add("new devices", newDevices(k.JITP))
			return p.render()
		})
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
