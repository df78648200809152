package artifact

import (
	"crypto/sha256"
	"encoding/json"
	"io"
)

// PlanOptions say how to plan. The zero value is usable.
type PlanOptions struct {
	Workspace
	Parameters map[string]string // as the request gave them
	Strict     bool              // strict mode, also when the configuration does not ask for it
	Trust      Trust             // for verify directives
	Hashes     Hashes
}

// Hashes says of which files a plan has the SHA-256.
type Hashes int

// The choices of files.
const (
	HashMatched Hashes = iota // the artifact, and files that a rule matches: what another process needs to know them again
	HashAll                   // every file
	// HashNone is for none, which saves reading what signing reads anyway. Such a plan can be carried
	// out only on the very Source that it was made of, and the Result has no hashes either.
	HashNone
)

// Plan is what a configuration means for one artifact. It marshals to JSON and
// back without loss. Nothing has been signed yet.
type Plan struct {
	ArtifactSHA256      string            `json:"artifactSha256"`      // lower-case hexadecimal; empty with HashNone
	ConfigurationSHA256 string            `json:"configurationSha256"` // of the XML document
	Parameters          map[string]string `json:"parameters"`
	Strict              bool              `json:"strict"`
	Root                *PlannedFile      `json:"root"`
	// Violations are why the artifact must not be signed; empty when it may be.
	Violations []Violation `json:"violations"`

	// Of a plan that was read from JSON these are nil: source is what was planned, for Sign to know it
	// again, and kept has small files that were unpacked and will be signed.
	source io.ReaderAt
	kept   map[*PlannedFile][]byte
}

// Action says what happens to a file.
type Action string

// The actions.
const (
	ActionSign   Action = "sign"   // it gets at least one signature of its own
	ActionVerify Action = "verify" // its signature was checked
	ActionLeave  Action = "leave"  // nothing
	// ActionContainer: it has no signature of its own, but files in it are signed or verified.
	ActionContainer Action = "container"
)

// PlannedFile is one file of the artifact, or the artifact itself.
type PlannedFile struct {
	// Path within the container, with forward slashes; for the artifact its name.
	Path   string `json:"path"`
	Type   string `json:"type,omitempty"` // element name, such as "pe-file"; empty when unknown
	Size   int64  `json:"size"`           // in bytes
	SHA256 string `json:"sha256,omitempty"`
	Action Action `json:"action"`
	Reason string `json:"reason"` // why this action, for people
	// Rule is the element of the configuration that matched; nil for none.
	Rule       *RuleReference `json:"rule,omitempty"`
	Directives []Directive    `json:"directives,omitempty"` // in the order in which they are carried out
	Files      []*PlannedFile `json:"files,omitempty"`      // of a container that was opened, in its order
}

// RuleReference points into the configuration.
type RuleReference struct {
	Element string `json:"element"`        // such as "pe-file-set"
	Path    string `json:"path,omitempty"` // the pattern, with parameters filled in
	Line    int    `json:"line"`
	Column  int    `json:"column"`
}

// Directive is one signing or verification step.
type Directive struct {
	Method  string            `json:"method"` // element name, such as "authenticode-sign"
	Options map[string]string `json:"options,omitempty"`
	Line    int               `json:"line"`
}

// Violation is one reason why the artifact does not fit the configuration.
type Violation struct {
	Code    string `json:"code"`   // for programs: see the Violation constants
	Path    string `json:"path"`   // from the artifact's top, containers and files joined by slashes; empty for the artifact
	Rule    string `json:"rule"`   // such as `<pe-file path="*.dll">`; empty when no rule is involved
	Line    int    `json:"line"`   // of the rule, or 0
	Column  int    `json:"column"` // of the rule, or 0
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// Codes of violations.
const (
	ViolationTooFewMatches  = "too-few-matches"  // a rule matches fewer files than min-matches
	ViolationTooManyMatches = "too-many-matches" // a rule matches more files than max-matches
	ViolationDoubleMatch    = "double-match"     // two rules match one file
	ViolationWrongType      = "wrong-type"       // a file is not of the type that its rule says
	ViolationName           = "name"             // the artifact's name does not match the root's path
	ViolationRestriction    = "restriction"      // a metadata restriction does not hold
	ViolationVerification   = "verification"     // a verify directive failed
	ViolationUnlisted       = "unlisted"         // strict mode: a signable file that no rule mentions
	ViolationUnreadable     = "unreadable"       // a container or file cannot be read
	ViolationLimit          = "limit"            // a limit is exceeded
)

// Digest binds all that the plan says: artifact, configuration, parameters, each
// file and directive. Two plans have one digest if and only if they ask for the
// same work on the same bytes for the same reason.
func (p *Plan) Digest() [32]byte {
	// Field order is fixed and maps are sorted: the encoding is canonical.
	encoded, err := json.Marshal(p)
	if err != nil {
		panic(err) // there is nothing in a plan that cannot be encoded
	}
	return sha256.Sum256(append([]byte("countersign plan 1\n"), encoded...))
}

// SignatureCount is the number of signatures that Sign will ask the key for.
func (p *Plan) SignatureCount() int { return p.Root.signatures() }

func (f *PlannedFile) signatures() int {
	count := 0
	for _, d := range f.Directives {
		if spec := methodSpecByName(d.Method); spec != nil && spec.kind != methodVerify && spec.kind != methodNote {
			count++
		}
	}
	for _, nested := range f.Files {
		count += nested.signatures()
	}
	return count
}

// changes reports whether signing changes the file.
func (f *PlannedFile) changes() bool { return f.signatures() > 0 }
