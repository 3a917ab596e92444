package fwup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"
)

// configOptions is what a configuration to create from can see.
type configOptions struct {
	environment func(string) (string, bool) // nil for none
	now         time.Time                   // for ${NOW}; left alone when zero
	stdin       io.Reader                   // for the path "-"
}

// maxConfig is the most bytes of a configuration file.
const maxConfig = 8 << 20

// The variables that stand for the identity of an archive. When creating they
// stand for themselves, so that they are filled in where it is applied.
const (
	uuidVariable     = "FWUP_META_UUID"
	nicknameVariable = "FWUP_META_NICKNAME"
)

// parseConfig reads the configuration to create an archive from. "-" is the
// standard input. The error is an *Error of class ClassConfig; where the text
// is wrong, its cause is a *ConfigError.
func parseConfig(path string, o configOptions) (*section, error) {
	name, of := path, " file '"+path+"'"
	var text []byte
	var err error
	if path == "-" {
		name, of = "FILE", " from stdin"
		if o.stdin == nil {
			return nil, errorf(ClassConfig, "Error opening configuration%s", of)
		}
		text, err = readConfigText(o.stdin)
	} else {
		text, err = readConfigFile(path)
	}
	if err != nil {
		return nil, errorf(ClassConfig, "Error opening configuration%s", of).because(err)
	}
	env := newEnvironment(o.environment, maxConfigText)
	env.defined[uuidVariable] = "${" + uuidVariable + "}"
	env.defined[nicknameVariable] = "${" + nicknameVariable + "}"
	if !o.now.IsZero() {
		env.defined["NOW"] = o.now.UTC().Format(creationDateLayout)
	}
	s := newSection(configSchema, "")
	p := &configParser{lexer: newLexer(name, string(text), env), env: env, top: s, creating: true}
	if err := p.parse(); err != nil {
		return nil, errorf(ClassConfig, "Error parsing configuration%s", of).because(err)
	}
	for _, name := range []string{"meta-creation-date", "meta-uuid", "meta-nickname"} {
		s.drop(name)
	}
	return s, nil
}

// parseMetaConf reads the meta.conf of an archive without any variables but
// those that meta.conf itself and its identity give. Error classes are
// ClassMetaParse, with a *ConfigError as the cause, and ClassUUIDOverride.
func parseMetaConf(b []byte) (*section, error) {
	s, _, err := parseMetaConfIn(b, nil)
	return s, err
}

// metaSyntax is what the text of a meta.conf shows that its sections do not.
type metaSyntax struct {
	variables []string // that it asks of the environment, sorted
	cutOff    bool     // it ends inside of a section, a string or a comment
}

// parseMetaConfIn is parseMetaConf with variables, for applying: meta.conf may
// ask for the environment of the device. Never give it the environment of a
// server, whose secrets could then be read out of an archive's metadata.
func parseMetaConfIn(b []byte, environment func(string) (string, bool)) (*section, metaSyntax, error) {
	var syntax metaSyntax
	if len(b) < minMetaConf || len(b) > maxMetaConf {
		return nil, syntax, errorf(ClassMetaSize, "Unexpected meta.conf size: %d", len(b))
	}
	id := metaUUID(b)
	uuid, nick := formatUUID(id), nickname(id)
	env := newEnvironment(environment, maxMetaConfText)
	env.defined[uuidVariable], env.defined[nicknameVariable] = uuid, nick

	text, _, cut := bytes.Cut(b, []byte{0}) // as a string of C
	s := newSection(configSchema, "")
	p := &configParser{lexer: newLexer("[buf]", string(text), env), env: env, top: s}
	if err := p.parse(); err != nil {
		return nil, syntax, errorf(ClassMetaParse, "Unexpected error parsing meta.conf").because(err)
	}
	if s.has("meta-uuid") && s.str("meta-uuid") != uuid || s.has("meta-nickname") && s.str("meta-nickname") != nick ||
		env.defined[uuidVariable] != uuid || env.defined[nicknameVariable] != nick {
		return nil, syntax, errorf(ClassUUIDOverride,
			"meta.conf isn't allowed to change 'meta-uuid', 'meta-nickname', '$%s' or '$%s'", uuidVariable, nicknameVariable)
	}
	syntax.variables = slices.Sorted(maps.Keys(env.asked))
	syntax.cutOff = cut || p.cutOff || p.lexer.cutOff
	return s, syntax, nil
}

func readConfigFile(path string) ([]byte, error) {
	f, err := os.Open(expandHome(path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readConfigText(f)
}

func readConfigText(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxConfig+1))
	if err == nil && len(b) > maxConfig {
		err = fmt.Errorf("longer than %d bytes", maxConfig)
	}
	return b, err
}

// expandHome replaces a leading ~ or ~user by the home directory.
func expandHome(path string) string {
	if !strings.HasPrefix(path, "~") {
		return path
	}
	name, rest := path[1:], ""
	if i := strings.IndexByte(name, '/'); i >= 0 {
		name, rest = name[:i], name[i:]
	}
	if name == "" {
		if home, err := os.UserHomeDir(); err == nil {
			return home + rest
		}
	} else if u, err := user.Lookup(name); err == nil {
		return u.HomeDir + rest
	}
	return path
}

// dirOf returns the directory of a configuration file as it is written: errors
// show it so.
func dirOf(file string) string {
	switch i := strings.LastIndexByte(file, '/'); i {
	case -1:
		return "."
	case 0:
		return "/"
	default:
		return file[:i]
	}
}

// pathFrom returns a path that is relative to a directory.
func pathFrom(dir, path string) string {
	if strings.HasPrefix(path, "/") || strings.HasPrefix(path, "~") {
		return expandHome(path)
	}
	return expandHome(dir + "/" + path)
}

// include goes on with another file. Its path is relative to the file that
// includes it.
func (p *configParser) include(args []string) error {
	if len(args) != 1 {
		return configErrorf("'include' requires 1 parameters")
	}
	if !p.creating {
		return configErrorf("meta.conf isn't allowed to include files")
	}
	given := args[0]
	if given == "" {
		return configErrorf("Cannot include the contents of an undefined variable")
	}
	if p.lexer.depth() >= maxIncludes {
		return configErrorf("includes nested too deeply")
	}
	path := pathFrom(dirOf(p.lexer.source().file), given)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return configErrorf("Cannot include '%s': File not found", given)
	case err != nil:
		return configErrorf("Cannot include '%s': %w", given, err)
	case !info.Mode().IsRegular():
		return configErrorf("Cannot include '%s': Not a regular file", given)
	}
	text, err := readConfigFile(path)
	if err != nil {
		return configErrorf("Cannot include '%s': %w", given, err)
	}
	if p.env.left -= len(text); p.env.left < 0 {
		return configErrorf("Cannot include '%s': the configuration is too long", given)
	}
	p.lexer.push(path, string(text))
	return nil
}

// define runs define, define!, define-eval and define-eval!.
func (p *configParser) define(name string, args []string) error {
	if len(args) != 2 {
		return configErrorf("'%s' requires 2 parameters", name)
	}
	key, value := args[0], args[1]
	if strings.HasPrefix(name, "define-eval") {
		n, err := evaluate(value)
		if err != nil {
			return &ConfigError{Err: &evalError{text: value, err: err}}
		}
		value = formatInt(n)
	}
	return p.env.define(key, value, strings.HasSuffix(name, "!"))
}
