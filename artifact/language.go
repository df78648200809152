package artifact

import "strings"

// The tables in this file are the artifact configuration language: elements,
// attributes, and which may stand in which. What of it this version can carry
// out is in formats.go. api/artifact-configuration.xsd says the same to other
// programs; a test compares the two.

// attributeKind says how an attribute's value is read.
type attributeKind int

const (
	kindText     attributeKind = iota // any text
	kindPath                          // a pattern for paths
	kindPattern                       // a pattern for a value, case-sensitive
	kindFileName                      // a pattern for a value, ignoring case
	kindOutput                        // the name of a file that is made
	kindMinimum                       // a number of matches
	kindMaximum                       // a number of matches, or unbounded
	kindBoolean                       // true or false
	kindNumber                        // a number
	kindURL                           // an absolute URL
)

// attributeSpec is an attribute that an element may have.
type attributeSpec struct {
	name     string
	kind     attributeKind
	values   []string // the only ones allowed, if any
	required bool
}

// fileSpec is an element that matches files, or directories.
type fileSpec struct {
	name         string // of the element; its set is called name + "-set"
	title        string // for people, without article
	extensions   []string
	container    bool     // may hold rules for the files in it
	directory    bool     // matches directories
	signable     bool     // files of this type are meant to be signed: strict mode asks for them
	methods      []string // directives it may have
	restrictions []attributeSpec
	attributes   []attributeSpec // others
}

// artifactName is the path of the artifact itself.
var artifactName = attributeSpec{name: "path", kind: kindPath}

// matchAttributes are those of everything else that matches.
var matchAttributes = []attributeSpec{
	{name: "path", kind: kindPath, required: true},
	{name: "min-matches", kind: kindMinimum},
	{name: "max-matches", kind: kindMaximum},
}

var onOff = []string{"on", "off"}

var fileSpecs = []fileSpec{
	{
		name: "pe-file", title: "PE image", signable: true,
		extensions: []string{".exe", ".dll", ".acm", ".ax", ".cpl", ".drv", ".efi", ".mui", ".ocx", ".scr", ".sys", ".tsp"},
		methods:    []string{"authenticode-verify", "authenticode-sign", "include-in-provenance"},
		restrictions: []attributeSpec{
			{name: "product-name", kind: kindPattern},
			{name: "product-version", kind: kindPattern},
			{name: "file-version", kind: kindPattern},
			{name: "company-name", kind: kindPattern},
			{name: "copyright", kind: kindPattern},
			{name: "original-filename", kind: kindFileName},
		},
	},
	{
		name: "powershell-file", title: "PowerShell script", signable: true,
		extensions: []string{".ps1", ".psm1", ".psd1", ".psdc1", ".psc1", ".ps1xml", ".cdxml"},
		methods:    []string{"authenticode-verify", "authenticode-sign", "include-in-provenance"},
	},
	{
		// JavaScript for browsers has the same extension as JScript: strict mode
		// cannot ask for it.
		name: "windows-script-file", title: "Windows script",
		extensions: []string{".vbs", ".js", ".wsf"},
		methods:    []string{"authenticode-verify", "authenticode-sign", "include-in-provenance"},
	},
	{
		name: "msi-file", title: "Windows Installer package", container: true, signable: true,
		extensions: []string{".msi", ".msm", ".msp"},
		methods:    []string{"authenticode-verify", "authenticode-sign", "include-in-provenance"},
		restrictions: []attributeSpec{
			{name: "subject", kind: kindPattern},
			{name: "author", kind: kindPattern},
		},
	},
	{
		name: "cab-file", title: "cabinet", container: true, signable: true,
		extensions: []string{".cab"},
		methods:    []string{"authenticode-verify", "authenticode-sign", "include-in-provenance"},
	},
	{
		name: "catalog-file", title: "security catalog", signable: true,
		extensions: []string{".cat"},
		methods:    []string{"authenticode-verify", "authenticode-sign", "include-in-provenance"},
	},
	{
		name: "appx-file", title: "APPX package", container: true, signable: true,
		extensions: []string{".appx", ".appxbundle"},
		methods:    []string{"authenticode-verify", "authenticode-sign", "include-in-provenance"},
	},
	{
		name: "msix-file", title: "MSIX package", container: true, signable: true,
		extensions: []string{".msix", ".msixbundle"},
		methods:    []string{"authenticode-verify", "authenticode-sign", "include-in-provenance"},
	},
	{
		name: "opc-file", title: "OPC package", container: true, signable: true,
		extensions: []string{".vsix", ".xps", ".hlkx"},
		methods:    []string{"opc-verify", "opc-sign", "include-in-provenance"},
	},
	{
		name: "nupkg-file", title: "NuGet package", container: true, signable: true,
		extensions: []string{".nupkg", ".snupkg"},
		methods:    []string{"nuget-verify", "nuget-sign", "include-in-provenance"},
	},
	{
		name: "jar-file", title: "Java archive", container: true, signable: true,
		extensions: []string{".jar", ".war", ".ear", ".aab"},
		methods:    []string{"jar-verify", "jar-sign", "include-in-provenance"},
	},
	{
		name: "apk-file", title: "Android package", container: true, signable: true,
		extensions: []string{".apk"},
		methods:    []string{"apk-verify", "apk-sign", "include-in-provenance"},
	},
	{
		name: "rpm-file", title: "RPM package", container: true, signable: true,
		extensions: []string{".rpm"},
		methods:    []string{"rpm-verify", "rpm-sign", "include-in-provenance"},
	},
	{
		name: "deb-file", title: "Debian package", container: true, signable: true,
		extensions: []string{".deb"},
		methods:    []string{"debsigs-verify", "debsigs-sign", "include-in-provenance"},
	},
	{
		name: "zip-file", title: "ZIP archive", container: true,
		extensions: []string{".zip"},
		methods:    []string{"jar-verify", "jar-sign", "include-in-provenance", "create-provenance-file"},
		attributes: []attributeSpec{{name: "ui-multifile-upload", values: onOff}},
	},
	{
		name: "office-oxml-file", title: "Office Open XML document",
		extensions: []string{
			".xlam", ".xlsb", ".xlsm", ".xltm", ".potm", ".ppam", ".ppsm", ".pptm",
			".vsdm", ".vssm", ".vstm", ".docm", ".dotm",
		},
		methods: []string{"office-macro-verify", "office-macro-sign", "include-in-provenance"},
	},
	{
		name: "office-binary-file", title: "binary Office document",
		extensions: []string{
			".xla", ".xls", ".xlt", ".pot", ".ppa", ".pps", ".ppt", ".mpp", ".mpt", ".pub",
			".vdw", ".vdx", ".vsd", ".vss", ".vst", ".vsx", ".vtx", ".doc", ".dot", ".wiz",
		},
		methods: []string{"office-macro-verify", "office-macro-sign", "include-in-provenance"},
	},
	{
		name: "xml-file", title: "XML document",
		extensions: []string{".xml"},
		methods:    []string{"xml-verify", "xml-sign", "include-in-provenance"},
		restrictions: []attributeSpec{
			{name: "root-element-name", kind: kindPattern},
			{name: "root-element-namespace", kind: kindPattern},
		},
	},
	{
		name: "json-file", title: "JSON document",
		extensions: []string{".json"},
		methods:    []string{"jsf-verify", "jsf-sign", "include-in-provenance"},
	},
	{
		name: "oci-image-layout-archive-file", title: "OCI image layout archive",
		extensions: []string{".tar"},
		methods:    []string{"notation-verify", "cosign-verify", "notation-sign", "cosign-sign", "include-in-provenance"},
	},
	{
		name: "macho-file", title: "Mach-O image", signable: true,
		extensions: []string{".dylib", ".bundle"},
		methods:    []string{"macos-verify", "macos-sign", "include-in-provenance"},
	},
	{
		name: "dmg-file", title: "Apple disk image", signable: true,
		extensions: []string{".dmg"},
		methods:    []string{"macos-verify", "macos-sign", "include-in-provenance"},
	},
	{
		name: "pkg-file", title: "macOS installer package", signable: true,
		extensions: []string{".pkg"},
		methods:    []string{"macos-verify", "macos-sign", "include-in-provenance"},
	},
	{
		name: "hash-signing-data-file", title: "file of hash signing data",
		extensions: []string{".json"},
		methods:    []string{"hash-sign"},
	},
	{
		name: "file", title: "file",
		methods: []string{
			"dsse-sign", "smime-sign", "create-cms-signature", "create-gpg-signature", "create-raw-signature",
			"include-in-provenance",
		},
	},
	{
		name: "directory", title: "directory", container: true, directory: true,
		methods: []string{"clickonce-verify", "clickonce-sign", "macos-verify", "macos-sign"},
	},
}

// methodKind says what a directive does.
type methodKind int

const (
	methodSign   methodKind = iota // puts a signature into the file
	methodVerify                   // checks one that is there
	methodCreate                   // makes a further file beside it
	methodNote                     // concerns a file that another directive makes
)

// methodSpec is a directive.
type methodSpec struct {
	name       string
	kind       methodKind
	attributes []attributeSpec
	children   []string // directives inside it
	rootOnly   bool     // stands only in the root element
	inZIP      bool     // makes a file, and so stands only somewhere in a zip-file
}

var (
	hashAlgorithms = []string{"sha256", "sha384", "sha512"}
	rsaPaddings    = []string{"pkcs1", "pss"}

	outputFileName = attributeSpec{name: "output-file-name", kind: kindOutput, required: true}
	hashAlgorithm  = attributeSpec{name: "hash-algorithm", values: hashAlgorithms}
	rsaPadding     = attributeSpec{name: "rsa-padding", values: rsaPaddings}
	publisher      = attributeSpec{name: "publisher", kind: kindPattern}
	imageTag       = attributeSpec{name: "tag", required: true}
)

var methodSpecs = []methodSpec{
	{name: "authenticode-sign", attributes: []attributeSpec{
		{name: "hash-algorithm", values: []string{"sha1", "sha256", "sha384", "sha512"}},
		{name: "description"},
		{name: "description-url", kind: kindURL},
		{name: "append", kind: kindBoolean},
	}},
	{name: "clickonce-sign", attributes: []attributeSpec{hashAlgorithm}},
	{name: "opc-sign", attributes: []attributeSpec{hashAlgorithm}},
	{name: "nuget-sign", attributes: []attributeSpec{hashAlgorithm}},
	{name: "jar-sign", attributes: []attributeSpec{hashAlgorithm}},
	{name: "apk-sign", attributes: []attributeSpec{
		{name: "min-sdk-version", kind: kindNumber},
		{name: "max-sdk-version", kind: kindNumber},
	}},
	{name: "rpm-sign", attributes: []attributeSpec{hashAlgorithm}},
	{name: "debsigs-sign", attributes: []attributeSpec{
		{name: "signature-type", values: []string{"origin", "maint", "archive"}, required: true},
	}},
	{name: "office-macro-sign"},
	{name: "xml-sign", attributes: []attributeSpec{
		{name: "key-info-x509-data", values: []string{"none", "leaf", "whole-chain", "exclude-root"}},
	}},
	{name: "jsf-sign", attributes: []attributeSpec{hashAlgorithm, rsaPadding}},
	{name: "notation-sign", attributes: []attributeSpec{imageTag}},
	{name: "cosign-sign", attributes: []attributeSpec{imageTag}},
	{name: "macos-sign"},
	{name: "hash-sign"},

	{name: "authenticode-verify", kind: methodVerify, attributes: []attributeSpec{publisher}},
	{name: "clickonce-verify", kind: methodVerify, attributes: []attributeSpec{publisher}},
	{name: "opc-verify", kind: methodVerify, attributes: []attributeSpec{publisher}},
	{name: "nuget-verify", kind: methodVerify, attributes: []attributeSpec{publisher}},
	{name: "jar-verify", kind: methodVerify, attributes: []attributeSpec{publisher}},
	{name: "apk-verify", kind: methodVerify, attributes: []attributeSpec{publisher}},
	{name: "rpm-verify", kind: methodVerify, attributes: []attributeSpec{publisher}},
	{name: "debsigs-verify", kind: methodVerify, attributes: []attributeSpec{publisher}},
	{name: "office-macro-verify", kind: methodVerify, attributes: []attributeSpec{publisher}},
	{name: "xml-verify", kind: methodVerify, attributes: []attributeSpec{publisher}},
	{name: "jsf-verify", kind: methodVerify, attributes: []attributeSpec{publisher}},
	{name: "notation-verify", kind: methodVerify, attributes: []attributeSpec{imageTag, publisher}},
	{name: "cosign-verify", kind: methodVerify, attributes: []attributeSpec{imageTag, publisher}},
	{name: "macos-verify", kind: methodVerify, attributes: []attributeSpec{publisher}},

	{name: "dsse-sign", kind: methodCreate, inZIP: true, attributes: []attributeSpec{
		outputFileName, {name: "payload-type", required: true}, hashAlgorithm, rsaPadding,
	}},
	{name: "smime-sign", kind: methodCreate, inZIP: true, attributes: []attributeSpec{
		outputFileName, {name: "normalization", values: []string{"line-endings", "none"}}, hashAlgorithm, rsaPadding,
	}},
	{name: "create-cms-signature", kind: methodCreate, inZIP: true, attributes: []attributeSpec{
		outputFileName, {name: "output-encoding", values: []string{"pem", "der"}, required: true}, hashAlgorithm, rsaPadding,
	}},
	{name: "create-gpg-signature", kind: methodCreate, inZIP: true, attributes: []attributeSpec{
		outputFileName, {name: "output-encoding", values: []string{"ascii-armored", "binary"}}, hashAlgorithm,
		{name: "version", values: []string{"4"}},
	}},
	{name: "create-raw-signature", kind: methodCreate, inZIP: true, attributes: []attributeSpec{
		outputFileName, {name: "hash-algorithm", values: hashAlgorithms, required: true}, rsaPadding,
	}},

	{name: "include-in-provenance", kind: methodNote},
	{name: "create-provenance-file", kind: methodCreate, rootOnly: true, inZIP: true,
		attributes: []attributeSpec{outputFileName},
		children:   []string{"create-attestation-signature", "create-verification-summary-file"}},
	{name: "create-verification-summary-file", kind: methodCreate,
		attributes: []attributeSpec{outputFileName},
		children:   []string{"create-attestation-signature"}},
	{name: "create-attestation-signature", kind: methodCreate, attributes: []attributeSpec{
		{name: "type", values: []string{"cms", "dsse"}, required: true}, outputFileName,
	}},
}

// appendable are the file types whose format holds several Authenticode signatures.
var appendable = []string{"pe-file", "cab-file", "catalog-file"}

// indefinite is the title with its article.
func (s *fileSpec) indefinite() string {
	for _, sound := range []string{"A", "O", "MSIX", "RPM", "XML"} {
		if strings.HasPrefix(s.title, sound) {
			return "an " + s.title
		}
	}
	return "a " + s.title
}

func fileSpecByName(name string) *fileSpec {
	for i := range fileSpecs {
		if fileSpecs[i].name == name {
			return &fileSpecs[i]
		}
	}
	return nil
}

func methodSpecByName(name string) *methodSpec {
	for i := range methodSpecs {
		if methodSpecs[i].name == name {
			return &methodSpecs[i]
		}
	}
	return nil
}
