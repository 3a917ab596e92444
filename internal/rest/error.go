package rest

import "github.com/ganglion-iot/ganglion/fleet"

// Error is the body of every answer that is not a success. Errors has the form
// clients of the NervesHub API know: a detail, or messages by field.
type Error struct {
	Errors map[string]any `json:"errors"`
	Error  Problem        `json:"error"`
}

// Problem says in full what went wrong.
type Problem struct {
	Kind    fleet.Kind `json:"kind"`
	Message string     `json:"message"`
	Field   string     `json:"field,omitempty"`
	Hint    string     `json:"hint,omitempty" doc:"What to do next."`
	ID      string     `json:"id,omitempty" doc:"Finds the cause in the server's log."`
}
