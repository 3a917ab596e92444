package control

import (
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ganglion-iot/ganglion/elixirver"
	"github.com/ganglion-iot/ganglion/fleet"
)

// Limits of what people type, in characters unless said otherwise.
const (
	maxName        = 100
	maxEmail       = 254
	maxDescription = 2000
	maxNote        = 200
	maxTags        = 50
	maxTag         = 100
	maxIdentifier  = 255 // bytes
)

// checkText refuses text that is not UTF-8, holds control characters or is
// longer than most characters.
func checkText(field, text string, most int) error {
	if !utf8.ValidString(text) {
		return fleet.InvalidField(field, "must be UTF-8 text")
	}
	if utf8.RuneCountInString(text) > most {
		return fleet.InvalidField(field, "must have at most %d characters", most)
	}
	for _, r := range text {
		if unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' {
			return fleet.InvalidField(field, "must not hold control characters")
		}
	}
	return nil
}

// checkName checks the name of a thing that stands in URLs.
func checkName(name string) error {
	if strings.TrimSpace(name) == "" {
		return fleet.InvalidField("name", "must not be empty")
	}
	if strings.TrimSpace(name) != name {
		return fleet.InvalidField("name", "must not begin or end with a space")
	}
	if err := checkText("name", name, maxName); err != nil {
		return err
	}
	if strings.ContainsAny(name, "/\\\r\n\t") || name == "." || name == ".." {
		return fleet.InvalidField("name", `must not hold a slash or a line break, nor be "." or ".."`)
	}
	return nil
}

// checkOrgName allows letters, digits, "-" and "_".
func checkOrgName(name string) error {
	if name == "" {
		return fleet.InvalidField("name", "must not be empty")
	}
	if len(name) > maxName {
		return fleet.InvalidField("name", "must have at most %d characters", maxName)
	}
	for _, c := range []byte(name) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return fleet.InvalidField("name", `may hold letters, digits, "-" and "_" only`)
		}
	}
	return nil
}

func checkEmail(email string) error {
	a, err := mail.ParseAddress(email)
	if err != nil || a.Address != email || len(email) > maxEmail {
		return fleet.InvalidField("email", "must be an e-mail address such as name@example.com")
	}
	return nil
}

// checkIdentifier checks a device's identifier: 1 to 255 bytes of printable
// text without a slash, so that it can stand in a URL and in a log.
func checkIdentifier(id string) error {
	if id == "" || len(id) > maxIdentifier {
		return fleet.InvalidField("identifier", "must have 1 to %d bytes", maxIdentifier)
	}
	if strings.TrimSpace(id) != id {
		return fleet.InvalidField("identifier", "must not begin or end with a space")
	}
	if err := checkText("identifier", id, maxIdentifier); err != nil {
		return err
	}
	if strings.ContainsAny(id, "/\\\r\n\t") || id == "." || id == ".." {
		return fleet.InvalidField("identifier", "must not hold a slash or a line break")
	}
	return nil
}

// cleanTags checks tags and returns them without duplicates, in their order.
func cleanTags(field string, tags []string) ([]string, error) {
	clean := make([]string, 0, len(tags))
	seen := map[string]bool{}
	for _, tag := range tags {
		tag = strings.TrimSpace(tag)
		if tag == "" || seen[tag] {
			continue
		}
		if err := checkText(field, tag, maxTag); err != nil {
			return nil, err
		}
		if strings.ContainsAny(tag, ", \t\r\n") {
			return nil, fleet.InvalidField(field, "the tag %q must not hold spaces or commas", tag)
		}
		seen[tag] = true
		clean = append(clean, tag)
	}
	if len(clean) > maxTags {
		return nil, fleet.InvalidField(field, "at most %d tags are possible", maxTags)
	}
	return clean, nil
}

// cleanConditions checks the conditions of a group.
func cleanConditions(c fleet.Conditions) (fleet.Conditions, error) {
	var err error
	if c.Tags, err = cleanTags("conditions.tags", c.Tags); err != nil {
		return c, err
	}
	switch c.TagOperator {
	case "":
		c.TagOperator = fleet.TagsAnd
	case fleet.TagsAnd, fleet.TagsOr:
	default:
		return c, fleet.InvalidField("conditions.tag_operator", `must be "and" or "or"`)
	}
	if c.Version = strings.TrimSpace(c.Version); c.Version != "" {
		if _, err := elixirver.ParseRequirement(c.Version); err != nil {
			return c, fleet.InvalidField("conditions.version", "is not a version requirement: %v", err).WithHint(`such as ">= 1.2.0" or "~> 1.4"`)
		}
	}
	return c, nil
}
