-- Approvals are bound to what approvers decide on, no longer to every edit of the policy. Those that were given keep counting.

-- +goose Up

ALTER TABLE policies ADD COLUMN approval_version BIGINT NOT NULL DEFAULT 0;

UPDATE policies SET approval_version = version;
