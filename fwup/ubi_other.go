//go:build !linux

package fwup

import "errors"

func openUBI(string) (ubiVolume, error) {
	return nil, errors.New("UBI volumes are there on Linux only")
}
