package link

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// DefaultIdentityInterval is the time between two looks at the providers.
const DefaultIdentityInterval = 5 * time.Minute

// Bounds of what servers take.
const (
	maxIdentities       = 10   // in one report
	maxIdentity         = 255  // bytes of an identifier
	maxIdentityDetails  = 4096 // bytes of the details as JSON
	identityTime        = 30 * time.Second
	maxIdentitiesOfKind = 100 // of one provider
)

// Identity is what a device is called in a network of its own, such as a VPN.
type Identity struct {
	Service    string         `json:"service"`            // iroh, netbird, tailscale or wireguard
	Identifier string         `json:"identifier"`         // usually a public key; up to 255 bytes
	Instance   string         `json:"instance,omitempty"` // tells several of one service apart; "": the only one
	Details    map[string]any `json:"details"`            // up to 4096 bytes as JSON
}

// identityKey is what an identity replaces.
type identityKey struct{ service, instance string }

// NetworkIdentity is the extension that tells by which keys the device is
// known in other networks.
type NetworkIdentity struct {
	// Providers are asked one after the other, with a context they must obey.
	// After an error what a provider said before still counts.
	Providers []func(ctx context.Context) ([]Identity, error)
	// Interval is the time between two looks; 0: DefaultIdentityInterval.
	// Only what changed is sent.
	Interval time.Duration
	// OnError, unless nil, is told what is wrong with a provider or an identity.
	OnError func(error)

	mu   sync.Mutex
	push PushFunc
	told map[identityKey]string // as JSON
	work sync.WaitGroup
}

var _ Extension = (*NetworkIdentity)(nil)

// Name implements Extension.
func (n *NetworkIdentity) Name() string { return "network_identity" }

// Version implements Extension.
func (n *NetworkIdentity) Version() string { return "0.0.1" }

// Attach implements Extension.
func (n *NetworkIdentity) Attach(ctx context.Context, push PushFunc) error {
	n.push, n.told = push, nil
	n.work.Go(func() { n.poll(ctx) })
	return nil
}

// Detach implements Extension.
func (n *NetworkIdentity) Detach() { n.work.Wait() }

// Event implements Extension.
func (n *NetworkIdentity) Event(ctx context.Context, event string, _ []byte) {
	if event == "request" {
		n.report(ctx, true)
	}
}

// poll looks for changes.
func (n *NetworkIdentity) poll(ctx context.Context) {
	tick := time.NewTicker(orDefault(n.Interval, DefaultIdentityInterval))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			n.report(ctx, false)
		}
	}
}

// report sends what changed, or all.
func (n *NetworkIdentity) report(ctx context.Context, all bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if all {
		n.told = make(map[identityKey]string)
	}
	if n.told == nil {
		return // the first report is the server's to ask for
	}
	var changed []json.RawMessage
	var keys []identityKey
	flush := func() {
		if len(changed) == 0 {
			return
		}
		if n.push("report", map[string]any{"identities": changed}) == nil {
			for i, key := range keys {
				n.told[key] = string(changed[i])
			}
		}
		changed, keys = nil, nil
	}
	for _, id := range n.ask(ctx) {
		body, err := id.encode()
		if err != nil {
			n.failed(err)
			continue
		}
		key := identityKey{id.Service, id.Instance}
		if n.told[key] == string(body) {
			continue
		}
		changed, keys = append(changed, body), append(keys, key)
		if len(changed) == maxIdentities {
			flush()
		}
	}
	flush()
}

func (n *NetworkIdentity) ask(ctx context.Context) []Identity {
	var out []Identity
	for _, provider := range n.Providers {
		ids, err := func() ([]Identity, error) {
			ctx, cancel := context.WithTimeout(ctx, identityTime)
			defer cancel()
			return provider(ctx)
		}()
		if err != nil {
			n.failed(err)
			continue
		}
		out = append(out, ids[:min(len(ids), maxIdentitiesOfKind)]...)
	}
	return out
}

func (n *NetworkIdentity) failed(err error) {
	if n.OnError != nil {
		n.OnError(fmt.Errorf("network identity: %w", err))
	}
}

// encode checks what servers would refuse.
func (id Identity) encode() ([]byte, error) {
	if id.Details == nil {
		id.Details = map[string]any{}
	}
	details, err := json.Marshal(id.Details)
	switch {
	case err != nil:
		return nil, err
	case id.Service == "" || id.Identifier == "":
		return nil, fmt.Errorf("an identity needs a service and an identifier")
	case len(id.Identifier) > maxIdentity:
		return nil, fmt.Errorf("an identifier of %s has %d bytes", id.Service, len(id.Identifier))
	case len(details) > maxIdentityDetails:
		return nil, fmt.Errorf("the details of %s have %d bytes", id.Service, len(details))
	}
	return json.Marshal(id)
}
