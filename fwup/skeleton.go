package fwup

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"time"
)

type (
	PublicKey  = ed25519.PublicKey
	PrivateKey = ed25519.PrivateKey
)

type Metadata struct {
	UUID, Product, Version, Platform, Architecture string
	Author, Description, VCSIdentifier, Misc       string
}

type Info struct {
	Metadata
	Nickname    string
	FwupVersion string
	Key         PublicKey
}

type Error struct {
	Class string
	Msg   string
	Hint  string
	Err   error
}

func (e *Error) Error() string { return e.Msg }
func (e *Error) Unwrap() error { return e.Err }

type CreateOptions struct {
	ConfigPath string
	PrivateKey PrivateKey
	Time       time.Time
	Level      int
}

type VerifyOptions struct {
	PublicKeys []PublicKey
	Strict     bool
}

type ApplyOptions struct {
	Task        string
	PublicKeys  []PublicKey
	VerifyFirst bool
	Low, High   int
	Progress    func(Progress)
	Warn        func(string)
}

type ApplyResult struct{ Task string }

var errSkeleton = errors.New("not there yet")

func Apply(context.Context, io.Reader, BlockDevice, ApplyOptions) (*ApplyResult, error) {
	return nil, errSkeleton
}
func Verify(context.Context, io.Reader, VerifyOptions) (*Info, error) { return nil, errSkeleton }
func ReadMetadata(io.Reader, []PublicKey) (*Info, error)              { return nil, errSkeleton }
func Create(context.Context, io.Writer, CreateOptions) error          { return errSkeleton }
func GenerateKey(io.Reader) (PublicKey, PrivateKey, error)            { return nil, nil, errSkeleton }
func ParsePublicKey([]byte) (PublicKey, error)                        { return nil, errSkeleton }
func FormatPublicKey(PublicKey) string                                { return "" }

type task struct {
	name             string
	requirements     []string
	partition1Offset int64
}

type applier struct {
	ctx   context.Context
	cache *blockCache
	meter *progressMeter
	tasks []*task
	envs  []UBootEnvLocation
	warn  func(string)
}

func (a *applier) ubootEnv(string) (UBootEnvLocation, error) { return UBootEnvLocation{}, errSkeleton }
func (a *applier) mbrTable(string) (*mbrTable, error)        { return nil, errSkeleton }
func (a *applier) diskSize() (int64, error)                  { return 0, errSkeleton }

type layout struct{}

func (layout) dataSize() int64   { return 0 }
func (layout) size() int64       { return 0 }
func (layout) endingHole() int64 { return 0 }

type resourceStream struct {
	layout layout
	read   int64
}

func (r *resourceStream) next() ([]byte, int64, error) { return nil, 0, errSkeleton }
func (r *resourceStream) check(string) error           { return errSkeleton }
