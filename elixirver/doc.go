// Package elixirver reads versions and version requirements by the rules of
// Elixir's Version module: Semantic Versioning 2.0.0 and the operators
// ==, !=, >, >=, <, <= and ~>, joined by "and" and "or".
//
// Deployment groups decide with it which devices they fit, and the device
// library with it what the server may be asked. It imports the standard
// library only.
package elixirver
