package artifact

import (
	"errors"
	"fmt"
	"strings"
)

// Namespace is the XML namespace of artifact configurations.
const Namespace = "http://signpath.io/artifact-configuration/v1"

// Configuration is a valid artifact configuration. It is immutable and safe for
// concurrent use.
type Configuration struct {
	parameters []ParameterDefinition
	strict     bool
}

// ConfigurationError is one mistake in a configuration.
type ConfigurationError struct {
	Line    int    `json:"line"`   // from 1
	Column  int    `json:"column"` // from 1, in bytes
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"` // what to do about it
}

func (e ConfigurationError) Error() string {
	s := fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// ConfigurationErrors are all mistakes found, in the order of the document.
type ConfigurationErrors []ConfigurationError

func (e ConfigurationErrors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return "artifact configuration: " + strings.Join(lines, "\n")
}

// ParseConfiguration reads and validates a configuration. Mistakes are reported
// all at once, as ConfigurationErrors. A configuration may name signing methods
// that this version does not have yet: see CheckAvailable.
func ParseConfiguration(xml []byte) (*Configuration, error) {
	return nil, errors.New("artifact: not implemented")
}

// CheckAvailable reports, as ConfigurationErrors, each use of a signing method,
// container format or restriction that this version does not have. Plan refuses
// such a configuration with the same errors; whoever stores configurations
// should do so when one is activated.
func (c *Configuration) CheckAvailable() error { return nil }

// RootType is the element name of the file type that artifacts have, such as "zip-file".
func (c *Configuration) RootType() string { return "" }

// Strict reports whether the configuration itself asks for strict mode.
func (c *Configuration) Strict() bool { return c.strict }

// UIMultifileUpload reports whether a web page should let people choose several
// files and submit them as one ZIP archive.
func (c *Configuration) UIMultifileUpload() bool { return false }
