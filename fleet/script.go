package fleet

import "time"

// Script is a text kept by a product that support runs on single devices, in
// the language of their console.
type Script struct {
	ID            int64
	OrgID         int64
	ProductID     int64
	Name          string // unique within the product
	Text          string // empty in lists
	Tags          []string
	CreatedBy     int64
	CreatedByName string // filled by reads
	UpdatedBy     int64
	UpdatedByName string // filled by reads
	CreatedAt     time.Time
	UpdatedAt     time.Time
}

// ScriptFilter narrows a list of scripts, which is ordered by name. Zero fields
// do not narrow.
type ScriptFilter struct {
	ProductID int64
	Search    string // substring of the name, without regard to case
	Tag       string
	Page      Page
}

// ScriptUpdate changes a script; nil leaves a field alone.
type ScriptUpdate struct {
	Name *string
	Text *string
	Tags *[]string
}
