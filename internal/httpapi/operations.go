package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/signing"
)

// Config is what the operations are made of. All fields but Log are required.
type Config struct {
	Signing *signing.Service
	Auth    *auth.Service
	Version string                      // of the program, for Meta/SystemInfo
	Ready   func(context.Context) error // nil while the service can serve
	Log     *slog.Logger                // nil: discard
}

// New returns the operations of the contract on top of the domain, for [NewHandler].
func New(c Config) api.StrictServerInterface {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &service{
		systemOperations: systemOperations{version: c.Version, ready: c.Ready},
		signing:          c.Signing, auth: c.Auth, log: c.Log,
	}
}

// service implements the contract's operations; they stand in the files of their subjects. Each asks the domain as the
// exchange's actor, and the domain alone decides what that actor may.
type service struct {
	systemOperations
	signing *signing.Service
	auth    *auth.Service
	log     *slog.Logger
}

// authenticate makes the actor from the Authorization header, for the organization in the address.
func (s *service) authenticate(r *http.Request) (signing.Actor, error) {
	id, ok := signing.ParseID(r.PathValue("organizationId"))
	actor, err := s.auth.Authenticate(r.Context(), r.Header.Get("Authorization"), id)
	if err == nil && !ok { // only who has a token learns what is wrong with the address
		return signing.Actor{}, signing.Invalid("OrganizationId", "The address must name the organization by its GUID.")
	}
	return actor, err
}

// actorOf returns who asks.
func actorOf(ctx context.Context) signing.Actor { return exchangeOf(ctx).actor }

// requestID reads a signing request's id from the address. What is no GUID names no request.
func requestID(value string) (signing.ID, error) {
	id, ok := signing.ParseID(value)
	if !ok {
		return "", signing.Errorf(signing.KindNotFound, "There is no such signing request in this organization.")
	}
	return id, nil
}

// optionalTime returns the time, or the zero time, which answers leave out.
func optionalTime(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// timePointer is the inverse, for queries.
func timePointer(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
