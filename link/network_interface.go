package link

import (
	"net"

	"github.com/ganglion-iot/ganglion/phx"
)

// reportInterface tells the server by which network interface the device
// reached it, or tries again later: the kernel may not know yet.
func (s *session) reportInterface() {
	name := interfaceOf(s.local)
	if name == "" {
		s.again.Reset(interfacePause)
		return
	}
	_ = s.push(phx.EventReportNetworkInterface, map[string]string{"interface": name}) // a broken connection shows in its reader
}

// interfaceOf is the name of the interface with an address of this device, ""
// when there is none.
func interfaceOf(local net.Addr) string {
	tcp, ok := local.(*net.TCPAddr)
	if !ok {
		return ""
	}
	if tcp.Zone != "" {
		return tcp.Zone
	}
	all, err := net.Interfaces()
	if err != nil {
		return ""
	}
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.Equal(tcp.IP) {
				return i.Name
			}
		}
	}
	return ""
}
