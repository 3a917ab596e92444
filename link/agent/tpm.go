package agent

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/ganglion-iot/ganglion/link/clientcert"
	"github.com/ganglion-iot/ganglion/link/tpmkey"
)

// runTPMCreateKey makes a key, as a key file or behind a handle.
func runTPMCreateKey(ctx context.Context, p *program, args []string) error {
	fs := flag.NewFlagSet("tpm create-key", flag.ContinueOnError)
	device := fs.String("device", "", "the TPM; default "+tpmkey.DefaultDevice)
	algorithm := fs.String("algorithm", string(tpmkey.P256), "p256, p384, rsa2048 or rsa3072")
	keyFile := fs.String("key-file", "", "write the key, for this TPM only, to this new `file`")
	handle := fs.Uint("handle", 0, "keep the key in the TPM under this persistent `handle`, from 0x81000000")
	replace := fs.Bool("replace", false, "destroy the key that is there")
	authFile := fs.String("auth-file", "", "`file` with the password of the key")
	ownerAuthFile := fs.String("owner-auth-file", "", "`file` with the password of the TPM's owner")
	if err := p.parse(fs, args); err != nil {
		return err
	}
	if (*keyFile == "") == (*handle == 0) {
		return errors.New("give --key-file or --handle, and not both")
	}
	conf := tpmkey.CreateConfig{Device: *device, Algorithm: tpmkey.Algorithm(*algorithm), Replace: *replace}
	var err error
	if conf.Handle, err = word("handle", int64(*handle)); err != nil {
		return fmt.Errorf("tpm%w", err)
	}
	if conf.Auth, err = password("auth-file", *authFile); err != nil {
		return fmt.Errorf("tpm%w", err)
	}
	if conf.OwnerAuth, err = password("owner-auth-file", *ownerAuthFile); err != nil {
		return fmt.Errorf("tpm%w", err)
	}
	if *keyFile == "" {
		made, err := tpmkey.CreateKey(ctx, conf)
		if err != nil {
			return err
		}
		fmt.Fprintf(p.stdout, "made a key under handle 0x%x\n", made.Handle)
		return nil
	}
	conf.Replace = false // that is for handles; here it is the file's
	if err := writeKey(ctx, conf, *keyFile, *replace); err != nil {
		return err
	}
	fmt.Fprintln(p.stdout, "wrote", *keyFile)
	return nil
}

// writeKey makes a key and keeps it in a file. The file is opened first: a key
// that cannot be kept is not made, and one that is there stays until then.
func writeKey(ctx context.Context, conf tpmkey.CreateConfig, name string, replace bool) error {
	target := name
	if replace {
		target += ".new"
	}
	f, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	made, err := tpmkey.CreateKey(ctx, conf)
	if err == nil {
		_, err = f.Write(made.PEM)
	}
	err = errors.Join(err, f.Close())
	if err == nil && replace {
		err = os.Rename(target, name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(target))
	}
	return nil
}

// runTPMRequest prints a request to be signed by the signer of the devices.
func runTPMRequest(ctx context.Context, p *program, args []string) error {
	fs := flag.NewFlagSet("tpm request", flag.ContinueOnError)
	device := fs.String("device", "", "the TPM; default "+tpmkey.DefaultDevice)
	keyFile := fs.String("key-file", "", "`file` of the key")
	handle := fs.Uint("handle", 0, "or its persistent `handle`")
	authFile := fs.String("auth-file", "", "`file` with the password of the key")
	identifier := fs.String("identifier", "", "the device's `identifier`, which becomes the common name")
	if err := p.parse(fs, args); err != nil {
		return err
	}
	if *identifier == "" {
		return errors.New("--identifier is missing")
	}
	if (*keyFile == "") == (*handle == 0) {
		return errors.New("give --key-file or --handle, and not both")
	}
	conf := tpmkey.Config{Device: *device, KeyFile: *keyFile}
	var err error
	if conf.Handle, err = word("handle", int64(*handle)); err != nil {
		return fmt.Errorf("tpm%w", err)
	}
	if conf.Auth, err = password("auth-file", *authFile); err != nil {
		return fmt.Errorf("tpm%w", err)
	}
	key, err := tpmkey.OpenKey(ctx, conf)
	if err != nil {
		return err
	}
	defer key.Close()
	request, err := clientcert.Request(key, *identifier)
	if err != nil {
		return err
	}
	_, err = p.stdout.Write(request)
	return err
}

// runTPMStore keeps the signed certificate in the TPM.
func runTPMStore(ctx context.Context, p *program, args []string) error {
	fs := flag.NewFlagSet("tpm store-certificate", flag.ContinueOnError)
	device := fs.String("device", "", "the TPM; default "+tpmkey.DefaultDevice)
	index := fs.Uint("index", 0, fmt.Sprintf("non-volatile `index`; default 0x%x", tpmkey.DefaultCertificateIndex))
	ownerAuthFile := fs.String("owner-auth-file", "", "`file` with the password of the TPM's owner")
	if err := p.parse(fs, args); err != nil {
		return err
	}
	pem, err := readFile(fs.Arg(0))
	if err != nil {
		return err
	}
	conf := tpmkey.StoreConfig{Device: *device, Certificates: pem}
	if conf.Index, err = word("index", int64(*index)); err != nil {
		return fmt.Errorf("tpm%w", err)
	}
	if conf.OwnerAuth, err = password("owner-auth-file", *ownerAuthFile); err != nil {
		return fmt.Errorf("tpm%w", err)
	}
	if err := tpmkey.StoreCertificate(ctx, conf); err != nil {
		return err
	}
	fmt.Fprintln(p.stdout, "stored", fs.Arg(0))
	return nil
}
