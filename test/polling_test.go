package test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/simulate"
	"github.com/ganglion-iot/ganglion/link"
	"github.com/ganglion-iot/ganglion/nh1"
)

// polled is what a device that polls is told.
type polled struct {
	Data struct {
		UpdateAvailable bool   `json:"update_available"`
		FirmwareURL     string `json:"firmware_url"`
		UUID            string `json:"uuid"`
		Size            int64  `json:"size"`
		Checksum        string `json:"checksum"`
	} `json:"data"`
}

// poll asks for updates as a device that runs a firmware, signed at a time.
func (w *world) poll(identifier string, running fleet.Firmware, at time.Time) (p polled) {
	w.t.Helper()
	pem, err := os.ReadFile(w.server.CAFile())
	if err != nil {
		w.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}}}
	url := "https://localhost:" + port(w.t, w.server.DeviceAddr().String()) + "/device/update"
	req, err := http.NewRequestWithContext(w.ctx(), http.MethodGet, url, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header = nh1.SignNH1(w.secret.Key, w.secret.Secret, identifier, at)
	for name, value := range map[string]string{
		"uuid": running.UUID, "product": running.Product, "version": running.Version,
		"platform": running.Platform, "architecture": running.Architecture,
	} {
		req.Header.Set("X-NervesHubLinkHTTP-"+name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		w.t.Fatalf("the poll is answered with %s", resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// TestPolledUpdate: a device that polls is offered the release, gets the very
// file, and its next poll from the new firmware proves it.
func TestPolledUpdate(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database string) {
		w := newWorld(t, database)
		old, next := w.publish(w.build("1.0.0", small)), w.publish(w.build("1.1.0", small))
		w.group(next, nil)
		now := time.Now()
		told := w.poll("alpha", old, now.Add(-3*time.Second)).Data
		if !told.UpdateAvailable || told.UUID != next.UUID {
			t.Fatalf("told %+v", told)
		}
		req, err := http.NewRequestWithContext(w.ctx(), http.MethodGet, told.FirmwareURL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		sum := sha256.New()
		if n, err := io.Copy(sum, resp.Body); err != nil || n != told.Size || fmt.Sprintf("%X", sum.Sum(nil)) != told.Checksum {
			t.Fatalf("the file: %s, %d bytes, %v", resp.Status, n, err)
		}
		if told = w.poll("alpha", next, now.Add(-2*time.Second)).Data; told.UpdateAvailable {
			t.Errorf("on the new firmware it is told %+v", told)
		}
		list := w.attempts()
		if len(list) != 1 || list[0].State != fleet.AttemptSucceeded || list[0].SourceUUID != old.UUID || list[0].TargetUUID != next.UUID {
			t.Errorf("attempts: %s", w.story())
		}
		if c := w.counts(); c.Total != 1 || c.Proven != 1 {
			t.Errorf("counts: %+v", c)
		}
	})
}

// TestPollingLink: a board whose link polls takes the release, restarts into
// it, and its first poll from there proves it.
func TestPollingLink(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database string) {
		w := newWorld(t, database)
		old := w.build("1.0.0", small)
		before, next := w.publish(old), w.publish(w.build("1.1.0", small))
		w.group(next, nil)
		w.power("alpha", old, func(_ *simulate.Board, o *link.Options) { o.Mode = link.Poll }, nil)
		w.await("alpha proven on 1.1.0", func() bool { c := w.counts(); return c.Total == 1 && c.Proven == 1 })
		list := w.attempts()
		if len(list) != 1 || list[0].State != fleet.AttemptSucceeded || list[0].SourceUUID != before.UUID || list[0].TargetUUID != next.UUID {
			t.Errorf("attempts: %s", w.story())
		}
	})
}
