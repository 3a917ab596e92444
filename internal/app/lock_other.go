//go:build !unix

package app

// lockData does nothing where the system has no such locks: there it is up to
// the operator that one server has the data directory to itself.
func lockData(string) (unlock func() error, err error) { return func() error { return nil }, nil }
