// Command ganglion-link keeps a device connected to its server and up to date.
package main

import (
	"os"

	"github.com/ganglion-iot/ganglion/link/agent"
)

func main() {
	os.Exit(agent.Main(os.Args[1:], os.Stdout, os.Stderr))
}
