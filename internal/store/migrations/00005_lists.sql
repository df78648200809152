-- Lists that read an index instead of rows.

-- +goose Up

-- Searching file names: newest first.
CREATE INDEX requests_names ON requests (organization_id, created_at, id, unsigned_name_key);
-- All projects with what belongs to them.
CREATE INDEX configurations_organization ON configurations (organization_id);
