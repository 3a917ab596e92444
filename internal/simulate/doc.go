// Package simulate makes fleets without hardware: boards that boot from disk
// images the way a U-Boot device does, firmware for them, the demo, and
// virtual devices that speak the true protocol for load tests. It stands
// beside the server, not inside it: only cli and tests import it.
package simulate
