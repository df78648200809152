package artifact

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
)

// maxXMLProlog is how far into a document its root element may begin.
const maxXMLProlog = 1 << 20

// xmlMetadata reads name and namespace of the root element.
func xmlMetadata(content io.ReaderAt, size int64) (map[string][]string, error) {
	decoder := xml.NewDecoder(io.NewSectionReader(content, 0, min(size, maxXMLProlog)))
	decoder.CharsetReader = func(charset string, input io.Reader) (io.Reader, error) {
		return nil, fmt.Errorf("xml: the encoding %s is not supported; the document must be UTF-8", charset)
	}
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("xml: the document has no root element in its first MiB")
		}
		if err != nil {
			return nil, err
		}
		switch t := token.(type) {
		case xml.Directive:
			return nil, errors.New("xml: the document has a document type declaration, which may change what it means")
		case xml.StartElement:
			return map[string][]string{
				"root-element-name":      {t.Name.Local},
				"root-element-namespace": {t.Name.Space},
			}, nil
		}
	}
}
