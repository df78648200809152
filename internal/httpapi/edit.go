package httpapi

import (
	"errors"
	"strings"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/signing"
)

// reply returns the response of an operation, or nothing but the error.
func reply[R any](response R, err error) (R, error) {
	if err != nil {
		var none R
		return none, err
	}
	return response, nil
}

// fieldRenamed gives a field of a validation error the name that it has in the request.
func fieldRenamed(err error, from, to string) error {
	var e *signing.Error
	if errors.As(err, &e) && e.Fields[from] != nil {
		e.Fields[to] = e.Fields[from]
		delete(e.Fields, from)
	}
	return err
}

// expected returns the version that a body without anything else names; none is 0, which is not checked.
func expected(body *api.ExpectedVersion) int {
	if body == nil {
		return 0
	}
	return body.Version
}

// deactivation returns what a body says, or nothing.
func deactivation(body *api.Deactivate) api.Deactivate { return overlay(body, api.Deactivate{}) }

// overlay returns the given value, or the current one when none is given.
func overlay[T any](given *T, current T) T {
	if given == nil {
		return current
	}
	return *given
}

// subjectsFrom reads subjects, their kinds in any case. Ids are canonical or, when they are no GUIDs, as they came: the domain finds nobody by them.
func subjectsFrom(list []api.Subject) []signing.Subject {
	out := make([]signing.Subject, 0, len(list))
	for _, s := range list {
		id := signing.ID(s.ID)
		if canonical, ok := signing.ParseID(s.ID); ok {
			id = canonical
		}
		kind := signing.SubjectKind(s.Kind)
		for _, known := range []signing.SubjectKind{signing.SubjectUser, signing.SubjectGroup} {
			if strings.EqualFold(string(known), string(kind)) {
				kind = known
			}
		}
		out = append(out, signing.Subject{Kind: kind, ID: id})
	}
	return out
}

// subjectsGiven is subjectsFrom for a list that may be absent.
func subjectsGiven(list *[]api.Subject) *[]signing.Subject {
	if list == nil {
		return nil
	}
	out := subjectsFrom(*list)
	return &out
}
