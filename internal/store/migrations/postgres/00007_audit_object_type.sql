-- Audit entries are found by the type of their object.

-- +goose Up

ALTER TABLE audit_leaves ADD COLUMN object_type TEXT NOT NULL DEFAULT '';

ALTER TABLE audit_leaves DISABLE TRIGGER audit_leaves_no_change;

-- PostgreSQL's JSON refuses an escaped NUL anywhere. Quotes in the texts before the object are escaped, so this is it.
UPDATE audit_leaves SET object_type = COALESCE(substring(convert_from(leaf, 'UTF8') from ',"object":[{]"type":"([^"\\]*)"'), '');

ALTER TABLE audit_leaves ENABLE TRIGGER audit_leaves_no_change;

CREATE INDEX audit_leaves_object_type ON audit_leaves (organization_id, object_type, sequence);
