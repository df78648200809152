package artifact

import "strings"

// Template is a configuration to start from.
type Template struct {
	Name        string `json:"name"`  // such as "pe-file-in-zip"
	Title       string `json:"title"` // for people
	Description string `json:"description"`
	XML         string `json:"xml"`
	// Available tells whether this version can carry it out.
	Available bool `json:"available"`
}

// Templates lists configurations to start from: for each file type that can be
// signed one for a single file, one for a file in a ZIP archive, and one for
// several in a ZIP archive.
func Templates() []Template {
	var templates []Template
	for i := range fileSpecs {
		spec := &fileSpecs[i]
		directive := templateDirective(spec)
		if directive == "" {
			continue
		}
		element := spec.name
		extension := ".bin"
		if len(spec.extensions) > 0 {
			extension = spec.extensions[0]
		}
		add := func(name, title, description, body string) {
			text := "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n" + rootExample + "\n" + body + "</artifact-configuration>\n"
			c, err := ParseConfiguration([]byte(text))
			templates = append(templates, Template{name, title, description, text, err == nil && c.CheckAvailable() == nil})
		}
		upper := strings.ToUpper(spec.title[:1]) + spec.title[1:]
		nested := func(path, inner string) string {
			return "  <zip-file>\n    <" + element + ` path="` + path + "\">\n" + inner + "    </" + element + ">\n  </zip-file>\n"
		}
		switch {
		case spec.directory:
			add(element, upper+" in a ZIP archive", "Signs the content of a directory.",
				nested("application", "      "+directive+"\n"))
			continue
		case !strings.Contains(directive, "output-file-name"):
			add(element, upper, "Signs the file itself.", "  <"+element+">\n    "+directive+"\n  </"+element+">\n")
		}
		add(element+"-in-zip", upper+" in a ZIP archive", "Signs one file in an archive.",
			nested("application"+extension, "      "+directive+"\n"))
		add(element+"-set-in-zip", upper+" files in a ZIP archive", "Signs several files in an archive, at any depth.",
			"  <zip-file>\n    <"+element+"-set>\n"+
				`      <include path="**/*`+extension+`" max-matches="unbounded"/>`+"\n"+
				"      <for-each>\n        "+directive+"\n      </for-each>\n    </"+element+"-set>\n  </zip-file>\n")
	}
	return templates
}

// templateDirective writes the first signing directive of a file type, with
// values for the attributes that it needs.
func templateDirective(spec *fileSpec) string {
	for _, name := range spec.methods {
		method := methodSpecByName(name)
		if method.kind != methodSign && method.kind != methodCreate || method.rootOnly {
			continue
		}
		var attributes []string
		for _, a := range method.attributes {
			if !a.required {
				continue
			}
			value := a.name
			switch {
			case a.kind == kindOutput:
				value = "${file.name}.sig"
			case a.values != nil:
				value = a.values[0]
			case a.name == "tag":
				value = "latest"
			case a.name == "payload-type":
				value = "application/octet-stream"
			}
			attributes = append(attributes, a.name, value)
		}
		return "<" + tag(name, attributes) + "/>"
	}
	return ""
}
