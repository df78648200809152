package signing

import (
	"context"
	"encoding/json"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/internal/audit"
)

// Bounds of names and texts of managed objects.
const (
	maxName  = 200  // runes
	maxText  = 4000 // runes
	maxList  = 1000 // subjects, repositories, branches
	maxXML   = 1 << 20
	maxChain = 1 << 20 // bytes of an uploaded certificate file
)

const lettersAndDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// consistsOf reports whether a text has from 1 to most characters, and none but these of ASCII.
func consistsOf(text, characters string, most int) bool {
	return text != "" && len(text) <= most && strings.Trim(text, characters) == ""
}

func (v *validation) slug(field, slug string) {
	if !consistsOf(slug, lettersAndDigits+"._-", 100) || strings.ContainsAny(slug[:1], "._-") {
		v.add(field, "A slug is 1 to 100 letters, digits, '.', '_' or '-', and starts with a letter or digit.")
	}
}

func (v *validation) name(field, name string) {
	switch n := utf8.RuneCountInString(name); {
	case strings.TrimSpace(name) == "":
		v.add(field, "A name is required.")
	case n > maxName:
		v.add(field, "The name has %d characters; at most %d are allowed.", n, maxName)
	case strings.ContainsFunc(name, unicode.IsControl):
		v.add(field, "The name contains control characters.")
	}
}

// text checks a free text: bounded, and storable in every database.
func (v *validation) text(field, text string) {
	if n := utf8.RuneCountInString(text); n > maxText {
		v.add(field, "The text has %d characters; at most %d are allowed.", n, maxText)
	}
	if strings.ContainsRune(text, 0) || !utf8.ValidString(text) {
		v.add(field, "The text is not valid: it contains a NUL character or is not UTF-8.")
	}
}

// repositories checks repository URLs and returns them without user names that only a clone needs: one may be a token.
func (v *validation) repositories(field string, list []string) []string {
	if len(list) > maxList {
		v.add(field, "There are more than %d repositories.", maxList)
		return list
	}
	out := make([]string, 0, len(list))
	for _, raw := range list {
		bare := withoutUserInfo(raw)
		if u, err := url.Parse(raw); len(raw) > maxOriginField || repositoryKey(raw) == "" || (err == nil && u.User != nil && hasPassword(u)) {
			v.add(field, "'%s' is not a repository URL; give one like https://github.com/acme/app, without a password.", truncate(bare, 200))
		}
		out = append(out, bare)
	}
	return out
}

func hasPassword(u *url.URL) bool { _, has := u.User.Password(); return has }

// subjects checks that users and groups exist in the organization, and removes duplicates.
func (v *validation) subjects(ctx context.Context, tx Tx, org ID, field string, list []Subject) ([]Subject, error) {
	if len(list) > maxList {
		v.add(field, "There are more than %d users and groups.", maxList)
		return list, nil
	}
	out := make([]Subject, 0, len(list))
	for _, s := range list {
		if slices.Contains(out, s) {
			continue
		}
		out = append(out, s)
		var err error
		switch s.Kind {
		case SubjectUser:
			_, err = tx.User(ctx, org, s.ID)
		case SubjectGroup:
			_, err = tx.Group(ctx, org, s.ID)
		default:
			v.add(field, "'%s' is not a kind of subject: User or Group.", truncate(string(s.Kind), 40))
			continue
		}
		if KindOf(err) == KindNotFound {
			v.add(field, "There is no %s with id '%s'.", strings.ToLower(string(s.Kind)), s.ID)
		} else if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// edit is one change of one stored object.
type edit[T any] struct {
	event   string
	load    func(Tx) (*T, error)
	permit  func(Tx, *T) error
	apply   func(Tx, *T) error // changes and validates the object
	update  func(Tx, *T) error
	version int // as the caller read it; 0 does not check
	current func(*T) int
	object  func(*T) audit.Object
}

// run performs the edit in one transaction and records what differs, before and after. An edit that changes nothing
// stores and records nothing. The organization is locked, because an edit may rest on other objects too: the last
// administrator stays, a certificate's restrictions hold for its policies.
func (e edit[T]) run(ctx context.Context, s *Service, a Actor) (*T, error) {
	var t *T
	err := s.store.Tx(ctx, func(tx Tx) (err error) {
		if err := tx.LockOrganization(ctx, a.OrganizationID); err != nil {
			return err
		}
		if t, err = e.load(tx); err != nil {
			return err
		}
		if err := e.permit(tx, t); err != nil {
			return err
		}
		if e.version != 0 && e.version != e.current(t) {
			return Errorf(KindConflict, "Somebody else changed this meanwhile (version %d, you edited version %d): load it again and repeat your change.", e.current(t), e.version)
		}
		before, err := fields(t)
		if err != nil {
			return err
		}
		if err := e.apply(tx, t); err != nil {
			return err
		}
		after, err := fields(t)
		if err != nil {
			return err
		}
		was, is := difference(before, after)
		if len(is) == 0 && len(was) == 0 {
			return nil
		}
		if err := e.update(tx, t); err != nil {
			return err
		}
		return s.record(ctx, tx, a, e.event, e.object(t), map[string]any{"before": was, "after": is})
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// all calls what a caller wants done with a new object, in its transaction.
func all[T any](tx Tx, object *T, with []func(Tx, *T) error) error {
	for _, fn := range with {
		if err := fn(tx, object); err != nil {
			return err
		}
	}
	return nil
}

// fields returns an object's JSON members.
func fields(v any) (map[string]any, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	return m, json.Unmarshal(raw, &m)
}

// difference keeps the members that differ.
func difference(before, after map[string]any) (was, is map[string]any) {
	was, is = map[string]any{}, map[string]any{}
	for k, v := range before {
		if !reflect.DeepEqual(v, after[k]) {
			was[k] = v
		}
	}
	for k, v := range after {
		if !reflect.DeepEqual(v, before[k]) {
			is[k] = v
		}
	}
	return was, is
}

// set assigns where a new value is given.
func set[T any](target *T, value *T) {
	if value != nil {
		*target = *value
	}
}
