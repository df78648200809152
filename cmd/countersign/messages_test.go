package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/artifact/authenticode/petest"
	"github.com/countersign-dev/countersign/internal/notify/smtptest"
	"github.com/countersign-dev/countersign/internal/signing"
)

// TestMessages runs a whole server, less its listener: approvers get mail through a mail server, once more when an approval fell
// with a change of the policy, the request is approved and signed, its submitter gets mail, and a webhook's receiver, which fails
// first, is called.
func TestMessages(t *testing.T) {
	t.Parallel()
	mails := smtptest.Start(t, func(s *smtptest.Server) { s.OffersTLS = false })
	type call struct {
		body   string
		header http.Header
	}
	calls := make(chan call, 10)
	first := true
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if first { // calls come one after another
			first = false
			w.WriteHeader(http.StatusInternalServerError)
		}
		calls <- call{string(body), r.Header}
	}))
	t.Cleanup(receiver.Close)

	s := storage{Data: t.TempDir()}
	w := work{ArtifactLimit: 1 << 20, AllowPrivate: true, AllowHTTP: true, messages: messages{MailServer: "smtp://" + mails.Addr + "?tls=none", MailFrom: "Countersign <sign@example.com>"}}
	ctx, cancel := context.WithCancel(t.Context())
	sys, err := open(ctx, s, w, slog.New(slog.DiscardHandler), []string{"https://sign.example.com"}, embedded{})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- sys.runWorker(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		sys.close(context.Background())
	})

	_, admin, err := sys.signing.Bootstrap(ctx, "Acme", "Ada", "ada@acme.example")
	if err != nil {
		t.Fatal(err)
	}
	ada := userActor(admin)
	check := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	text := func(s string) *string { return &s }
	grace, err := sys.signing.CreateUser(ctx, ada, signing.NewUser{Kind: signing.Interactive, Name: "Grace", Email: "grace@acme.example"})
	check(grace, err)
	check(sys.signing.CreateSelfSigned(ctx, ada, signing.NewCertificate{Slug: "c", Subject: "CN=Acme", KeyAlgorithm: "ECDSA-P256"}))
	check(sys.signing.CreateProject(ctx, ada, signing.ProjectEdit{Slug: text("app"), Name: text("App")}))
	check(sys.signing.CreateConfiguration(ctx, ada, "app", signing.ConfigurationEdit{Slug: text("exe"), Name: text("exe"),
		XML: text(`<artifact-configuration xmlns="http://signpath.io/artifact-configuration/v1"><pe-file><authenticode-sign/></pe-file></artifact-configuration>`)}))
	subjects := func(users ...*signing.User) *[]signing.Subject {
		var list []signing.Subject
		for _, u := range users {
			list = append(list, signing.Subject{Kind: signing.SubjectUser, ID: u.ID})
		}
		return &list
	}
	check(sys.signing.CreatePolicy(ctx, ada, "app", signing.PolicyEdit{Slug: text("release"), Name: text("Release"), CertificateSlug: text("c"),
		Submitters: subjects(admin), Approvers: subjects(grace, admin), Rules: &signing.PolicyRules{RequiredApprovals: 2}}))
	hook, _, err := sys.signing.CreateWebhook(ctx, ada, signing.WebhookEdit{Name: text("h"), URL: &receiver.URL, HeaderValue: text("Bearer xyz")})
	check(hook, err)

	staged, err := sys.signing.Stage(ctx, ada, "app.exe", bytes.NewReader(petest.Image{}.Bytes()))
	check(staged, err)
	r, _, err := sys.signing.Submit(ctx, ada, signing.Submission{Target: signing.Target{ProjectSlug: "app", PolicySlug: "release"}, Artifact: staged})
	check(r, err)
	link := "https://sign.example.com/Web/" + string(r.OrganizationID) + "/SigningRequests/" + string(r.ID)
	read := 0
	wantMail := func(subject string, to ...string) {
		t.Helper()
		all := mails.Wait(t, read+len(to))[read:]
		read += len(to)
		for _, address := range to {
			i := slices.IndexFunc(all, func(m smtptest.Mail) bool { return strings.HasPrefix(m.To, "TO:<"+address+">") })
			if i < 0 || !strings.Contains(all[i].Data, "Subject: "+subject+": app.exe, App / Release") || !strings.Contains(strings.ReplaceAll(all[i].Data, "=\r\n", ""), link) {
				t.Errorf("mails to %s about %s: %+v", address, subject, all)
			}
		}
	}
	wantMail("Approval requested", "grace@acme.example", "ada@acme.example")
	check(sys.signing.Approve(ctx, userActor(grace), r.ID, "tested"))
	check(sys.signing.EditPolicy(ctx, ada, "app", "release", signing.PolicyEdit{Rules: &signing.PolicyRules{RequiredApprovals: 2, StrictConfiguration: true}}))
	wantMail("Approval requested again", "grace@acme.example", "ada@acme.example")
	check(sys.signing.Approve(ctx, userActor(grace), r.ID, "tested"))
	check(sys.signing.Approve(ctx, ada, r.ID, "tested"))
	wantMail("Signed", "ada@acme.example")

	next := func() call {
		t.Helper()
		select {
		case c := <-calls:
			return c
		case <-time.After(30 * time.Second):
			t.Fatal("the webhook was not called")
			panic("unreachable")
		}
	}
	one := next()
	want := `{"OrganizationId":"` + string(r.OrganizationID) + `","SigningRequestId":"` + string(r.ID) + `","Status":"Completed"}`
	if one.body != want || one.header.Get("Authorization") != "Bearer xyz" || !strings.HasPrefix(one.header.Get("webhook-signature"), "v1,") {
		t.Errorf("call %s %v", one.body, one.header)
	}
	// It is tried again by itself after five seconds, or at once by hand.
	var d *signing.Delivery
	for range 1000 {
		page, err := sys.signing.Deliveries(ctx, ada, signing.DeliveryQuery{ReceiverID: hook.ID})
		check(page, err)
		if d, err = sys.signing.Redeliver(ctx, ada, page.Items[0].ID); signing.KindOf(err) != signing.KindConflict { // while the first attempt is being recorded
			check(d, err)
			break
		}
	}
	two := next()
	if two.body != want || two.header.Get("webhook-id") != one.header.Get("webhook-id") || string(d.ID) != one.header.Get("webhook-id") {
		t.Errorf("call %s %v", two.body, two.header)
	}
}

func TestMailServerIsChecked(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]messages{
		"no sender":     {MailServer: "smtp://mail.example"},
		"not a server":  {MailServer: "mail.example", MailFrom: "a@b.example"},
		"no public URL": {MailServer: "smtp://mail.example", MailFrom: "a@b.example"},
	} {
		if _, err := m.mailer(nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if sender, err := (messages{}).mailer(nil); sender != nil || err != nil {
		t.Errorf("without a server: %v, %v", sender, err)
	}
}
