package fwup

// emptyMetaConf stands for a configuration that has nothing to show.
const emptyMetaConf = "# Empty file\n"

// metaConf returns the text of meta.conf for a configuration. It is exact to
// the byte: the signature and the UUID are made of it.
func (s *section) metaConf() []byte {
	b := s.appendMetaConf(nil)
	if len(b) == 0 {
		return []byte(emptyMetaConf)
	}
	return b
}

// appendMetaConf appends what is inside a section, in the order of the schema.
// Unset, empty and default values are left out, and so are sections that have
// nothing else; a task always stays.
func (s *section) appendMetaConf(b []byte) []byte {
	for i := range s.schema.options {
		o := &s.schema.options[i]
		if o.local {
			continue
		}
		switch o.kind {
		case sectionOption:
			for _, sub := range s.subs[o.name] {
				b = sub.appendBraces(b, o)
			}
		case stringOption, intOption, boolOption, listOption, intListOption:
			b = appendOption(b, o, s.values[o.name])
		}
	}
	return b
}

func (s *section) appendBraces(b []byte, o *option) []byte {
	start := len(b)
	b = append(b, o.name...)
	if o.titled {
		// A title is shown as it is, even with quotes in it.
		b = append(b, ` "`...)
		b = append(b, s.title...)
		b = append(b, '"')
	}
	b = append(b, " {\n"...)
	inside := len(b)
	b = s.appendMetaConf(b)
	if len(b) == inside && o.schema != taskSchema {
		return b[:start]
	}
	return append(b, "}\n"...)
}

func appendOption(b []byte, o *option, values []string) []byte {
	if len(values) == 0 || o.kind != listOption && len(values) == 1 && (values[0] == "" || values[0] == o.def) {
		return b
	}
	b = append(b, o.name...)
	b = append(b, '=')
	if len(values) > 1 {
		b = append(b, '{')
	}
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		if o.kind == stringOption || o.kind == listOption {
			b = appendString(b, v)
		} else {
			b = append(b, v...)
		}
	}
	if len(values) > 1 {
		b = append(b, '}')
	}
	return append(b, '\n')
}

// appendString appends a value, in quotes where it needs them.
func appendString(b []byte, s string) []byte {
	if isBare(s) {
		return append(b, s...)
	}
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// isBare reports whether a value is shown without quotes.
func isBare(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && c != '.' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return s != ""
}

// setResource gives a file-resource its lengths and its hash, for creation.
func (s *section) setResource(l layout, hash string) {
	lengths := make([]string, len(l))
	for i, n := range l {
		lengths[i] = formatInt(n)
	}
	s.set("length", lengths...)
	s.set("blake2b-256", hash)
}
