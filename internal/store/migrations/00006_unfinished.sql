-- Attempts whose process ended without a word.

-- +goose Up

ALTER TABLE requests ADD COLUMN unfinished BIGINT NOT NULL DEFAULT 0;
