// Package rollout decides which device gets which release when, and keeps the
// ledger of update attempts true.
//
// The decisions are pure functions of values: Match and Regroup (which group a
// device belongs to), NextBatch (which devices are offered a release now),
// Decide and Due (what a report or silence means for an attempt) and Penalize
// (what a failure means for a device). The Engine around them loads, decides,
// saves and publishes.
//
// Each node runs one Engine. It follows the reports of the node's own devices
// and evaluates the groups for which it holds the lease. app starts it. It
// must never import an edge (api, web) or another engine (gateway, jobs).
package rollout
