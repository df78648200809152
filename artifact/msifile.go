package artifact

import (
	"io"

	"github.com/countersign-dev/countersign/artifact/cfb"
)

// msiMetadata reads the summary information of a Windows Installer package.
func msiMetadata(content io.ReaderAt, size int64) (map[string][]string, error) {
	summary, err := cfb.ReadSummary(content, size)
	if err != nil {
		return nil, err
	}
	values := make(map[string][]string)
	for name, value := range map[string]*string{"subject": summary.Subject, "author": summary.Author} {
		if value != nil {
			values[name] = []string{*value}
		}
	}
	return values, nil
}
