// Package web is the live user interface: pages rendered on the server that
// update by themselves. Handlers parse, call control and render; they hold no
// rule. One handler, one file. Only app imports it; it must never import the
// store or another edge.
package web
