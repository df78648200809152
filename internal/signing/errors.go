package signing

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Kind says what sort of failure an [Error] is; each edge (REST, pages, command line) renders a kind in one place.
type Kind int

// The kinds of failure.
const (
	KindInvalid         Kind = iota + 1 // the request is wrong as sent: mend it
	KindUnauthenticated                 // no or unusable credentials
	KindForbidden                       // known caller, missing permission
	KindNotFound                        // no such object in the caller's organization
	KindConflict                        // the object's state or version does not allow it
	KindTooLarge                        // over a configured limit
	KindUnavailable                     // temporary: try again later
	KindGone                            // it existed; its bytes were deleted
)

// Error is the one error type that reaches users. Message and the field messages are safe to show: they name
// nothing that the caller may not know. The cause is for logs only.
type Error struct {
	Kind    Kind
	Message string
	// Fields holds messages by request field, in PascalCase as the wire contract wants ("SigningPolicySlug").
	Fields map[string][]string
	cause  error
}

// Error returns the message with its field messages.
func (e *Error) Error() string {
	if len(e.Fields) == 0 {
		return e.Message
	}
	var parts []string
	for _, name := range sortedKeys(e.Fields) {
		for _, m := range e.Fields[name] {
			if name == "" {
				parts = append(parts, m)
			} else {
				parts = append(parts, name+": "+m)
			}
		}
	}
	if e.Message == "" {
		return strings.Join(parts, "; ")
	}
	return e.Message + " (" + strings.Join(parts, "; ") + ")"
}

// Unwrap returns the cause, which must not be shown to users.
func (e *Error) Unwrap() error { return e.cause }

// Errorf makes an error of the given kind. A %w verb keeps its operand as the cause, and its text becomes part of the
// message: wrap only errors whose text is safe to show.
func Errorf(kind Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Message: err.Error(), cause: errors.Unwrap(err)}
}

// Invalid makes a KindInvalid error for one request field.
func Invalid(field, format string, args ...any) *Error {
	return &Error{
		Kind:    KindInvalid,
		Message: "One or more validation errors occurred.",
		Fields:  map[string][]string{field: {fmt.Sprintf(format, args...)}},
	}
}

// KindOf returns the kind of the first *Error in err's chain, or 0 when there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return 0
}

// validation collects field errors so that a caller learns of all of them at once.
type validation struct{ fields map[string][]string }

func (v *validation) add(field, format string, args ...any) {
	if v.fields == nil {
		v.fields = map[string][]string{}
	}
	v.fields[field] = append(v.fields[field], fmt.Sprintf(format, args...))
}

func (v *validation) err() error {
	if len(v.fields) == 0 {
		return nil
	}
	return &Error{Kind: KindInvalid, Message: "One or more validation errors occurred.", Fields: v.fields}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
