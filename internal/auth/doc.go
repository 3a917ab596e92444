// Package auth holds the secrets of the server and checks those of its
// callers: tokens, passwords, the instance key with what is derived from it
// (sealing, signed URLs, cookies), replay and rate limits.
//
// It is a mechanism: it keeps nothing in the database and knows no users. It
// imports fleet and nh1 and no other package of ours; control, gateway, api,
// web and app import it.
package auth
