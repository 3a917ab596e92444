package link

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"testing"
)

func TestGeo(t *testing.T) {
	fails := func(err error) func(context.Context) (Location, error) {
		return func(context.Context) (Location, error) { return Location{}, err }
	}
	for _, c := range []struct {
		name    string
		resolve func(context.Context) (Location, error)
		want    string
	}{
		{"static", StaticLocation(Location{Latitude: -36.8, Longitude: 174.7}), `{"source":"static","latitude":-36.8,"longitude":174.7}`},
		{"accuracy", StaticLocation(Location{Source: "gps", Latitude: 1, Longitude: 2, Accuracy: 5}), `{"source":"gps","latitude":1,"longitude":2,"accuracy":5}`},
		{"nowhere", StaticLocation(Location{Latitude: 91}), `{"error_code":"RESOLVER_ERROR","error_description":"the location is not on Earth"}`},
		{"no number", StaticLocation(Location{Longitude: math.NaN()}), `{"error_code":"RESOLVER_ERROR","error_description":"the location is not on Earth"}`},
		{"no distance", StaticLocation(Location{Accuracy: math.Inf(1)}), `{"error_code":"RESOLVER_ERROR","error_description":"the accuracy is not a distance"}`},
		{"error", fails(errors.New("no fix")), `{"error_code":"RESOLVER_ERROR","error_description":"no fix"}`},
		{"code", fails(&LocationError{"HTTP_ERROR", "status 500"}), `{"error_code":"HTTP_ERROR","error_description":"status 500"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var sent string
			g := &Geo{Resolve: c.resolve}
			err := g.Attach(t.Context(), func(event string, payload any) error {
				body, err := json.Marshal(payload)
				sent += event + " " + string(body)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			g.Event(t.Context(), "other", nil)
			g.Event(t.Context(), "location:request", nil)
			if sent != "location:update "+c.want {
				t.Errorf("sent %s, want %s", sent, c.want)
			}
		})
	}
	if (&Geo{}).Attach(t.Context(), nil) == nil {
		t.Error("attached without a resolver")
	}
}
