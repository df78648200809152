-- The audit log only grows, whoever writes the SQL.

-- +goose Up

-- +goose StatementBegin
CREATE TRIGGER audit_leaves_no_update BEFORE UPDATE ON audit_leaves
BEGIN
    SELECT RAISE(ABORT, 'audit leaves are append-only');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER audit_leaves_no_delete BEFORE DELETE ON audit_leaves
BEGIN
    SELECT RAISE(ABORT, 'audit leaves are append-only');
END;
-- +goose StatementEnd

-- INSERT OR REPLACE deletes without firing the trigger above.
-- +goose StatementBegin
CREATE TRIGGER audit_leaves_no_replace BEFORE INSERT ON audit_leaves
WHEN EXISTS (SELECT 1 FROM audit_leaves l WHERE l.organization_id = NEW.organization_id AND l.sequence = NEW.sequence)
BEGIN
    SELECT RAISE(ABORT, 'audit leaves are append-only');
END;
-- +goose StatementEnd
