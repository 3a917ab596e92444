package tpmkey

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Reasons that a TPM key cannot be used. Errors of this package wrap them,
// with the TPM's own words behind.
var (
	ErrNoTPM          = errors.New("there is no TPM")
	ErrAuth           = errors.New("the authorization value (password) is wrong")
	ErrLockout        = errors.New("the TPM is locked after too many wrong passwords: wait until it recovers, or reset it with the lockout password")
	ErrNoKey          = errors.New("the TPM has no key at this handle")
	ErrForeign        = errors.New("the key file was made by another TPM, or this TPM was cleared since")
	ErrNoCertificate  = errors.New("the TPM has no certificate at this index")
	ErrUnsupportedKey = errors.New("keys of this kind cannot be used")
)

// explain puts the TPM's answer in words for people.
func explain(doing string, err error) error {
	var reason error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, tpm2.TPMRCLockout):
		reason = ErrLockout
	case errors.Is(err, tpm2.TPMRCAuthFail), errors.Is(err, tpm2.TPMRCBadAuth):
		reason = ErrAuth
	case errors.Is(err, tpm2.TPMRCIntegrity):
		reason = ErrForeign
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fmt.Errorf("%s: %w (%w)", doing, reason, err)
}

// absent says whether the TPM does not know a handle.
func absent(err error) bool { return errors.Is(err, tpm2.TPMRCHandle) }
