package fleet

import "time"

// NetworkServices are the overlay networks in which a device may have a name.
var NetworkServices = []string{"iroh", "netbird", "tailscale", "wireguard"}

// IdentitySource says who recorded a network identity.
type IdentitySource string

// The sources.
const (
	IdentityFromDevice   IdentitySource = "device"
	IdentityFromOperator IdentitySource = "operator"
)

// NetworkIdentity is the name of a device in an overlay network. Within an org
// one name of a service belongs to one device.
type NetworkIdentity struct {
	ID         int64
	OrgID      int64
	ProductID  int64
	DeviceID   int64
	Service    string // one of NetworkServices
	Identifier string // 1 to 255 characters
	Instance   string // tells several of one service apart; "default" if not told
	Details    string // a JSON object, "{}" if there are none; at most 4,096 bytes
	Source     IdentitySource
	CreatedAt  time.Time
	UpdatedAt  time.Time
}

// DefaultInstance is the instance of an identity that names none.
const DefaultInstance = "default"
