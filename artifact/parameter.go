package artifact

import (
	"errors"
	"strings"
)

// ParameterDefinition declares a parameter of signing requests.
type ParameterDefinition struct {
	Name     string  `json:"name"`
	Default  *string `json:"default,omitempty"` // nil for none
	Required bool    `json:"required"`          // a request must give a value, unless there is a default
}

// ParameterError is a parameter of a request that does not fit the configuration.
type ParameterError struct {
	Name    string `json:"name"`
	Message string `json:"message"`
}

func (e ParameterError) Error() string { return "parameter " + e.Name + ": " + e.Message }

// ParameterErrors are all of them, sorted by name.
type ParameterErrors []ParameterError

func (e ParameterErrors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Parameters lists the parameters in the order of the document.
func (c *Configuration) Parameters() []ParameterDefinition { return c.parameters }

// ResolveParameters returns a value for each declared parameter: the given one,
// or else the default, or else the empty string when the parameter is not
// required. Names are matched without regard to case; the result has them as
// declared. Unknown, ambiguous, missing and malformed ones are ParameterErrors.
func (c *Configuration) ResolveParameters(given map[string]string) (map[string]string, error) {
	return nil, errors.New("artifact: not implemented")
}
