-- Predefined trusted build systems.

-- +goose Up

ALTER TABLE trusted_build_systems ADD COLUMN build_host TEXT NOT NULL DEFAULT '';
