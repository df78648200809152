package web

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"net/http"
	"strings"
)

// reportData is what the printable report of a signing request holds: all that its page shows, spelled out.
type reportData struct {
	*requestData
	chain []reportCertificate // leaf first
	files []reportFile
	left  int // files that the report has no room for
}

type reportCertificate struct {
	*x509.Certificate
	sha256 string
}

// reportFile is a file of the artifact, before and after signing.
type reportFile struct {
	*plannedFile
	path string // from the artifact's top
	made *signedFile
}

// maxReportFiles bounds the files of a report; so many fill a hundred sheets.
const maxReportFiles = 5000

func (x *exchange) reportPage() error {
	request, err := x.loadRequest()
	if err != nil {
		return err
	}
	if err := x.loadHistory(request); err != nil {
		return err
	}
	d := reportData{requestData: request}
	for _, der := range d.certificate.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(der)
		d.chain = append(d.chain, reportCertificate{c, hex.EncodeToString(sum[:])})
	}
	if d.plan != nil && d.plan.Root != nil {
		d.addFiles(d.plan.Root, d.plan.Root.Path, "", d.madeByPath())
	}
	return x.render(http.StatusOK, reportView(x, d))
}

// madeByPath returns what was signed; nothing before.
func (d *reportData) madeByPath() map[string]*signedFile {
	made := map[string]*signedFile{}
	if d.result != nil {
		for i := range d.result.Files {
			made[d.result.Files[i].Path] = &d.result.Files[i]
		}
	}
	return made
}

// addFiles lists a file, called name, with all that it contains; the result knows it by its path within the artifact.
func (d *reportData) addFiles(f *plannedFile, name, path string, made map[string]*signedFile) {
	if len(d.files) == maxReportFiles {
		d.left += f.count()
		return
	}
	d.files = append(d.files, reportFile{f, name, made[path]})
	for _, c := range f.Files {
		if c != nil {
			within := strings.TrimPrefix(path+"/"+c.Path, "/")
			d.addFiles(c, within, within, made)
		}
	}
}
