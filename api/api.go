// Package api is the REST contract: the OpenAPI document and the types, strict server and client that are generated
// from it.
//
// openapi.yaml is written by hand and comes first; run "make generate" after changing it. Package httpapi implements
// [StrictServerInterface], package client builds on [Client].
package api

import _ "embed"

//go:generate go tool -modfile=../tools/go.mod oapi-codegen -config oapi-types.yaml openapi.yaml
//go:generate go tool -modfile=../tools/go.mod oapi-codegen -config oapi-server.yaml openapi.yaml
//go:generate go tool -modfile=../tools/go.mod oapi-codegen -config oapi-client.yaml openapi.yaml

// OpenAPI is the OpenAPI 3.0 document, YAML. Its paths are relative to the server path /Api. Do not change it.
//
//go:embed openapi.yaml
var OpenAPI []byte
