-- The audit log only grows, whoever writes the SQL.

-- +goose Up

-- +goose StatementBegin
CREATE FUNCTION audit_leaves_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit leaves are append-only';
END
$$;
-- +goose StatementEnd

CREATE TRIGGER audit_leaves_no_change BEFORE UPDATE OR DELETE ON audit_leaves
    FOR EACH ROW EXECUTE FUNCTION audit_leaves_append_only();

CREATE TRIGGER audit_leaves_no_truncate BEFORE TRUNCATE ON audit_leaves
    FOR EACH STATEMENT EXECUTE FUNCTION audit_leaves_append_only();
