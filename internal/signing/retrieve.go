package signing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Upload announces an artifact that its submitter uploads once the request was accepted.
type Upload struct {
	FileName string
	SHA256   string // lower- or upper-case hexadecimal; empty accepts any content
}

// Link says where an artifact is to be retrieved from.
type Link struct {
	URL      string
	FileName string
	SHA256   string            // lower- or upper-case hexadecimal; empty accepts any content
	Headers  map[string]string // sent with the request
}

// target is what a retrieval asks for: the part of a link that is sealed at rest.
type target struct {
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers,omitempty"`
}

// Bounds of a link.
const (
	maxURL         = 4000 // bytes
	maxHeaders     = 20
	maxHeaderValue = 8000 // bytes
)

// isHeaderName reports whether a header may have the name: a token of RFC 9110, section 5.6.2.
func isHeaderName(name string) bool { return consistsOf(name, lettersAndDigits+"!#$%&'*+.^_`|~-", 100) }

// transportHeaders are about the connection, not about the artifact (RFC 9110, section 7.6.1); what is sent of them is ours.
var transportHeaders = []string{"host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect", "keep-alive", "proxy-authorization", "proxy-connection"}

// isControl reports what no header value may hold (RFC 9110, section 5.5).
func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// artifactOf returns what a submission says of its artifact.
func (s *Service) artifactOf(ctx context.Context, sub Submission) (Artifact, *Retrieval, error) {
	switch {
	case sub.Artifact != nil:
		return sub.Artifact.artifact, nil, nil
	case sub.Upload != nil:
		hash, err := checkHash("UnsignedArtifactMetadata.Sha256Hash", sub.Upload.SHA256)
		return Artifact{FileName: cleanFileName(sub.Upload.FileName)}, &Retrieval{SHA256: hash}, err
	case sub.Link != nil:
		return s.link(ctx, sub.Link)
	}
	return Artifact{}, nil, Invalid("Artifact", "An artifact is required: send it as a file part named 'artifact'.")
}

func checkHash(field, hash string) (string, error) {
	hash = strings.ToLower(strings.TrimSpace(hash))
	if hash != "" && (len(hash) != 64 || !consistsOf(hash, "0123456789abcdef", 64)) {
		return "", Invalid(field, "The SHA-256 hash must have 64 hexadecimal digits.")
	}
	return hash, nil
}

func (s *Service) link(ctx context.Context, l *Link) (Artifact, *Retrieval, error) {
	if s.fetcher == nil || s.secrets == nil {
		return Artifact{}, nil, Invalid("ArtifactRetrievalLink.Url", "This server does not retrieve artifacts from links; upload the artifact.")
	}
	var v validation
	if l.URL == "" {
		v.add("ArtifactRetrievalLink.Url", "The artifact's URL is required.")
	} else if len(l.URL) > maxURL {
		v.add("ArtifactRetrievalLink.Url", "The URL has more than %d bytes.", maxURL)
	} else if err := s.fetcher.Check(l.URL); err != nil {
		v.add("ArtifactRetrievalLink.Url", "The artifact cannot be retrieved from there: %v.", err)
	}
	if l.FileName == "" {
		v.add("ArtifactRetrievalLink.FileName", "The artifact's file name is required.")
	}
	hash, err := checkHash("ArtifactRetrievalLink.Sha256Hash", l.SHA256)
	if err != nil {
		return Artifact{}, nil, err
	}
	if len(l.Headers) > maxHeaders {
		v.add("ArtifactRetrievalLink.HttpHeaders", "There are more than %d headers.", maxHeaders)
	}
	seen := map[string]bool{}
	for _, name := range sortedKeys(l.Headers) {
		lower, value := strings.ToLower(name), l.Headers[name]
		switch {
		case !isHeaderName(name) || len(value) > maxHeaderValue || strings.ContainsFunc(value, isControl):
			v.add("ArtifactRetrievalLink.HttpHeaders", "'%s' is not a valid header.", truncate(name, 100))
		case slices.Contains(transportHeaders, lower):
			v.add("ArtifactRetrievalLink.HttpHeaders", "The header '%s' cannot be set: it belongs to the connection.", name)
		case seen[lower]:
			v.add("ArtifactRetrievalLink.HttpHeaders", "The header '%s' is given more than once.", name)
		}
		seen[lower] = true
	}
	if err := v.err(); err != nil {
		return Artifact{}, nil, err
	}
	raw, err := json.Marshal(target{l.URL, l.Headers})
	if err != nil {
		return Artifact{}, nil, err
	}
	sealed, err := s.secrets.Encrypt(ctx, raw)
	if err != nil {
		return Artifact{}, nil, fmt.Errorf("seal the retrieval link: %w", err)
	}
	return Artifact{FileName: cleanFileName(l.FileName)}, &Retrieval{SHA256: hash, SealedTarget: sealed}, nil
}

// UploadArtifact receives the artifact of a request that was submitted without one. The artifact that the request has already
// may be sent again, by a client that did not hear the answer: it changes nothing. KindConflict when the request has another
// one, or ended without success; KindInvalid when it is not the announced one, and may then be uploaded again.
func (s *Service) UploadArtifact(ctx context.Context, a Actor, id ID, content io.Reader) (*Request, error) {
	var r *Request
	check := func(tx Tx, lock bool) (err error) {
		read := tx.Request
		if lock {
			read = tx.LockRequest
		}
		if r, err = read(ctx, a.OrganizationID, id); KindOf(err) == KindNotFound {
			return errNoRequest()
		} else if err != nil {
			return err
		}
		sc, err := requestScope(ctx, tx, r)
		if err != nil {
			return err
		}
		if err := requireVisible(a, sc, OpUpload); err != nil {
			return err
		}
		status := r.Workflow.Status()
		if status.Final() && status != Completed || r.Retrieval != nil && !r.AwaitsUpload() {
			return Errorf(KindConflict, "The signing request does not wait for its artifact; it is %s.", r.Workflow)
		}
		return nil
	}
	if err := s.store.View(ctx, func(tx Tx) error { return check(tx, false) }); err != nil {
		return nil, err
	}
	st, err := s.Stage(ctx, a, r.Unsigned.FileName, content)
	if err != nil {
		return nil, err
	}
	taken := false
	err = s.store.Tx(ctx, func(tx Tx) error {
		taken = false
		if err := check(tx, true); err != nil {
			return err
		}
		if !r.AwaitsUpload() {
			if r.Unsigned.SHA256 != st.artifact.SHA256 {
				return Errorf(KindConflict, "The signing request has its artifact already, with SHA-256 %s; it is %s.", r.Unsigned.SHA256, r.Workflow)
			}
			return nil
		}
		digest := digestOf(s.now(), r.Retrieval.SHA256, st.artifact.SHA256)
		if digest.Result == NotPassed {
			return Invalid("Artifact", "The uploaded artifact has SHA-256 %s, but %s was announced.", st.artifact.SHA256, r.Retrieval.SHA256)
		}
		taken = true
		r.Unsigned, r.Retrieval = st.artifact, nil
		r.WakeAt = s.wakeAt(r, s.limits.Wake)
		if err := tx.UpdateRequest(ctx, r); err != nil {
			return err
		}
		if err := putVerifications(ctx, tx, r, digest); err != nil {
			return err
		}
		if err := tx.EnqueueAdvance(ctx, r.ID, time.Time{}); err != nil {
			return err
		}
		return s.recordArrival(ctx, tx, a, r)
	})
	if err != nil || !taken {
		st.Discard(ctx)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (s *Service) recordArrival(ctx context.Context, tx Tx, a Actor, r *Request) error {
	return s.record(ctx, tx, a, "SigningRequest.ArtifactReceived", requestObject(r), map[string]any{
		"fileName": r.Unsigned.FileName, "size": r.Unsigned.Size, "sha256": r.Unsigned.SHA256,
	})
}

// retrieve fetches the artifact that a retrieval link names, and lets the request go on from there.
func (s *Service) retrieve(ctx context.Context, j *job) error {
	link := j.request.Retrieval
	if j.request.Workflow != WorkflowRetrievingArtifact { // another worker was faster
		return s.release(ctx, j, 0)
	}
	var to target
	raw, err := s.secrets.Decrypt(ctx, link.SealedTarget)
	if err == nil {
		err = json.Unmarshal(raw, &to)
	}
	if err != nil {
		return fmt.Errorf("open the retrieval link: %w", err)
	}
	content, err := s.fetcher.Fetch(ctx, to.URL, to.Headers)
	if err != nil {
		return retrievalFailure(err)
	}
	defer content.Close()
	st, err := s.stage(ctx, j.request.Unsigned.FileName, content)
	switch kind := KindOf(err); {
	case kind == KindTooLarge:
		return &Failure{Code: "Retrieval", Message: "The artifact could not be retrieved: " + err.Error()}
	case kind == KindInvalid:
		return &Failure{Code: "Retrieval", Message: "The retrieved artifact is empty: the server sent no bytes."}
	case err != nil:
		return retrievalFailure(err)
	}
	digest := digestOf(s.now(), link.SHA256, st.artifact.SHA256)
	if digest.Result == NotPassed {
		st.Discard(ctx)
		if err := s.mine(ctx, j, func(tx Tx, r *Request) error { return putVerifications(ctx, tx, r, digest) }); err != nil {
			return err
		}
		return &Failure{Code: "Retrieval", Message: fmt.Sprintf("The retrieved artifact has SHA-256 %s, but the submission said %s.", st.artifact.SHA256, link.SHA256)}
	}
	err = s.mine(ctx, j, func(tx Tx, r *Request) error {
		r.Unsigned, r.Retrieval, r.Workflow = st.artifact, nil, WorkflowSubmitted
		r.Tries, r.Unfinished, r.LeaseUntil, r.WakeAt = 0, 0, nil, s.wakeAt(r, s.limits.Wake)
		if err := tx.UpdateRequest(ctx, r); err != nil {
			return err
		}
		if err := putVerifications(ctx, tx, r, digest); err != nil {
			return err
		}
		if err := tx.EnqueueAdvance(ctx, r.ID, time.Time{}); err != nil {
			return err
		}
		return s.recordArrival(ctx, tx, Countersign(r.OrganizationID), r)
	})
	if err != nil {
		st.Discard(ctx)
	}
	return err
}

func retrievalFailure(err error) error {
	var fetch *FetchError
	if errors.As(err, &fetch) && !fetch.Temporary {
		return &Failure{Code: "Retrieval", Message: "The artifact could not be retrieved: " + fetch.Message}
	}
	if fetch != nil {
		return &Error{Kind: KindUnavailable, Message: "The artifact could not be retrieved: " + fetch.Message, cause: err}
	}
	return err
}
