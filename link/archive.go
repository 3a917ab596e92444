package link

import "github.com/ganglion-iot/ganglion/fwup"

// Archives says where archives go and who must have signed them.
type Archives struct {
	// Dir takes the files. It is made when it is missing.
	Dir string
	// PublicKeys are pinned: only archives signed by one of them are taken.
	// Without any, those of Options.PublicKeys are. With RequestKeys, or when
	// there is no key at all, the server is asked for keys, which replace these.
	PublicKeys  []fwup.PublicKey
	RequestKeys bool
}
