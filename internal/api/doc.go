// Package api is the REST API: it parses requests, calls package control and
// writes answers. It holds no rules of its own.
//
// The routes, their words and the forms of bodies and errors are those of the
// NervesHub API where that has them, so that its command line works. The
// shapes are in package rest. One file per noun registers the noun's routes;
// openapi.json follows from them and is checked in (go test -run OpenAPI
// -update rewrites it).
package api
