package signing

import "time"

// Project groups what is built together: its artifact configurations, signing policies and repositories.
type Project struct {
	ID                     ID        `json:"id"`
	OrganizationID         ID        `json:"organizationId"`
	Slug                   string    `json:"slug"` // unique in the organization without regard to case
	Name                   string    `json:"name"`
	Description            string    `json:"description"`
	Active                 bool      `json:"active"`
	Repositories           []string  `json:"repositories"` // repository URLs, compared normalised
	DefaultConfigurationID ID        `json:"defaultConfigurationId"`
	Readers                []Subject `json:"readers"`
	Configurators          []Subject `json:"configurators"`
	TrustedBuildSystems    []ID      `json:"trustedBuildSystems"` // those linked to the project
	CreatedAt              time.Time `json:"createdAt"`
	Version                int       `json:"version"`
}

// Configuration is an artifact configuration: its name stays, its XML has versions.
type Configuration struct {
	ID             ID        `json:"id"`
	OrganizationID ID        `json:"organizationId"`
	ProjectID      ID        `json:"projectId"`
	Slug           string    `json:"slug"`
	Name           string    `json:"name"`
	Description    string    `json:"description"`
	Active         bool      `json:"active"`
	Latest         int       `json:"latest"` // number of the latest version, from 1
	CreatedAt      time.Time `json:"createdAt"`
	Version        int       `json:"version"`
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
	ID             ID          `json:"id"`
	OrganizationID ID          `json:"organizationId"`
	ProjectID      ID          `json:"projectId"`
	Slug           string      `json:"slug"`
	Name           string      `json:"name"`
	Description    string      `json:"description"`
	Active         bool        `json:"active"`
	CertificateID  ID          `json:"certificateId"`
	Submitters     []Subject   `json:"submitters"`
	Approvers      []Subject   `json:"approvers"`
	Rules          PolicyRules `json:"rules"`
	CreatedAt      time.Time   `json:"createdAt"`
	Version        int         `json:"version"`
	// ApprovalVersion counts the changes of what approvers decide on. Approvals are bound to it.
	ApprovalVersion int `json:"approvalVersion"`
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
	// Notifications says which mails users get about the policy's requests who have not chosen All or None themselves;
	// empty is NotifyDefault.
	Notifications NotificationLevel `json:"notifications,omitempty"`
}

// WantsBuildSystem reports whether a trusted build system has to vouch for the policy's requests: only its word about an
// origin counts. Nobody submits to such a policy without one; whoever may submit may resubmit what one vouched for.
func (r PolicyRules) WantsBuildSystem() bool { return r.RequireTrustedBuildSystem || r.VerifyOrigin }

// Certificate is a signing certificate together with the key that it belongs to.
type Certificate struct {
	ID             ID                      `json:"id"`
	OrganizationID ID                      `json:"organizationId"`
	Slug           string                  `json:"slug"`
	Name           string                  `json:"name"`
	Type           string                  `json:"type"` // "X509"
	CreationMethod CreationMethod          `json:"creationMethod"`
	Active         bool                    `json:"active"`
	KeyStore       string                  `json:"keyStore"`               // name of the key store, "software"
	KeyID          string                  `json:"keyId"`                  // the key's id in that store; empty without a key
	KeyAlgorithm   string                  `json:"keyAlgorithm"`           // "RSA-3072", "ECDSA-P256", ...
	Chain          [][]byte                `json:"chain"`                  // DER, leaf first; empty while a CSR waits for its certificate
	CSR            []byte                  `json:"csr"`                    // DER of the PKCS#10 request, for creation method Csr
	KeyDeletedAt   *time.Time              `json:"keyDeletedAt,omitempty"` // since then nothing signs with it; KeyID is empty once the key is erased
	Subject        string                  `json:"subject"`
	Issuer         string                  `json:"issuer"`
	SerialNumber   string                  `json:"serialNumber"` // lower-case hexadecimal
	NotBefore      time.Time               `json:"notBefore"`
	NotAfter       time.Time               `json:"notAfter"`
	Restrictions   CertificateRestrictions `json:"restrictions"`
	CreatedAt      time.Time               `json:"createdAt"`
	Version        int                     `json:"version"`
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
	StrictConfiguration       bool `json:"strictConfiguration,omitempty"`
	RequireTimestamp          bool `json:"requireTimestamp,omitempty"`
}
