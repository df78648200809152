package web

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"path"
	"strings"

	"github.com/countersign-dev/countersign/internal/signing"
)

const (
	maxParts       = 2000     // of an upload: fields and files
	maxFields      = 1 << 20  // bytes of all fields together
	maxField       = 64 << 10 // bytes of one field
	artifactField  = "artifact"
	bundleField    = "bundle" // "on" when the script saw several files chosen
	bundleFileName = "bundle.zip"
)

// upload is a received form with files. Its memory does not grow with them.
type upload struct {
	values submitValues
	staged *signing.Staged // nil: no file was sent

	x       *exchange
	parts   *multipart.Reader
	trusted bool // the form token was right
	count   int
	bytes   int
}

// receive reads a multipart form part by part, and stages its files while they arrive. The form token comes in the header or before
// the first file: nothing is stored for others. On an error what was received so far is discarded; the values are returned
// in any case, so that the form can be shown again.
func (x *exchange) receive() (*upload, error) {
	u := &upload{x: x, values: submitValues{}}
	x.r.Body = http.MaxBytesReader(x.w, x.r.Body, x.Signing.ArtifactLimit()+maxFields)
	if token := x.r.Header.Get(tokenHeader); token != "" {
		if err := x.checkToken(token); err != nil {
			return u, err
		}
		u.trusted = true
	}
	var err error
	if u.parts, err = x.r.MultipartReader(); err != nil {
		return u, errForeign // our form is always of this kind
	}
	if err = u.read(); err != nil {
		u.staged.Discard(x.r.Context())
	} else if !u.trusted {
		err = errForeign
	}
	return u, err
}

func (u *upload) read() error {
	part, err := u.next()
	for err == nil {
		switch {
		case part.FormName() != artifactField:
			err = u.field(part)
		case part.FileName() == "": // the file input was left empty
		case !u.trusted:
			return errForeign
		case u.staged != nil:
			return signing.Invalid("Artifact", "Choose one file: this artifact configuration does not bundle several. To sign several files, pack them into a ZIP archive.")
		default:
			if part, err = u.file(part); err == nil && part != nil {
				continue // the part after a bundle's last file
			}
		}
		if err == nil {
			part, err = u.next()
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// next returns the next part; io.EOF after the last.
func (u *upload) next() (*multipart.Part, error) {
	if u.count++; u.count > maxParts {
		return nil, signing.Invalid("Artifact", "The form has more than %d fields and files.", maxParts)
	}
	part, err := u.parts.NextPart()
	if err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return part, err
	}
	return nil, brokenOff(err)
}

// brokenOff tells a connection that ended from a limit that was reached.
func brokenOff(err error) error {
	var tooLarge *http.MaxBytesError
	var domain *signing.Error
	if errors.As(err, &tooLarge) || errors.As(err, &domain) {
		return err
	}
	return &pageError{status: http.StatusBadRequest, title: "The upload broke off", message: "Not all of the form arrived, so nothing was submitted. Try again."}
}

func (u *upload) field(part *multipart.Part) error {
	value, err := io.ReadAll(io.LimitReader(part, maxField+1))
	if err != nil {
		return brokenOff(err)
	}
	name := part.FormName()
	if u.bytes += len(name) + len(value); len(value) > maxField || u.bytes > maxFields {
		return signing.Invalid("", "The form's texts are too long.")
	}
	if name == tokenField && !u.trusted {
		if err := u.x.checkToken(string(value)); err != nil {
			return err
		}
		u.trusted = true
	}
	u.values[name] = append(u.values[name], string(value))
	return nil
}

// file stages a file, or bundles it with those that follow directly; next is then the part after them.
func (u *upload) file(part *multipart.Part) (next *multipart.Part, err error) {
	ctx, x := u.x.r.Context(), u.x
	f, err := x.submitForm(u.values)
	switch {
	case err != nil:
		return nil, err
	case f.policy == nil: // tell before gigabytes are sent in vain
		return nil, signing.Invalid("SigningPolicyId", "Choose a signing policy.")
	}
	if f.multifile && (u.values.get(bundleField) == "on" || !strings.EqualFold(path.Ext(part.FileName()), ".zip")) {
		return u.bundle(part)
	}
	u.staged, err = x.Signing.Stage(ctx, x.actor, part.FileName(), part)
	return nil, received(err)
}

// received tells failures to read the upload from failures to store it.
func received(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return brokenOff(err)
	}
	return err
}

// bundle packs this file and the files that follow it directly into one ZIP archive, and stages that while it is made.
func (u *upload) bundle(first *multipart.Part) (next *multipart.Part, err error) {
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		var packErr error
		next, packErr = u.pack(w, first)
		w.CloseWithError(packErr) // nil ends the archive
	}()
	u.staged, err = u.x.Signing.Stage(u.x.r.Context(), u.x.actor, bundleFileName, r)
	r.CloseWithError(io.ErrClosedPipe) // when staging failed, packing ends too
	<-done
	return next, received(err)
}

func (u *upload) pack(w io.Writer, part *multipart.Part) (next *multipart.Part, err error) {
	z := zip.NewWriter(w)
	names := map[string]bool{}
	for part != nil && part.FormName() == artifactField && part.FileName() != "" {
		entry, err := z.Create(unusedName(names, part.FileName()))
		if err != nil {
			return nil, err
		}
		if _, err := io.Copy(entry, part); err != nil {
			return nil, err
		}
		if part, err = u.next(); errors.Is(err, io.EOF) {
			part = nil
		} else if err != nil {
			return nil, err
		}
	}
	return part, z.Close()
}

// unusedName returns the file's name without directories, numbered when the archive has it already. Windows knows no case.
func unusedName(names map[string]bool, sent string) string {
	name := path.Base(strings.ReplaceAll(sent, `\`, "/"))
	if name == "." || name == ".." || name == "/" {
		name = "file"
	}
	extension := path.Ext(name)
	stem := strings.TrimSuffix(name, extension)
	for n := 2; names[strings.ToLower(name)]; n++ {
		name = fmt.Sprintf("%s (%d)%s", stem, n, extension)
	}
	names[strings.ToLower(name)] = true
	return name
}
