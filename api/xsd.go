package api

import _ "embed"

// ArtifactConfigurationXSD is the XML schema of artifact configurations
// (package artifact), for editors and validators.
//
//go:embed artifact-configuration.xsd
var ArtifactConfigurationXSD []byte
