package httpapi

import (
	"context"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/signing"
)

// systemOperations are the operations about the installation. They need no credentials.
type systemOperations struct {
	version string
	ready   func(context.Context) error // nil while the service can serve
}

// GetHealth answers 200 while the service can serve, else 503.
func (s systemOperations) GetHealth(ctx context.Context, _ api.GetHealthRequestObject) (api.GetHealthResponseObject, error) {
	if err := s.ready(ctx); err != nil {
		exchangeOf(ctx).log.Warn("not ready", "error", err)
		return nil, signing.Errorf(signing.KindUnavailable, "The service is not ready.")
	}
	return api.GetHealth200TextResponse("Healthy"), nil
}

// GetSystemInfo tells the version and where the pages are.
func (s systemOperations) GetSystemInfo(ctx context.Context, _ api.GetSystemInfoRequestObject) (api.GetSystemInfoResponseObject, error) {
	return api.GetSystemInfo200JSONResponse{
		Product: "Countersign",
		Version: s.version,
		WebURL:  exchangeOf(ctx).links.origin + "/",
	}, nil
}
