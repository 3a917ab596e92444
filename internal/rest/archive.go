package rest

import "time"

// Archive is a signed set of files for devices beside their firmware.
type Archive struct {
	UUID         string    `json:"uuid"`
	Version      string    `json:"version"`
	Product      string    `json:"product"`
	Platform     string    `json:"platform" doc:"Empty: any."`
	Architecture string    `json:"architecture" doc:"Empty: any."`
	Author       *string   `json:"author"`
	Description  string    `json:"description"`
	Misc         string    `json:"misc"`
	Size         int64     `json:"size" doc:"Bytes."`
	SHA256       string    `json:"sha256"`
	CreatedBy    string    `json:"created_by"`
	CreatedAt    time.Time `json:"created_at"`
}

// ScriptAuthor is who made or changed a script last.
type ScriptAuthor struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
}

// SupportScript is a text kept by a product that runs on single devices.
type SupportScript struct {
	ID        int64         `json:"id"`
	Name      string        `json:"name"`
	Text      string        `json:"text,omitempty" doc:"Only when one script is asked for."`
	Tags      []string      `json:"tags"`
	CreatedBy *ScriptAuthor `json:"created_by"`
	UpdatedBy *ScriptAuthor `json:"updated_by"`
	CreatedAt time.Time     `json:"inserted_at"`
	UpdatedAt time.Time     `json:"updated_at"`
}

// SupportScriptChange makes a script, or changes one; absent fields stay.
type SupportScriptChange struct {
	Name *string `json:"name,omitempty"`
	Text *string `json:"text,omitempty" doc:"In the language of the devices' console, at most 64 KiB."`
	Tags *Tags   `json:"tags,omitempty"`
}
