package main

import (
	"errors"
	"fmt"
	"io"
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
	known := map[string]bool{}
	_ = kong.Visit(app, func(n kong.Visitable, next kong.Next) error {
		if f, ok := n.(*kong.Flag); ok {
			known[f.Name] = true
		}
		return next(nil)
	})
	var unknown []string
	for key := range y {
		if !known[key] {
			unknown = append(unknown, key)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	return fmt.Errorf("configuration file: unknown setting %s; settings are named as flags, see 'countersign serve --help'", strings.Join(unknown, ", "))
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
