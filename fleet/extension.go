package fleet

import "strings"

// Extension is something a device can do beside updating itself, which it
// offers and the server may switch on.
type Extension string

// The extensions there are, as the wire and the API spell them.
const (
	ExtensionHealth          Extension = "health"           // reports of metrics, alarms and checks
	ExtensionGeo             Extension = "geo"              // where the device is
	ExtensionLocalShell      Extension = "local_shell"      // a shell of its system
	ExtensionLogging         Extension = "logging"          // lines of its log
	ExtensionNetworkIdentity Extension = "network_identity" // its names in overlay networks
)

// Extensions lists them in the order of their bits in an ExtensionSet, which
// is stored and so never changes.
var Extensions = []Extension{ExtensionHealth, ExtensionGeo, ExtensionLocalShell, ExtensionLogging, ExtensionNetworkIdentity}

// ExtensionSet is a set of extensions; bit n stands for Extensions[n].
type ExtensionSet uint8

// DefaultExtensions are switched on in new products. A shell never is by
// itself.
const DefaultExtensions ExtensionSet = 1

const allExtensions ExtensionSet = 1<<5 - 1

func (e Extension) bit() ExtensionSet {
	for i, x := range Extensions {
		if x == e {
			return 1 << i
		}
	}
	return 0
}

// Has reports whether e is in the set.
func (s ExtensionSet) Has(e Extension) bool { b := e.bit(); return b != 0 && s&b == b }

// With returns the set with e; an unknown extension changes nothing.
func (s ExtensionSet) With(e Extension) ExtensionSet { return s | e.bit() }

// Without returns the set without the extensions of other.
func (s ExtensionSet) Without(other ExtensionSet) ExtensionSet { return s &^ other }

// Names lists the set in the order of Extensions; never nil.
func (s ExtensionSet) Names() []string {
	names := []string{}
	for _, e := range Extensions {
		if s.Has(e) {
			names = append(names, string(e))
		}
	}
	return names
}

// ParseExtensions reads names; an unknown one is Invalid.
func ParseExtensions(field string, names []string) (s ExtensionSet, err error) {
	for _, n := range names {
		e := Extension(n)
		if e.bit() == 0 {
			return 0, InvalidField(field, "%q is not an extension; there are %s", n, strings.Join(allExtensions.Names(), ", "))
		}
		s = s.With(e)
	}
	return s, nil
}
