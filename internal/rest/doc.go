// Package rest holds the shapes of the REST API and a client for it. The
// server (package api) and the command line speak through the same types, so
// that they cannot disagree.
//
// It imports fleet for words only, and nothing of the server.
package rest
