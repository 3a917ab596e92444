// Command ganglion is the server and the operator's command line.
package main

import (
	"os"

	"github.com/ganglion-iot/ganglion/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:]))
}
