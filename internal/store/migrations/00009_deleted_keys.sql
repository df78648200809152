-- Private keys can be deleted; their certificates stay.

-- +goose Up

ALTER TABLE certificates ADD COLUMN key_deleted_at BIGINT;
