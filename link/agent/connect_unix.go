//go:build unix

package agent

import (
	"os"
	"os/signal"
	"syscall"
)

// connectOrders catches SIGUSR1, which orders to connect at once: for
// connection.connect = false, and for a network that just came up.
func connectOrders() (orders chan os.Signal, stop func()) {
	orders = make(chan os.Signal, 1)
	signal.Notify(orders, syscall.SIGUSR1)
	return orders, func() { signal.Stop(orders) }
}
