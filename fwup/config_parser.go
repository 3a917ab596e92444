package fwup

import "errors"

// configParser reads a configuration the way libconfuse 3.3 does.
type configParser struct {
	lexer *lexer
	env   *environment
	top   *section
	// creating tells a configuration to create from, which must be right in
	// all, from the meta.conf of an archive, in which unknown names are skipped
	// for the sake of archives made for a later fwup.
	creating bool
	// cutOff reports that the text ended inside of a section.
	cutOff bool
}

// parse reads the whole text.
func (p *configParser) parse() error { return p.section(p.top, true) }

func (p *configParser) failf(format string, args ...any) error {
	return p.lexer.fail(configErrorf(format, args...))
}

// next returns the next token, which must not be the end.
func (p *configParser) next() (token, error) {
	tok, err := p.lexer.next()
	if err == nil && tok.kind == endToken {
		err = p.failf("premature end of file")
	}
	return tok, err
}

func (p *configParser) unexpected(tok token) error {
	return p.failf("unexpected token '%s'", tok.text)
}

// section reads the options of a section up to its closing brace. The end of
// the text closes all sections that are open.
func (p *configParser) section(s *section, top bool) error {
	for {
		tok, err := p.lexer.next()
		if err != nil {
			return err
		}
		switch {
		case tok.kind == endToken:
			p.cutOff = p.cutOff || !top
			return nil
		case tok.kind == '}' && top:
			return p.failf("unexpected closing brace")
		case tok.kind == '}':
			return nil
		case tok.kind != textToken:
			return p.unexpected(tok)
		}
		o := s.schema.option(tok.text)
		switch {
		case o == nil && p.creating:
			return p.failf("no such option '%s'", tok.text)
		case o == nil:
			err = p.skipUnknown()
		case o.kind == sectionOption:
			err = p.subsection(s, o)
		case o.kind == functionOption || o.kind == includeOption || o.kind == defineOption:
			err = p.call(s, o)
		default:
			err = p.assignment(s, o)
		}
		if err != nil {
			return err
		}
	}
}

// subsection reads a section from its title on.
func (p *configParser) subsection(parent *section, o *option) error {
	title := ""
	if o.titled {
		tok, err := p.next()
		if err != nil {
			return err
		}
		if tok.kind != textToken {
			return p.failf("missing title for section '%s'", o.name)
		}
		title = tok.text
	}
	tok, err := p.next()
	if err != nil {
		return err
	}
	if tok.kind != '{' {
		return p.failf("missing opening brace for section '%s'", o.name)
	}
	s := parent.section(o.name, title)
	if s != nil && o.titled {
		return p.failf("found duplicate title '%s'", title)
	}
	if s == nil {
		s = newSection(o.schema, title)
		s.file = p.lexer.source().file
		parent.subs[o.name] = append(parent.subs[o.name], s)
	}
	if err := p.section(s, false); err != nil {
		return err
	}
	if p.creating {
		if err := p.validate(o, s); err != nil {
			return p.lexer.fail(err)
		}
	}
	return nil
}

// assignment reads = or += and the value or values of an option.
func (p *configParser) assignment(s *section, o *option) error {
	tok, err := p.next()
	if err != nil {
		return err
	}
	isList := o.kind == listOption || o.kind == intListOption
	switch {
	case tok.kind == appendToken && !isList:
		return p.failf("attempt to append to non-list option '%s'", o.name)
	case tok.kind != appendToken && tok.kind != '=':
		return p.failf("missing equal sign after option '%s'", o.name)
	}
	appending := tok.kind == appendToken
	if tok, err = p.next(); err != nil {
		return err
	}
	texts := []string{tok.text}
	switch {
	case tok.kind == '{' && isList:
		if texts, err = p.list(); err != nil {
			return err
		}
	case tok.kind != textToken:
		return p.unexpected(tok)
	}
	values := make([]string, len(texts))
	for i, text := range texts {
		if values[i], err = optionValue(o, text); err != nil {
			return p.lexer.fail(err)
		}
	}
	if appending {
		values = append(s.values[o.name], values...)
	}
	s.set(o.name, values...)
	if o.name == "require-fwup-version" {
		if err := checkRequiredVersion(s.str(o.name)); err != nil {
			return p.lexer.fail(err)
		}
	}
	return nil
}

// list reads the values of a list behind its opening brace. There may be a
// comma behind the last one.
func (p *configParser) list() ([]string, error) {
	var values []string
	for {
		tok, err := p.next()
		if err != nil {
			return nil, err
		}
		if tok.kind == '}' {
			return values, nil
		}
		if tok.kind != textToken {
			return nil, p.unexpected(tok)
		}
		values = append(values, tok.text)
		if tok, err = p.next(); err != nil {
			return nil, err
		}
		if tok.kind == '}' {
			return values, nil
		}
		if tok.kind != ',' {
			return nil, p.unexpected(tok)
		}
	}
}

// call reads the arguments of a function and calls it.
func (p *configParser) call(s *section, o *option) error {
	tok, err := p.next()
	if err != nil {
		return err
	}
	if tok.kind != '(' {
		return p.failf("missing parenthesis for function '%s'", o.name)
	}
	var args []string
	for comma := true; ; {
		if tok, err = p.next(); err != nil {
			return err
		}
		switch {
		case tok.kind == ')':
			return p.callFunction(s, o, args)
		case tok.kind == textToken && comma:
			args, comma = append(args, tok.text), false
		case tok.kind == ',' && !comma:
			comma = true
		default:
			return p.failf("syntax error in call of function '%s'", o.name)
		}
	}
}

func (p *configParser) callFunction(s *section, o *option, args []string) (err error) {
	switch o.kind {
	case includeOption:
		err = p.include(args)
	case defineOption:
		err = p.define(o.name, args)
	default:
		err = p.addCall(s, o, args)
	}
	if err != nil {
		return p.lexer.fail(err)
	}
	return nil
}

// skipUnknown skips what follows a name that is not known: a value, a list, a
// call or a section, whatever is inside.
func (p *configParser) skipUnknown() error {
	tok, err := p.next()
	if err != nil {
		return err
	}
	switch tok.kind {
	case '=', appendToken:
		if tok, err = p.next(); err != nil || tok.kind == textToken {
			return err
		}
	case '(':
		for tok.kind != ')' {
			if tok, err = p.next(); err != nil {
				return err
			}
		}
		return nil
	case textToken: // the title of a section
		if tok, err = p.next(); err != nil {
			return err
		}
	}
	if tok.kind != '{' {
		return p.unexpected(tok)
	}
	for depth := 1; depth > 0; {
		if tok, err = p.next(); err != nil {
			return err
		}
		switch tok.kind {
		case '{':
			depth++
		case '}':
			depth--
		}
	}
	return nil
}

// optionValue checks a value and returns it in the form in which it is shown.
func optionValue(o *option, text string) (string, error) {
	switch o.kind {
	case intOption, intListOption:
		n, err := parseCInteger(text)
		switch {
		case errors.Is(err, errIntegerRange):
			return "", configErrorf("integer value for option '%s' is out of range", o.name)
		case err != nil:
			return "", configErrorf("invalid integer value for option '%s'", o.name)
		}
		return formatInt(n), nil
	case boolOption:
		value, ok := parseBool(text)
		switch {
		case !ok:
			return "", configErrorf("invalid boolean value for option '%s'", o.name)
		case value:
			return "true", nil
		}
		return "false", nil
	}
	return text, nil
}
