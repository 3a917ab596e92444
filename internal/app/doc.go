// Package app wires the server: configuration, the parts and their order of
// start and stop. It knows every part and holds no rule of its own. Only cli,
// simulate and tests import it.
package app
