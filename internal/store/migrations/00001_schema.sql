-- One text for SQLite and PostgreSQL. Times are microseconds since 1970 in UTC, lists and records are JSON text,
-- columns that end in _key hold the text folded for comparison without regard to case.

-- +goose Up

CREATE TABLE organizations (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    settings   TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    version    BIGINT NOT NULL
);

CREATE TABLE users (
    id              TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    kind            TEXT NOT NULL,
    name            TEXT NOT NULL,
    name_key        TEXT NOT NULL,
    email           TEXT NOT NULL,
    email_key       TEXT NOT NULL,
    roles           TEXT NOT NULL,
    active          BOOLEAN NOT NULL,
    description     TEXT NOT NULL,
    created_at      BIGINT NOT NULL,
    version         BIGINT NOT NULL
);
CREATE UNIQUE INDEX users_email ON users (email_key, organization_id) WHERE email_key <> '';
CREATE UNIQUE INDEX users_ci_name ON users (organization_id, name_key) WHERE kind = 'CI';
CREATE INDEX users_organization ON users (organization_id, kind);

CREATE TABLE groups (
    id              TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    name            TEXT NOT NULL,
    name_key        TEXT NOT NULL,
    description     TEXT NOT NULL,
    created_at      BIGINT NOT NULL,
    version         BIGINT NOT NULL
);
CREATE UNIQUE INDEX groups_name ON groups (organization_id, name_key);

CREATE TABLE group_members (
    group_id    TEXT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    position    BIGINT NOT NULL,
    member_kind TEXT NOT NULL,
    member_id   TEXT NOT NULL,
    PRIMARY KEY (group_id, position)
);
CREATE INDEX group_members_member ON group_members (member_id, member_kind);

CREATE TABLE trusted_build_systems (
    id              TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    slug            TEXT NOT NULL,
    slug_key        TEXT NOT NULL,
    name            TEXT NOT NULL,
    description     TEXT NOT NULL,
    type            TEXT NOT NULL,
    created_at      BIGINT NOT NULL,
    version         BIGINT NOT NULL
);
CREATE UNIQUE INDEX trusted_build_systems_slug ON trusted_build_systems (organization_id, slug_key);

CREATE TABLE api_tokens (
    id              TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    kind            TEXT NOT NULL,
    owner_id        TEXT NOT NULL,
    name            TEXT NOT NULL,
    prefix          TEXT NOT NULL,
    hash            BYTEA NOT NULL,
    created_at      BIGINT NOT NULL,
    expires_at      BIGINT,
    last_used_at    BIGINT,
    revoked_at      BIGINT
);
CREATE UNIQUE INDEX api_tokens_hash ON api_tokens (hash);
CREATE INDEX api_tokens_owner ON api_tokens (organization_id, owner_id, created_at, id);

CREATE TABLE credentials (
    user_id       TEXT PRIMARY KEY REFERENCES users (id),
    password_hash TEXT NOT NULL,
    passkeys      BYTEA,
    updated_at    BIGINT NOT NULL
);

CREATE TABLE invitations (
    hash            BYTEA PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    user_id         TEXT NOT NULL REFERENCES users (id),
    expires_at      BIGINT NOT NULL,
    used_at         BIGINT
);

CREATE TABLE sessions (
    hash            BYTEA PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    user_id         TEXT NOT NULL REFERENCES users (id),
    created_at      BIGINT NOT NULL,
    last_seen_at    BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL,
    user_agent      TEXT NOT NULL,
    address         TEXT NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id, last_seen_at);
CREATE INDEX sessions_expiry ON sessions (expires_at);

CREATE TABLE certificates (
    id              TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    slug            TEXT NOT NULL,
    slug_key        TEXT NOT NULL,
    name            TEXT NOT NULL,
    type            TEXT NOT NULL,
    creation_method TEXT NOT NULL,
    active          BOOLEAN NOT NULL,
    key_store       TEXT NOT NULL,
    key_id          TEXT NOT NULL,
    key_algorithm   TEXT NOT NULL,
    chain           TEXT NOT NULL,
    csr             BYTEA,
    subject         TEXT NOT NULL,
    issuer          TEXT NOT NULL,
    serial_number   TEXT NOT NULL,
    not_before      BIGINT NOT NULL,
    not_after       BIGINT NOT NULL,
    restrictions    TEXT NOT NULL,
    created_at      BIGINT NOT NULL,
    version         BIGINT NOT NULL
);
CREATE UNIQUE INDEX certificates_slug ON certificates (organization_id, slug_key);

CREATE TABLE projects (
    id                       TEXT PRIMARY KEY,
    organization_id          TEXT NOT NULL REFERENCES organizations (id),
    slug                     TEXT NOT NULL,
    slug_key                 TEXT NOT NULL,
    name                     TEXT NOT NULL,
    description              TEXT NOT NULL,
    active                   BOOLEAN NOT NULL,
    repositories             TEXT NOT NULL,
    default_configuration_id TEXT NOT NULL,
    readers                  TEXT NOT NULL,
    configurators            TEXT NOT NULL,
    trusted_build_systems    TEXT NOT NULL,
    created_at               BIGINT NOT NULL,
    version                  BIGINT NOT NULL
);
CREATE UNIQUE INDEX projects_slug ON projects (organization_id, slug_key);

CREATE TABLE configurations (
    id              TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    project_id      TEXT NOT NULL REFERENCES projects (id),
    slug            TEXT NOT NULL,
    slug_key        TEXT NOT NULL,
    name            TEXT NOT NULL,
    description     TEXT NOT NULL,
    active          BOOLEAN NOT NULL,
    latest          BIGINT NOT NULL,
    created_at      BIGINT NOT NULL,
    version         BIGINT NOT NULL
);
CREATE UNIQUE INDEX configurations_slug ON configurations (project_id, slug_key);

CREATE TABLE configuration_versions (
    configuration_id TEXT NOT NULL REFERENCES configurations (id),
    number           BIGINT NOT NULL,
    xml              TEXT NOT NULL,
    created_at       BIGINT NOT NULL,
    created_by       TEXT NOT NULL,
    PRIMARY KEY (configuration_id, number)
);

CREATE TABLE policies (
    id              TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    project_id      TEXT NOT NULL REFERENCES projects (id),
    slug            TEXT NOT NULL,
    slug_key        TEXT NOT NULL,
    name            TEXT NOT NULL,
    description     TEXT NOT NULL,
    active          BOOLEAN NOT NULL,
    certificate_id  TEXT NOT NULL REFERENCES certificates (id),
    submitters      TEXT NOT NULL,
    approvers       TEXT NOT NULL,
    rules           TEXT NOT NULL,
    created_at      BIGINT NOT NULL,
    version         BIGINT NOT NULL
);
CREATE UNIQUE INDEX policies_slug ON policies (project_id, slug_key);
CREATE INDEX policies_organization ON policies (organization_id);
CREATE INDEX policies_certificate ON policies (certificate_id);

CREATE TABLE requests (
    id                      TEXT PRIMARY KEY,
    organization_id         TEXT NOT NULL REFERENCES organizations (id),
    project_id              TEXT NOT NULL REFERENCES projects (id),
    policy_id               TEXT NOT NULL REFERENCES policies (id),
    configuration_id        TEXT NOT NULL REFERENCES configurations (id),
    configuration_version   BIGINT NOT NULL,
    workflow                TEXT NOT NULL,
    status                  TEXT NOT NULL,
    description             TEXT NOT NULL,
    submitter_id            TEXT NOT NULL,
    submitted_via           TEXT NOT NULL,
    trusted_build_system_id TEXT NOT NULL,
    unsigned_name           TEXT NOT NULL,
    unsigned_name_key       TEXT NOT NULL,
    unsigned_blob           TEXT NOT NULL,
    unsigned_size           BIGINT NOT NULL,
    unsigned_sha256         TEXT NOT NULL,
    signed_name             TEXT NOT NULL,
    signed_blob             TEXT NOT NULL,
    signed_size             BIGINT NOT NULL,
    signed_sha256           TEXT NOT NULL,
    retrieval               TEXT,
    parameters              TEXT NOT NULL,
    origin                  TEXT,
    origin_blob             TEXT NOT NULL,
    original_id             TEXT NOT NULL,
    idempotency_key         TEXT NOT NULL,
    created_at              BIGINT NOT NULL,
    final_at                BIGINT,
    cancel_at               BIGINT,
    artifacts_deleted_at    BIGINT,
    failure                 TEXT,
    attempt                 BIGINT NOT NULL,
    tries                   BIGINT NOT NULL,
    lease_until             BIGINT,
    wake_at                 BIGINT,
    version                 BIGINT NOT NULL
);
-- Lists ask one of these four once for each wanted status, newest first: whatever the filter, a page costs a page.
CREATE INDEX requests_organization ON requests (organization_id, status, created_at, id);
CREATE INDEX requests_project ON requests (project_id, status, created_at, id);
CREATE INDEX requests_policy ON requests (policy_id, status, created_at, id);
CREATE INDEX requests_submitter ON requests (submitter_id, status, created_at, id);
CREATE INDEX requests_unsigned_sha256 ON requests (unsigned_sha256, created_at, id) WHERE unsigned_sha256 <> '';
CREATE INDEX requests_signed_sha256 ON requests (signed_sha256, created_at, id) WHERE signed_sha256 <> '';
CREATE INDEX requests_original ON requests (original_id, created_at, id) WHERE original_id <> '';
CREATE INDEX requests_idempotency ON requests (policy_id, idempotency_key, created_at, id) WHERE idempotency_key <> '';
CREATE INDEX requests_unsigned_blob ON requests (unsigned_blob) WHERE unsigned_blob <> '';
CREATE INDEX requests_signed_blob ON requests (signed_blob) WHERE signed_blob <> '';
CREATE INDEX requests_origin_blob ON requests (origin_blob) WHERE origin_blob <> '';
CREATE INDEX requests_due ON requests (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX requests_leased ON requests (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX requests_retained ON requests (organization_id, id)
    WHERE final_at IS NOT NULL AND (unsigned_blob <> '' OR signed_blob <> '');

CREATE TABLE approvals (
    id         TEXT PRIMARY KEY,
    request_id TEXT NOT NULL REFERENCES requests (id),
    user_id    TEXT NOT NULL,
    user_name  TEXT NOT NULL,
    decision   TEXT NOT NULL,
    comment    TEXT NOT NULL,
    binding    TEXT NOT NULL,
    at         BIGINT NOT NULL
);
CREATE UNIQUE INDEX approvals_once ON approvals (request_id, user_id, binding);

CREATE TABLE request_verifications (
    request_id    TEXT PRIMARY KEY REFERENCES requests (id),
    verifications TEXT NOT NULL
);

CREATE TABLE resolved_artifacts (
    request_id TEXT PRIMARY KEY REFERENCES requests (id),
    plan       BYTEA,
    result     BYTEA
);

CREATE TABLE grants (
    id             TEXT PRIMARY KEY,
    request_id     TEXT NOT NULL REFERENCES requests (id),
    attempt        BIGINT NOT NULL,
    certificate_id TEXT NOT NULL REFERENCES certificates (id),
    plan_digest    TEXT NOT NULL,
    signatures     BIGINT NOT NULL,
    issued_at      BIGINT NOT NULL,
    ended_at       BIGINT,
    outcome        TEXT NOT NULL
);
CREATE INDEX grants_request ON grants (request_id, issued_at, id);

CREATE TABLE audit_heads (
    organization_id TEXT PRIMARY KEY REFERENCES organizations (id),
    sequence        BIGINT NOT NULL,
    chain           BYTEA NOT NULL
);

CREATE TABLE audit_leaves (
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    sequence        BIGINT NOT NULL,
    leaf            BYTEA NOT NULL,
    chain           BYTEA NOT NULL,
    event           TEXT NOT NULL,
    object_id       TEXT NOT NULL,
    actor_id        TEXT NOT NULL,
    at              BIGINT NOT NULL,
    PRIMARY KEY (organization_id, sequence)
);
CREATE INDEX audit_leaves_event ON audit_leaves (organization_id, event, sequence);
CREATE INDEX audit_leaves_object ON audit_leaves (organization_id, object_id, sequence);
CREATE INDEX audit_leaves_actor ON audit_leaves (organization_id, actor_id, sequence);
CREATE INDEX audit_leaves_time ON audit_leaves (organization_id, at, sequence);

CREATE TABLE software_keys (
    id     TEXT PRIMARY KEY,
    sealed BYTEA NOT NULL
);
