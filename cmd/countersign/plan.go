package main

import (
	"context"
	"fmt"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/artifact"
)

type planCmd struct {
	configurationFlags
	trustFlags
	parameters
	engineLimits
	machine
	Artifact string `arg:"" help:"The file that would be signed." type:"existingfile"`
}

// Help is shown by kong.
func (*planCmd) Help() string {
	return `Shows what would be signed, verified and left alone, and why, as a tree. Nothing is signed.

    countersign plan --config config.xml --param version=1.4.0 app.zip

--json writes artifactSha256, configurationSha256, parameters, strict, root (a tree of path, type, size, action, reason, rule, directives, files) and violations (code, path, rule, line, column, message, hint).` +
		localExitCodes("the artifact does not fit its configuration")
}

// Validate is called by kong.
func (p *planCmd) Validate() error { return p.check() }

// Run plans.
func (p *planCmd) Run(ctx context.Context, io console) error {
	trust, err := p.trust()
	if err != nil {
		return err
	}
	src, done, err := openSource(p.Artifact)
	if err != nil {
		return err
	}
	defer done()
	plan, err := p.plan(ctx, src, artifact.PlanOptions{Workspace: p.workspace(), Parameters: p.Param, Strict: p.Strict, Trust: trust})
	if err != nil {
		return err
	}
	if p.JSON {
		err = writeJSON(io.out, plan)
	} else {
		err = plan.WriteText(io.out, colour(io.out))
	}
	if err != nil {
		return err
	}
	if len(plan.Violations) > 0 {
		return &exitError{code: exitFailure}
	}
	return nil
}

type analyzeCmd struct {
	trustFlags
	engineLimits
	Artifact string `arg:"" help:"A sample of what will be signed." type:"existingfile"`
}

// Help is shown by kong.
func (*analyzeCmd) Help() string {
	return `Writes an artifact configuration for artifacts like the sample to standard output: a proposal, with comments on what to check. Files are told by their content; those that others signed are verified, version numbers become wildcards.

    countersign analyze app-1.4.0.zip > config.xml
    countersign plan --config config.xml app-1.4.0.zip` + localExitCodes("the file cannot be read")
}

// Validate is called by kong.
func (a *analyzeCmd) Validate() error { return a.check() }

// Run analyzes.
func (a *analyzeCmd) Run(ctx context.Context, io console) error {
	trust, err := a.trust()
	if err != nil {
		return err
	}
	src, done, err := openSource(a.Artifact)
	if err != nil {
		return err
	}
	defer done()
	text, err := artifact.Analyze(ctx, src, artifact.AnalyzeOptions{Workspace: a.workspace(), Trust: trust})
	if err != nil {
		return fmt.Errorf("analyze %s: %w", a.Artifact, err)
	}
	_, err = io.out.Write(text)
	return err
}

type schemaCmd struct{}

// Help is shown by kong.
func (schemaCmd) Help() string {
	return `Writes the XML schema (XSD 1.0) of artifact configurations to standard output, for editors and validators:

    countersign schema > artifact-configuration.xsd
    xmllint --noout --schema artifact-configuration.xsd config.xml`
}

// Run writes the schema.
func (schemaCmd) Run(io console) error {
	_, err := io.out.Write(api.ArtifactConfigurationXSD)
	return err
}
