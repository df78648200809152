-- Audit entries are found by the type of their object.

-- +goose Up

ALTER TABLE audit_leaves ADD COLUMN object_type TEXT NOT NULL DEFAULT '';

DROP TRIGGER audit_leaves_no_update;

UPDATE audit_leaves SET object_type = COALESCE(json_extract(CAST(leaf AS TEXT), '$.object.type'), '');

CREATE INDEX audit_leaves_object_type ON audit_leaves (organization_id, object_type, sequence);

-- +goose StatementBegin
CREATE TRIGGER audit_leaves_no_update BEFORE UPDATE ON audit_leaves
BEGIN
    SELECT RAISE(ABORT, 'audit leaves are append-only');
END;
-- +goose StatementEnd
