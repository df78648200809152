package signing

import "time"

// Project groups what is built together: its artifact configurations, signing policies and repositories.
type Project struct {
	ID                     ID
	OrganizationID         ID
	Slug                   string // unique in the organization without regard to case
	Name                   string
	Description            string
	Active                 bool
	Repositories           []string // repository URLs, compared normalised
	DefaultConfigurationID ID
	Readers                []Subject
	Configurators          []Subject
	TrustedBuildSystems    []ID // those linked to the project
	CreatedAt              time.Time
	Version                int
}

// Configuration is an artifact configuration: its name stays, its XML has versions.
type Configuration struct {
	ID             ID
	OrganizationID ID
	ProjectID      ID
	Slug           string
	Name           string
	Description    string
	Active         bool
	Latest         int // number of the latest version, from 1
	CreatedAt      time.Time
	Version        int
}

// ConfigurationVersion is one immutable text of a configuration. A signing request pins the one it used.
type ConfigurationVersion struct {
	ConfigurationID ID
	Number          int
	XML             string
	CreatedAt       time.Time
	CreatedBy       ID
}

// Policy is a signing policy: which certificate signs, who may ask for it, and under which conditions.
type Policy struct {
	ID             ID
	OrganizationID ID
	ProjectID      ID
	Slug           string
	Name           string
	Description    string
	Active         bool
	CertificateID  ID
	Submitters     []Subject
	Approvers      []Subject
	Rules          PolicyRules
	CreatedAt      time.Time
	Version        int
}

// PolicyRules are a policy's conditions. The zero value is the most permissive policy: no approval, no origin.
type PolicyRules struct {
	// RequiredApprovals is the number of different approvers who must approve; 0 signs without approval.
	RequiredApprovals int `json:"requiredApprovals"`
	// SubmitterMayNotApprove refuses an approval by the user who submitted the request.
	SubmitterMayNotApprove bool `json:"submitterMayNotApprove,omitempty"`
	// RequireTrustedBuildSystem refuses requests that no linked trusted build system submitted.
	RequireTrustedBuildSystem bool `json:"requireTrustedBuildSystem,omitempty"`
	// VerifyOrigin wants a verified origin: repository of the project, allowed branch.
	VerifyOrigin bool `json:"verifyOrigin,omitempty"`
	// AllowedBranches are wildcard patterns of branch names; empty allows every branch.
	AllowedBranches []string `json:"allowedBranches,omitempty"`
	// StrictConfiguration fails artifacts that hold a signable file which the configuration does not mention.
	StrictConfiguration bool `json:"strictConfiguration,omitempty"`
	// RequireTimestamp fails a request rather than sign without a timestamp.
	RequireTimestamp bool `json:"requireTimestamp,omitempty"`
	// RetentionDays overrides the organization's artifact retention; 0 keeps the organization's.
	RetentionDays int `json:"retentionDays,omitempty"`
}

// Certificate is a signing certificate together with the key that it belongs to.
type Certificate struct {
	ID             ID
	OrganizationID ID
	Slug           string
	Name           string
	Type           string // "X509"
	CreationMethod CreationMethod
	Active         bool
	KeyStore       string   // name of the key store, "software"
	KeyID          string   // the key's id in that store
	KeyAlgorithm   string   // "RSA-3072", "ECDSA-P256", ...
	Chain          [][]byte // DER, leaf first; empty while a CSR waits for its certificate
	CSR            []byte   // DER of the PKCS#10 request, for creation method Csr
	Subject        string
	Issuer         string
	SerialNumber   string // lower-case hexadecimal
	NotBefore      time.Time
	NotAfter       time.Time
	Restrictions   CertificateRestrictions
	CreatedAt      time.Time
	Version        int
}

// CreationMethod says where a certificate's key pair came from.
type CreationMethod string

// The creation methods, as the wire contract spells them.
const (
	SelfSigned              CreationMethod = "SelfSigned"
	Csr                     CreationMethod = "Csr"
	PfxImport               CreationMethod = "PfxImport"
	ImportedWithExistingKey CreationMethod = "ImportedWithExistingKeyPair"
)

// CertificateRestrictions are the least rules that every policy using the certificate must have.
type CertificateRestrictions struct {
	MinimumApprovals          int  `json:"minimumApprovals,omitempty"`
	SubmitterMayNotApprove    bool `json:"submitterMayNotApprove,omitempty"`
	RequireTrustedBuildSystem bool `json:"requireTrustedBuildSystem,omitempty"`
	VerifyOrigin              bool `json:"verifyOrigin,omitempty"`
	RequireTimestamp          bool `json:"requireTimestamp,omitempty"`
}
