// Package control is the control plane: one use case per method, one file per
// noun. It is the only writer of tenant data.
//
// Every method takes the fleet.Scope of its caller. It authorises by that
// scope, validates, changes the data and writes the audit row in one
// transaction, and tells the bus once that is committed.
//
// The edges (api, web, gateway) and the engines (rollout, jobs) call it. It
// calls store, blob, bus, auth, pki, fwup and elixirver, and never knows of
// HTTP or SQL.
package control
