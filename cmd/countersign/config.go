package main

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"gopkg.in/yaml.v3"
)

// settings is a configuration file: a mapping from flag names (dashes kept, leading ones left out) to values, in the file's
// order. A key that no flag has is an error, because a misspelt security setting must not pass silently.
type settings struct {
	file string
	list []setting
}

type setting struct {
	name  string
	line  int
	value *yaml.Node
}

// errorf says what is wrong in a line of the file.
func (s *settings) errorf(line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: "+format, append([]any{s.file, line}, args...)...)
}

// readSettings reads a configuration file, strictly.
func readSettings(r io.Reader, app *kong.Application) (*settings, error) {
	s := &settings{file: "the configuration file"}
	if f, ok := r.(interface{ Name() string }); ok {
		s.file = f.Name()
	}
	var doc yaml.Node
	dec := yaml.NewDecoder(r)
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF): // nothing but comments
		return s, nil
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", s.file, err)
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s holds more than one YAML document; keep one", s.file)
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, s.errorf(root.Line, "expected settings, one a line, such as 'listen: 127.0.0.1:8480'")
	}
	lines := map[string]int{}
	for i := 0; i < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if first := lines[key.Value]; first != 0 {
			return nil, s.errorf(key.Line, "setting %s is in line %d already", key.Value, first)
		}
		lines[key.Value] = key.Line
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		s.list = append(s.list, setting{key.Value, key.Line, value})
	}
	return s, s.check(app)
}

// check refuses settings that no command with a configuration file has, and values that are not the flag's.
func (s *settings) check(app *kong.Application) error {
	known := map[string]*kong.Flag{}
	for _, command := range app.Leaves(false) {
		if slices.ContainsFunc(command.Flags, func(f *kong.Flag) bool { return f.Name == "config" }) {
			for _, f := range command.Flags {
				known[f.Name] = f
			}
		}
	}
	delete(known, "config")
	var problems []error
	for _, x := range s.list {
		if flag := known[x.name]; flag == nil {
			problems = append(problems, s.errorf(x.line, "unknown setting %s; settings are named as flags, see 'countersign serve --help'", x.name))
		} else if err := x.check(flag); err != nil {
			problems = append(problems, s.errorf(x.line, "setting %s %w", x.name, err))
		}
	}
	return errors.Join(problems...)
}

// check refuses a value whose YAML type is not the flag's, because a number where a text is meant may have been read as
// another number (0123 is 83), and a value that the flag does not take.
func (x setting) check(flag *kong.Flag) error {
	const quotes = "; put quotes around a text that looks like something else"
	is := func(tag string) bool { return x.value.ShortTag() == tag }
	switch kind := flag.Target.Kind(); {
	case flag.IsSlice():
		text := func(n *yaml.Node) bool { return n.ShortTag() == "!!str" }
		if !text(x.value) && (x.value.Kind != yaml.SequenceNode || !all(x.value.Content, text)) {
			return errors.New("must be a list of texts" + quotes)
		}
	case kind == reflect.Bool:
		if !is("!!bool") {
			return errors.New("must be true or false")
		}
	case kind >= reflect.Int && kind <= reflect.Uint64 && !namesNumber(flag):
		if !is("!!int") {
			return errors.New("must be a whole number")
		}
	case !is("!!str"):
		return errors.New("must be a text" + quotes)
	}
	text, err := x.text()
	if err != nil {
		return err
	}
	if enum := enumOf(flag.Value); enum != nil && !slices.Contains(enum, text) {
		return fmt.Errorf("must be one of %s", strings.Join(enum, ", "))
	}
	scratch := reflect.New(flag.Target.Type()).Elem()
	if err := flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: kong.Scan().PushTyped(text, kong.FlagValueToken)}, scratch); err != nil {
		return fmt.Errorf("is not valid: %w", err)
	}
	return nil
}

// namesNumber tells whether people write a flag's number as a text, such as a log level or a duration.
func namesNumber(flag *kong.Flag) bool {
	_, ok := flag.Target.Addr().Interface().(encoding.TextUnmarshaler)
	return ok || flag.Target.Type() == reflect.TypeFor[time.Duration]()
}

func all[T any](list []T, is func(T) bool) bool {
	return !slices.ContainsFunc(list, func(x T) bool { return !is(x) })
}

// text returns the value as it would stand on the command line.
func (x setting) text() (string, error) {
	if x.value.Kind == yaml.SequenceNode {
		var items []string
		err := x.value.Decode(&items)
		return kong.JoinEscaped(items, ','), err
	}
	var v any
	err := x.value.Decode(&v)
	return fmt.Sprint(v), err
}

// Validate has nothing left to do.
func (*settings) Validate(*kong.Application) error { return nil }

// Resolve returns a flag's value from the file, unless the environment has one: what was set for one start wins over what
// was written down for all.
func (s *settings) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			return nil, nil
		}
	}
	for _, x := range s.list {
		if x.name == flag.Name {
			return x.text()
		}
	}
	return nil, nil
}
