package link

import (
	"context"
	"errors"
	"math"
	"time"
)

// geoTime bounds the search for a location.
const geoTime = 30 * time.Second

// Location is where a device is.
type Location struct {
	Source    string  `json:"source"`             // how it is known, for example "gps", "geoip" or "static"
	Latitude  float64 `json:"latitude"`           // degrees, -90 to 90
	Longitude float64 `json:"longitude"`          // degrees, -180 to 180
	Accuracy  float64 `json:"accuracy,omitempty"` // metres; 0: unknown
}

func (l Location) check() error {
	if !(math.Abs(l.Latitude) <= 90 && math.Abs(l.Longitude) <= 180) {
		return errors.New("the location is not on Earth")
	}
	if !(l.Accuracy >= 0) || math.IsInf(l.Accuracy, 0) {
		return errors.New("the accuracy is not a distance")
	}
	return nil
}

// LocationError is a failure with a code of its own, for example
// "HTTP_ERROR". Other errors have the code "RESOLVER_ERROR".
type LocationError struct {
	Code        string
	Description string
}

func (e *LocationError) Error() string { return e.Description }

// Geo is the extension that tells where the device is, when the server asks.
type Geo struct {
	// Resolve finds the location. It is needed: a device tells nobody, and asks
	// nobody, where it is unless its owner wants it.
	Resolve func(ctx context.Context) (Location, error)

	push PushFunc
}

var _ Extension = (*Geo)(nil)

// StaticLocation is a resolver for devices that do not move.
func StaticLocation(at Location) func(context.Context) (Location, error) {
	at.Source = orDefault(at.Source, "static")
	return func(context.Context) (Location, error) { return at, nil }
}

// Name implements Extension.
func (g *Geo) Name() string { return "geo" }

// Version implements Extension.
func (g *Geo) Version() string { return "0.0.1" }

// Attach implements Extension.
func (g *Geo) Attach(_ context.Context, push PushFunc) error {
	if g.Resolve == nil {
		return errors.New("geo has no resolver")
	}
	g.push = push
	return nil
}

// Detach implements Extension.
func (g *Geo) Detach() {}

// Event implements Extension.
func (g *Geo) Event(ctx context.Context, event string, _ []byte) {
	if event == "location:request" {
		_ = g.push("location:update", g.answer(ctx)) // without a connection the server asks again
	}
}

func (g *Geo) answer(ctx context.Context) any {
	ctx, cancel := context.WithTimeout(ctx, geoTime)
	defer cancel()
	at, err := g.Resolve(ctx)
	if err == nil {
		err = at.check()
	}
	if err == nil {
		return at
	}
	code := "RESOLVER_ERROR"
	var known *LocationError
	if errors.As(err, &known) && known.Code != "" {
		code = known.Code
	}
	return map[string]string{"error_code": code, "error_description": err.Error()}
}
