package signing

import (
	"slices"
	"time"

	"github.com/google/uuid"
)

// ID identifies an object: a lower-case GUID (UUID version 7, so that newer objects sort after older ones).
type ID string

// NewID returns a fresh ID.
func NewID() ID { return ID(uuid.Must(uuid.NewV7()).String()) }

// ParseID reads a GUID in any case. It reports false for anything else and for the empty GUID.
func ParseID(s string) (ID, bool) {
	if len(s) != 36 {
		return "", false
	}
	u, err := uuid.Parse(s)
	if err != nil || u == uuid.Nil {
		return "", false
	}
	return ID(u.String()), true
}

// Organization is a tenant. Nothing is shared between organizations.
type Organization struct {
	ID        ID                   `json:"id"`
	Name      string               `json:"name"`
	CreatedAt time.Time            `json:"createdAt"`
	Settings  OrganizationSettings `json:"settings"`
	Version   int                  `json:"version"`
}

// OrganizationSettings are the organization's own rules. The zero value is usable.
type OrganizationSettings struct {
	// RetentionDays is how long artifact bytes are kept after a request became final; 0 keeps them for ever.
	RetentionDays int `json:"retentionDays,omitempty"`
	// AuthenticodeRootsPEM holds roots which, besides the system's, <authenticode-verify> trusts.
	AuthenticodeRootsPEM string `json:"authenticodeRootsPem,omitempty"`
}

// UserKind tells people from machines.
type UserKind string

// The kinds of user.
const (
	Interactive UserKind = "Interactive" // a person who signs in
	CI          UserKind = "CI"          // a build or release system with an API token
	System      UserKind = "System"      // Countersign itself, in audit entries
)

// Role is an organization-wide role.
type Role string

// The seven roles.
const (
	GlobalAdministrator      Role = "GlobalAdministrator"
	CertificateAdministrator Role = "CertificateAdministrator"
	UserAdministrator        Role = "UserAdministrator"
	ProjectAdministrator     Role = "ProjectAdministrator"
	GlobalReader             Role = "GlobalReader"
	RegularUser              Role = "RegularUser"
	DirectorySynchronizer    Role = "DirectorySynchronizer"
)

// Roles lists every role, most powerful first.
var Roles = []Role{
	GlobalAdministrator, CertificateAdministrator, UserAdministrator, ProjectAdministrator,
	GlobalReader, RegularUser, DirectorySynchronizer,
}

// User is a person or a CI user of one organization.
type User struct {
	ID             ID       `json:"id"`
	OrganizationID ID       `json:"organizationId"`
	Kind           UserKind `json:"kind"`
	Name           string   `json:"name"`
	Email          string   `json:"email"` // interactive users only, unique in the organization without regard to case
	Roles          []Role   `json:"roles"`
	Active         bool     `json:"active"`
	Description    string   `json:"description"`
	// NotificationLevel says which mails an interactive user wants; empty, of old users, is NotifyDefault.
	NotificationLevel NotificationLevel `json:"notificationLevel,omitempty"`
	CreatedAt         time.Time         `json:"createdAt"`
	Version           int               `json:"version"`
}

// Group is a named set of users and other groups.
type Group struct {
	ID             ID        `json:"id"`
	OrganizationID ID        `json:"organizationId"`
	Name           string    `json:"name"`
	Description    string    `json:"description"`
	Members        []Subject `json:"members"`
	CreatedAt      time.Time `json:"createdAt"`
	Version        int       `json:"version"`
}

// SubjectKind tells a user from a group where either may stand.
type SubjectKind string

// The kinds of subject.
const (
	SubjectUser  SubjectKind = "User"
	SubjectGroup SubjectKind = "Group"
)

// Subject is a user or group that holds a permission or is a member of a group.
type Subject struct {
	Kind SubjectKind `json:"kind"`
	ID   ID          `json:"id"`
}

// Actor is who performs an operation: an authenticated user with all that permissions depend on.
// Only package auth makes actors from credentials; [Countersign] is the system's own.
type Actor struct {
	OrganizationID ID
	UserID         ID
	Kind           UserKind
	Name           string
	Roles          []Role
	Groups         []ID // every group the user belongs to, directly or through other groups
	// TrustedBuildSystemID is set when a trusted build system's token came with the user's.
	TrustedBuildSystemID ID
	// Via says how the actor came in, for the audit log: "token csp_ab12", "session", "worker".
	Via string
}

// Countersign returns the system itself as an actor in an organization. It holds no role and no permission.
func Countersign(organization ID) Actor {
	return Actor{OrganizationID: organization, Kind: System, Name: "Countersign", Via: "worker"}
}

// HasRole reports whether the actor holds one of the roles.
func (a Actor) HasRole(roles ...Role) bool {
	return slices.ContainsFunc(roles, func(r Role) bool { return slices.Contains(a.Roles, r) })
}

// In reports whether one of the subjects is the actor or a group of the actor.
func (a Actor) In(subjects []Subject) bool {
	return slices.ContainsFunc(subjects, func(s Subject) bool {
		switch s.Kind {
		case SubjectUser:
			return s.ID == a.UserID && a.UserID != ""
		case SubjectGroup:
			return slices.Contains(a.Groups, s.ID)
		}
		return false
	})
}

// TokenKind says what an API token stands for.
type TokenKind string

// The kinds of API token.
const (
	UserToken        TokenKind = "User"               // stands for a user
	BuildSystemToken TokenKind = "TrustedBuildSystem" // stands for a trusted build system, together with a user's
)

// APIToken is the record of a token; the token itself is shown once and never stored.
type APIToken struct {
	ID             ID
	OrganizationID ID
	Kind           TokenKind
	OwnerID        ID // user or trusted build system
	Name           string
	Prefix         string   // the recognisable start, for people to tell tokens apart
	Hash           [32]byte // SHA-256 of the whole token; tokens carry 256 bits of entropy, so no slow hash is needed
	CreatedAt      time.Time
	ExpiresAt      *time.Time
	LastUsedAt     *time.Time
	RevokedAt      *time.Time
}

// Usable reports whether the token may still be used.
func (t *APIToken) Usable(now time.Time) bool {
	return t.RevokedAt == nil && (t.ExpiresAt == nil || now.Before(*t.ExpiresAt))
}

// Credential holds the secrets by which an interactive user signs in.
type Credential struct {
	UserID       ID
	PasswordHash string // argon2id in PHC string format; empty: none set
	Passkeys     []byte // JSON of package auth
	UpdatedAt    time.Time
}

// Invitation lets a new interactive user, once and until it expires, set up sign-in.
type Invitation struct {
	Hash           [32]byte // SHA-256 of the code in the link
	OrganizationID ID
	UserID         ID
	ExpiresAt      time.Time
	UsedAt         *time.Time
}

// Session is a signed-in browser.
type Session struct {
	Hash           [32]byte // SHA-256 of the cookie's value
	OrganizationID ID
	UserID         ID
	CreatedAt      time.Time
	LastSeenAt     time.Time
	ExpiresAt      time.Time
	UserAgent      string
	Address        string
}
