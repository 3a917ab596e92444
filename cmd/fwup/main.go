// Command fwup makes, signs, checks and applies firmware archives. It takes
// the options of the C program of that name and prints what that prints.
package main

import (
	"context"
	"os"

	"github.com/ganglion-iot/ganglion/fwup/fwupcli"
)

func main() {
	os.Exit(fwupcli.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
