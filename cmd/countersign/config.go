package main

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"gopkg.in/yaml.v3"
)

// strictYAML reads a configuration file: a mapping from flag names (dashes kept, leading ones left out) to values. A key
// that no flag has is an error, because a misspelt security setting must not pass silently.
func strictYAML(r io.Reader) (kong.Resolver, error) {
	values := map[string]any{}
	dec := yaml.NewDecoder(r)
	if err := dec.Decode(&values); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the configuration file: %w", err)
	}
	if err := dec.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
		return nil, errors.New("the configuration file holds more than one YAML document; keep one")
	}
	return yamlResolver(values), nil
}

type yamlResolver map[string]any

// Validate refuses keys that no flag of any command has.
func (y yamlResolver) Validate(app *kong.Application) error {
	known := map[string]*kong.Flag{}
	_ = kong.Visit(app, func(n kong.Visitable, next kong.Next) error {
		if f, ok := n.(*kong.Flag); ok {
			known[f.Name] = f
		}
		return next(nil)
	})
	var unknown []string
	for key := range y {
		if known[key] == nil {
			unknown = append(unknown, key)
		} else if err := checkType(known[key], y[key]); err != nil {
			return err
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	return fmt.Errorf("configuration file: unknown setting %s; settings are named as flags, see 'countersign serve --help'", strings.Join(unknown, ", "))
}

// checkType refuses a value whose YAML type is not the flag's: a number where a text is meant may have been read as
// another number (0123 is 83), and a list where one value is meant is a mistake.
func checkType(flag *kong.Flag, value any) error {
	wrong := func(want string) error {
		return fmt.Errorf("configuration file: setting %s must be %s; put quotes around a text that looks like something else", flag.Name, want)
	}
	list, isList := value.([]any)
	if flag.IsSlice() {
		for _, item := range list {
			if _, ok := item.(string); !ok {
				return wrong("a list of texts")
			}
		}
		if _, isText := value.(string); !isList && !isText {
			return wrong("a list of texts")
		}
		return nil
	}
	var ok bool
	want := "a text"
	switch flag.Target.Kind() {
	case reflect.Bool:
		_, ok = value.(bool)
		want = "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint64:
		_, ok = value.(int)
		want = "a number"
		if _, isText := value.(string); isText { // such as a log level or a duration
			ok = true
		}
	default:
		_, ok = value.(string)
	}
	if !ok {
		return wrong(want)
	}
	return nil
}

// Resolve returns a flag's value from the file.
func (y yamlResolver) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	v, ok := y[flag.Name]
	if !ok {
		return nil, nil
	}
	if list, ok := v.([]any); ok {
		var parts []string
		for _, item := range list {
			parts = append(parts, kong.JoinEscaped([]string{fmt.Sprint(item)}, ','))
		}
		return strings.Join(parts, ","), nil
	}
	if _, ok := v.(map[string]any); ok {
		return nil, fmt.Errorf("configuration file: setting %s cannot be a mapping", flag.Name)
	}
	return fmt.Sprint(v), nil
}
