package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/signing"
)

// planResponse answers with a plan as the engine spells it, which is as the contract does.
type planResponse struct{ plan any }

// VisitPlanArtifactResponse writes the answer.
func (p planResponse) VisitPlanArtifactResponse(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", mediaJSON)
	return json.NewEncoder(w).Encode(p.plan)
}

// PlanArtifact says what would be signed, without signing.
func (s *service) PlanArtifact(ctx context.Context, r api.PlanArtifactRequestObject) (api.PlanArtifactResponseObject, error) {
	a := actorOf(ctx)
	files := &staging{ctx: ctx, service: s.signing, actor: a}
	defer files.discard()
	f, err := readForm(r.Body, map[string]fileSink{fieldArtifact: files.takeArtifact})
	if err != nil {
		return nil, err
	}
	strict, err := f.boolean("strict")
	if err != nil {
		return nil, err
	}
	plan, err := s.signing.Plan(ctx, a, signing.PlanQuery{
		ProjectSlug: r.ProjectSlug, ConfigurationSlug: f.text("artifactConfigurationSlug"), XML: f.text("artifactConfigurationXml"),
		Parameters: f.parameters, Strict: strict, Artifact: files.artifact,
	})
	if err != nil {
		return nil, err
	}
	return planResponse{plan}, nil
}

// AnalyzeArtifact proposes an artifact configuration for a sample.
func (s *service) AnalyzeArtifact(ctx context.Context, r api.AnalyzeArtifactRequestObject) (api.AnalyzeArtifactResponseObject, error) {
	a := actorOf(ctx)
	files := &staging{ctx: ctx, service: s.signing, actor: a}
	defer files.discard()
	if _, err := readForm(r.Body, map[string]fileSink{fieldArtifact: files.takeArtifact}); err != nil {
		return nil, err
	}
	text, err := s.signing.Analyze(ctx, a, files.artifact)
	if err != nil {
		return nil, err
	}
	return api.AnalyzeArtifact200ApplicationXMLResponse{Body: bytes.NewReader(text), ContentLength: int64(len(text))}, nil
}

// ListArtifactConfigurationTemplates lists artifact configurations to start from.
func (s *service) ListArtifactConfigurationTemplates(context.Context, api.ListArtifactConfigurationTemplatesRequestObject) (api.ListArtifactConfigurationTemplatesResponseObject, error) {
	answer := api.ListArtifactConfigurationTemplates200JSONResponse{}
	for _, t := range s.signing.Templates() {
		answer = append(answer, api.ArtifactConfigurationTemplate{Name: t.Name, Title: t.Title, Description: t.Description, ArtifactConfigurationXML: t.XML, IsAvailable: t.Available})
	}
	return answer, nil
}

// GetArtifactConfigurationSchema sends the XML schema of artifact configurations.
func (*service) GetArtifactConfigurationSchema(context.Context, api.GetArtifactConfigurationSchemaRequestObject) (api.GetArtifactConfigurationSchemaResponseObject, error) {
	schema := api.ArtifactConfigurationXSD
	return api.GetArtifactConfigurationSchema200ApplicationXMLResponse{Body: bytes.NewReader(schema), ContentLength: int64(len(schema))}, nil
}
