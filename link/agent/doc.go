// Package agent makes a ready program of package link: it reads a TOML file,
// keeps the device connected and runs the commands the file names to reboot
// and to identify. Only cmd/ganglion-link imports it.
package agent
