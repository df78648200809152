package artifact

import (
	"context"
	"errors"
)

// AnalyzeOptions say how to analyze. The zero value is usable.
type AnalyzeOptions struct {
	Workspace
	Trust Trust // a signature that is valid under it becomes a verify directive
}

// Analyze writes a configuration for artifacts like the sample: signable files
// found by their content, those that others signed to be verified, version
// numbers as wildcards, similar directories as sets. It is a proposal for
// people to read: comments say what was guessed. The sample fits it.
func Analyze(ctx context.Context, src Source, opts AnalyzeOptions) ([]byte, error) {
	return nil, errors.New("artifact: not implemented")
}

// Template is a configuration to start from.
type Template struct {
	Name        string `json:"name"`  // such as "pe-file-in-zip"
	Title       string `json:"title"` // for people
	Description string `json:"description"`
	XML         string `json:"xml"`
}

// Templates lists configurations to start from, for each file type.
func Templates() []Template { return nil }
