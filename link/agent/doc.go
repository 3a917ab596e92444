// Package agent makes a ready program of package link: it reads a TOML file,
// keeps the device connected, lets the commands the file names decide and tells
// them what happens, and answers to a service manager. Only cmd/ganglion-link
// imports it.
package agent
