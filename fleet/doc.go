// Package fleet holds the words of the domain: the nouns (Org, Product,
// Device, Firmware, DeploymentGroup, …), the Scope every call is made in, the
// kinds of errors, the events that tell what happened, and the filters and
// changes that lists and updates are asked with.
//
// Every other package may import fleet. fleet imports the standard library
// only and does no I/O.
package fleet
