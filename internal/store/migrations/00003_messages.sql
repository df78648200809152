-- Webhooks, and messages on their way to users and webhooks.

-- +goose Up

ALTER TABLE users ADD COLUMN notification_level TEXT NOT NULL DEFAULT '';

CREATE TABLE webhooks (
    id                TEXT PRIMARY KEY,
    organization_id   TEXT NOT NULL REFERENCES organizations (id),
    name              TEXT NOT NULL,
    name_key          TEXT NOT NULL,
    url               TEXT NOT NULL,
    header_name       TEXT NOT NULL,
    header_changed_at BIGINT,
    sealed_header     BYTEA,
    secret_changed_at BIGINT NOT NULL,
    sealed_secret     BYTEA NOT NULL,
    active            BOOLEAN NOT NULL,
    created_at        BIGINT NOT NULL,
    version           BIGINT NOT NULL
);
CREATE UNIQUE INDEX webhooks_name ON webhooks (organization_id, name_key);

-- receiver_id is a user or a webhook, as the kind says. Ids grow with time: they order the lists.
CREATE TABLE deliveries (
    id              TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    request_id      TEXT NOT NULL,
    kind            TEXT NOT NULL,
    receiver_id     TEXT NOT NULL,
    event           TEXT NOT NULL,
    payload         TEXT NOT NULL,
    state           TEXT NOT NULL,
    attempts        TEXT NOT NULL,
    tries           BIGINT NOT NULL,
    created_at      BIGINT NOT NULL,
    next_at         BIGINT,
    version         BIGINT NOT NULL
);
CREATE INDEX deliveries_organization ON deliveries (organization_id, id);
CREATE INDEX deliveries_state ON deliveries (organization_id, state, id);
CREATE INDEX deliveries_request ON deliveries (organization_id, request_id, id);
CREATE INDEX deliveries_receiver ON deliveries (organization_id, receiver_id, id);
CREATE INDEX deliveries_due ON deliveries (next_at, id) WHERE next_at IS NOT NULL;
CREATE INDEX deliveries_settled ON deliveries (created_at) WHERE next_at IS NULL;
