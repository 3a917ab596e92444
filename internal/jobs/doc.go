// Package jobs does the work that must survive a restart: what an uploaded
// firmware needs before it is ready, and the regular removal of what has
// expired or is too old to keep.
//
// Work is kept in the tables of river beside the fleet's own, is tried again
// when it fails, and may run twice without harm. app starts it and gives it to
// control as its Enqueuer. It must never import an edge (api, web), an engine
// (gateway, rollout) or the bus; what it changes it changes through control.
package jobs
