package signing_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/signing"
)

func TestWebhookSettings(t *testing.T) {
	t.Parallel()
	o := &outside{}
	w := newWorld(t, withMessages(o))
	ctx := t.Context()
	h, secret, err := w.CreateWebhook(ctx, w.Admin, signing.WebhookEdit{Name: ptr("Release system"), URL: ptr("https://hooks.example/a?b=c"), HeaderValue: ptr("Bearer t0p-s3cret")})
	if err != nil {
		t.Fatal(err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if !strings.HasPrefix(secret, "whsec_") || err != nil || len(key) != 32 || h.HeaderName != "Authorization" || h.HeaderChangedAt == nil || !h.Active {
		t.Errorf("secret %q, webhook %+v, %v", secret, h, err)
	}
	call := func() signing.WebhookCall {
		t.Helper()
		d, err := w.TestWebhook(ctx, w.Admin, h.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Deliver(ctx, d.ID); err != nil {
			t.Fatal(err)
		}
		return o.calls[len(o.calls)-1]
	}
	c := call()
	if c.URL != h.URL || c.HeaderName != "Authorization" || c.HeaderValue != "Bearer t0p-s3cret" || string(c.Secret) != string(key) ||
		string(c.Body) != `{"OrganizationId":"`+string(w.Admin.OrganizationID)+`","SigningRequestId":"00000000-0000-0000-0000-000000000000","Status":"Test"}` {
		t.Errorf("call %+v, body %s", c, c.Body)
	}

	// Another header, another path, then another secret.
	if h, err = w.EditWebhook(ctx, w.Admin, h.ID, signing.WebhookEdit{HeaderName: ptr("X-Api-Key"), HeaderValue: ptr("k3y-v4lue"), URL: ptr("https://HOOKS.example/b"), Version: h.Version}); err != nil {
		t.Fatal(err)
	}
	_, err = w.EditWebhook(ctx, w.Admin, h.ID, signing.WebhookEdit{Name: ptr("late"), Version: 1})
	wantKind(t, err, signing.KindConflict)
	h, rotated, err := w.RotateWebhookSecret(ctx, w.Admin, h.ID, h.Version)
	if err != nil || rotated == secret {
		t.Fatalf("%q, %v", rotated, err)
	}
	if c = call(); c.HeaderName != "X-Api-Key" || c.HeaderValue != "k3y-v4lue" || "whsec_"+base64.StdEncoding.EncodeToString(c.Secret) != rotated {
		t.Errorf("call %+v", c)
	}
	// A value that was entered for one host does not go to another unless it is entered again.
	_, err = w.EditWebhook(ctx, w.Admin, h.ID, signing.WebhookEdit{URL: ptr("https://mallory.example/b")})
	wantKind(t, err, signing.KindInvalid)
	if h, err = w.EditWebhook(ctx, w.Admin, h.ID, signing.WebhookEdit{URL: ptr("https://other.example/b"), HeaderValue: ptr("")}); err != nil || h.HeaderName != "" {
		t.Fatalf("%+v, %v", h, err)
	}
	if c = call(); c.URL != "https://other.example/b" || c.HeaderName != "" || c.HeaderValue != "" {
		t.Errorf("call %+v", c)
	}

	if events := w.events(t, h.ID); !slices.Equal(events, []string{"Webhook.Created", "Webhook.Tested", "Webhook.Edited", "Webhook.Edited", "Webhook.Tested", "Webhook.Edited", "Webhook.Tested"}) {
		t.Errorf("audit entries %v", events)
	}
	if err := w.DeleteWebhook(ctx, w.Admin, h.ID); err != nil {
		t.Fatal(err)
	}
	if list, err := w.Webhooks(ctx, w.Admin); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	// The secrets are nowhere in clear: neither in the audit log nor anywhere else in the database's files.
	secrets := []string{"t0p-s3cret", "k3y-v4lue", secret, rotated, strings.TrimPrefix(secret, "whsec_"), string(key)}
	leaves, err := w.AuditEntries(ctx, w.Admin, signing.AuditFilter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	absent := func(where, text string) {
		for _, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("%s holds a secret in clear", where)
			}
		}
	}
	for _, l := range leaves {
		e, err := audit.Decode(l.Data)
		if err != nil {
			t.Fatal(err)
		}
		absent("audit entry "+e.Event, string(l.Data))
	}
	files, err := filepath.Glob(filepath.Join(w.dir, "db*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		absent(filepath.Base(f), string(raw))
	}
}

func TestWebhookIsChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withMessages(&outside{}))
	ctx := t.Context()
	h := w.hook(t, "taken")
	good := signing.WebhookEdit{Name: ptr("n"), URL: ptr("https://hooks.example/"), HeaderValue: ptr("v")}
	for name, change := range map[string]func(*signing.WebhookEdit){
		"no name":          func(e *signing.WebhookEdit) { e.Name = nil },
		"name taken":       func(e *signing.WebhookEdit) { e.Name = ptr("TAKEN") },
		"no URL":           func(e *signing.WebhookEdit) { e.URL = nil },
		"not https":        func(e *signing.WebhookEdit) { e.URL = ptr("http://hooks.example/") },
		"long URL":         func(e *signing.WebhookEdit) { e.URL = ptr("https://hooks.example/" + strings.Repeat("x", 5000)) },
		"header injection": func(e *signing.WebhookEdit) { e.HeaderValue = ptr("v\r\nX: y") },
		"blank at the end": func(e *signing.WebhookEdit) { e.HeaderValue = ptr("v ") },
		"not ASCII":        func(e *signing.WebhookEdit) { e.HeaderValue = ptr("ä") },
		"long value":       func(e *signing.WebhookEdit) { e.HeaderValue = ptr(strings.Repeat("x", 9000)) },
		"header name":      func(e *signing.WebhookEdit) { e.HeaderName = ptr("a b") },
		"reserved":         func(e *signing.WebhookEdit) { e.HeaderName = ptr("Webhook-Signature") },
		"host header":      func(e *signing.WebhookEdit) { e.HeaderName = ptr("HOST") },
	} {
		e := good
		change(&e)
		if _, _, err := w.CreateWebhook(ctx, w.Admin, e); signing.KindOf(err) != signing.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
		e.Name = nil
		if _, err := w.EditWebhook(ctx, w.Admin, h.ID, e); signing.KindOf(err) != signing.KindInvalid && !slices.Contains([]string{"no name", "name taken", "no URL"}, name) {
			t.Errorf("%s, edited: %v", name, err)
		}
	}
	for i := range 49 {
		w.hook(t, strings.Repeat("x", i+1))
	}
	_, _, err := w.CreateWebhook(ctx, w.Admin, good)
	wantKind(t, err, signing.KindConflict)

	without := newWorld(t)
	if _, _, err := without.CreateWebhook(ctx, without.Admin, good); err == nil {
		t.Error("a server that calls no webhooks made one")
	}
}

// TestWebhookPermissions walks all operations on webhooks with all roles.
func TestWebhookPermissions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withMessages(&outside{}))
	ctx := t.Context()
	h := w.hook(t, "h")
	d, err := w.TestWebhook(ctx, w.Admin, h.ID)
	if err != nil {
		t.Fatal(err)
	}
	operations := map[string]func(a signing.Actor) error{
		"create": func(a signing.Actor) error {
			_, _, err := w.CreateWebhook(ctx, a, signing.WebhookEdit{Name: ptr(string(signing.NewID())), URL: ptr("https://hooks.example/")})
			return err
		},
		"edit": func(a signing.Actor) error {
			_, err := w.EditWebhook(ctx, a, h.ID, signing.WebhookEdit{})
			return err
		},
		"rotate": func(a signing.Actor) error {
			_, _, err := w.RotateWebhookSecret(ctx, a, h.ID, 0)
			return err
		},
		"list":       func(a signing.Actor) error { _, err := w.Webhooks(ctx, a); return err },
		"get":        func(a signing.Actor) error { _, err := w.Webhook(ctx, a, h.ID); return err },
		"deliveries": func(a signing.Actor) error { _, err := w.Deliveries(ctx, a, signing.DeliveryQuery{}); return err },
		"redeliver":  func(a signing.Actor) error { _, err := w.Redeliver(ctx, a, d.ID); return err },
		"test":       func(a signing.Actor) error { _, err := w.TestWebhook(ctx, a, h.ID); return err },
	}
	about := []string{"edit", "rotate", "get", "redeliver", "test"} // one webhook or delivery
	for name, operate := range operations {
		for _, role := range signing.Roles {
			for _, kind := range []signing.UserKind{signing.Interactive, signing.CI} {
				a := w.Approver
				a.Roles, a.Kind = []signing.Role{role}, kind
				want := signing.KindForbidden
				if role == signing.GlobalAdministrator {
					want = 0
				}
				if err := operate(a); signing.KindOf(err) != want {
					t.Errorf("%s as %s %s: %v", name, kind, role, err)
				}
			}
		}
		want := signing.Kind(0)
		if slices.Contains(about, name) {
			want = signing.KindNotFound
		}
		if err := operate(w.Foreigner); signing.KindOf(err) != want {
			t.Errorf("%s by another organization's administrator: %v", name, err)
		}
		if err := operate(signing.Countersign(w.Admin.OrganizationID)); signing.KindOf(err) != signing.KindForbidden {
			t.Errorf("%s by the system: %v", name, err)
		}
	}
	wantKind(t, w.DeleteWebhook(ctx, w.Foreigner, h.ID), signing.KindNotFound)
	wantKind(t, w.DeleteWebhook(ctx, w.Approver, h.ID), signing.KindForbidden)
	if list, err := w.Deliveries(ctx, w.Foreigner, signing.DeliveryQuery{}); err != nil || len(list.Items) != 0 {
		t.Errorf("another organization sees %v, %v", list, err)
	}
}
