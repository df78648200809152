package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/countersign-dev/countersign/api"
)

// Upload is a file to send. It is read once for each attempt.
type Upload struct {
	Name    string // file name without directories
	Content io.ReaderAt
	Size    int64 // in bytes
	// Progress is told how many bytes of Content are sent; the number falls back when an attempt is repeated. Nil for nobody.
	Progress func(sent int64)
}

// Origin says where an artifact comes from. Servers take it from trusted build systems: see [WithTrustedBuildSystem].
type Origin struct {
	RepositoryURL string
	Branch        string
	Commit        string
	// SourceControl is the kind of repository, such as "git".
	SourceControl string
	BuildURL      string
	BuildSettings *Upload // the file that defines the build; nil for none
}

// Submission is what to sign, and how.
type Submission struct {
	ProjectSlug, PolicySlug string
	PolicyID                string // in place of both slugs
	ConfigurationSlug       string // the project's default when empty
	ConfigurationID         string // in place of the slug
	Artifact                Upload
	Description             string
	Parameters              map[string]string // of the artifact configuration
	Origin                  Origin
	CancellationTimeout     time.Duration // canceled unless it is final by then; 0 for never; whole seconds
	// IdempotencyKey makes a repetition of the same submission return the request that is there; at most 255 bytes.
	// Submit makes one when it is empty, so that it can try again.
	IdempotencyKey string
}

// Submit makes a signing request.
func (c *Client) Submit(ctx context.Context, s Submission) (*api.SubmittedSigningRequest, error) {
	params := &api.SubmitWithArtifactParams{IdempotencyKey: cmp.Or(s.IdempotencyKey, rand.Text())}
	return get[api.SubmittedSigningRequest](ctx, c, func() (*http.Response, error) {
		m := s.form().encode(append(s.files(), namedUpload{"artifact", &s.Artifact}))
		return c.api.SubmitWithArtifactWithBody(ctx, c.organization, params, m.contentType, m, m.setLength)
	})
}

// SubmitForUpload makes a signing request whose artifact is sent afterwards, with [Client.Upload]. Of the artifact, only the
// name counts. The server then takes only an artifact of the SHA-256, in hexadecimal; any when it is empty.
func (c *Client) SubmitForUpload(ctx context.Context, s Submission, sha256 string) (*api.SubmittedForUpload, error) {
	f := append(s.form(), field{"unsignedArtifactMetadata.fileName", s.Artifact.Name}, field{"unsignedArtifactMetadata.sha256Hash", sha256})
	params := &api.SubmitWithoutArtifactParams{IdempotencyKey: cmp.Or(s.IdempotencyKey, rand.Text())}
	return get[api.SubmittedForUpload](ctx, c, func() (*http.Response, error) {
		m := f.encode(s.files())
		return c.api.SubmitWithoutArtifactWithBody(ctx, c.organization, params, m.contentType, m, m.setLength)
	})
}

// Upload sends the artifact of a request that waits for it. A server that has it already answers 409, also to a repetition
// whose first attempt arrived although its answer did not.
func (c *Client) Upload(ctx context.Context, id string, u Upload) error {
	_, err := c.content(ctx, once, func() (*http.Response, error) {
		body := &multipartBody{Reader: &progressReader{r: io.NewSectionReader(u.Content, 0, u.Size), size: u.Size, tell: u.Progress}, length: u.Size}
		return c.api.UploadUnsignedArtifactWithBody(ctx, c.organization, id, "application/octet-stream", body, body.setLength)
	})
	return err
}

// Link says where the server gets an artifact.
type Link struct {
	URL      string
	FileName string
	SHA256   string      // in hexadecimal; any artifact is taken when it is empty
	Header   http.Header // to send there, such as a token; the first value of each name counts
}

// SubmitLink makes a signing request whose artifact the server retrieves. The submission's own artifact is not sent.
func (c *Client) SubmitLink(ctx context.Context, s Submission, l Link) (*api.SubmittedSigningRequest, error) {
	f := append(s.form(), field{"artifactRetrievalLink.url", l.URL}, field{"artifactRetrievalLink.fileName", l.FileName}, field{"artifactRetrievalLink.sha256Hash", l.SHA256})
	for i, name := range slices.Sorted(maps.Keys(l.Header)) {
		prefix := "artifactRetrievalLink.httpHeaders[" + strconv.Itoa(i) + "]."
		f = append(f, field{prefix + "key", name}, field{prefix + "value", l.Header.Get(name)})
	}
	params := &api.SubmitWithArtifactRetrievalLinkParams{IdempotencyKey: cmp.Or(s.IdempotencyKey, rand.Text())}
	return get[api.SubmittedSigningRequest](ctx, c, func() (*http.Response, error) {
		m := f.encode(s.files())
		return c.api.SubmitWithArtifactRetrievalLinkWithBody(ctx, c.organization, params, m.contentType, m, m.setLength)
	})
}

// form is the submission without its files.
func (s *Submission) form() form {
	f := form{
		{"projectSlug", s.ProjectSlug}, {"signingPolicySlug", s.PolicySlug}, {"signingPolicyId", s.PolicyID},
		{"artifactConfigurationSlug", s.ConfigurationSlug}, {"artifactConfigurationId", s.ConfigurationID},
		{"description", s.Description},
		{"origin.repositoryData.sourceControlManagementType", s.Origin.SourceControl},
		{"origin.repositoryData.url", s.Origin.RepositoryURL}, {"origin.repositoryData.branchName", s.Origin.Branch},
		{"origin.repositoryData.commitId", s.Origin.Commit}, {"origin.buildData.url", s.Origin.BuildURL},
	}
	if seconds := int64(s.CancellationTimeout / time.Second); seconds > 0 {
		f = append(f, field{"cancellationTimeoutInSeconds", strconv.FormatInt(seconds, 10)})
	}
	return f.parameters(s.Parameters)
}

// files are those that come before the artifact.
func (s *Submission) files() []namedUpload {
	if s.Origin.BuildSettings == nil {
		return nil
	}
	return []namedUpload{{"origin.buildData.buildSettingsFile", s.Origin.BuildSettings}}
}

// PlanRequest asks what an artifact configuration means for an artifact.
type PlanRequest struct {
	ProjectSlug       string
	Artifact          Upload
	ConfigurationSlug string // the project's default when empty
	ConfigurationXML  string // a configuration to try, in place of the slug
	Parameters        map[string]string
	Strict            bool // every signable file must be mentioned
}

// Plan tells what would be signed. Nothing is signed or kept.
func (c *Client) Plan(ctx context.Context, p PlanRequest) (*api.Plan, error) {
	f := form{{"artifactConfigurationSlug", p.ConfigurationSlug}, {"artifactConfigurationXml", p.ConfigurationXML}}.parameters(p.Parameters)
	if p.Strict {
		f = append(f, field{"strict", "true"})
	}
	return get[api.Plan](ctx, c, func() (*http.Response, error) {
		m := f.encode([]namedUpload{{"artifact", &p.Artifact}})
		return c.api.PlanArtifactWithBody(ctx, c.organization, p.ProjectSlug, m.contentType, m, m.setLength)
	})
}

// Analyze returns an artifact configuration, XML, that the server proposes for artifacts like the sample.
func (c *Client) Analyze(ctx context.Context, sample Upload) ([]byte, error) {
	return c.content(ctx, repeatable, func() (*http.Response, error) {
		m := form{}.encode([]namedUpload{{"artifact", &sample}})
		return c.api.AnalyzeArtifactWithBody(ctx, c.organization, m.contentType, m, m.setLength)
	})
}

// form is the text fields of a multipart/form-data body, in their order. Empty ones are not sent.
type form []field

type field struct{ name, value string }

type namedUpload struct {
	name string
	*Upload
}

// parameters adds those of an artifact configuration.
func (f form) parameters(values map[string]string) form {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		f = append(f, field{"parameters." + name, values[name]})
	}
	return f
}

// encode makes the body (RFC 7578): the fields, then the files, which are read as the body is.
func (f form) encode(files []namedUpload) *multipartBody {
	var text bytes.Buffer // writing to it cannot fail
	w := multipart.NewWriter(&text)
	for _, v := range f {
		if v.value != "" {
			_ = w.WriteField(v.name, v.value)
		}
	}
	body := &multipartBody{contentType: w.FormDataContentType()}
	var parts []io.Reader
	flush := func() {
		b := bytes.Clone(text.Bytes())
		text.Reset()
		parts = append(parts, bytes.NewReader(b))
		body.length += int64(len(b))
	}
	for _, file := range files {
		_, _ = w.CreateFormFile(file.name, file.Name)
		flush()
		parts = append(parts, &progressReader{r: io.NewSectionReader(file.Content, 0, file.Size), size: file.Size, tell: file.Progress})
		body.length += file.Size
	}
	_ = w.Close()
	flush()
	body.Reader = io.MultiReader(parts...)
	return body
}

// multipartBody is a multipart/form-data body of known length.
type multipartBody struct {
	io.Reader
	contentType string
	length      int64
}

// setLength is a request editor.
func (m *multipartBody) setLength(_ context.Context, r *http.Request) error {
	r.ContentLength = m.length
	return nil
}

// progressReader counts what is read. It fails when the content ends early.
type progressReader struct {
	r          io.Reader
	done, size int64
	tell       func(int64)
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.done += int64(n)
	if p.tell != nil && n > 0 {
		p.tell(p.done)
	}
	if err == io.EOF && p.done < p.size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
