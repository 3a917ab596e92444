-- +goose Up
ALTER TABLE products ADD COLUMN extensions BIGINT NOT NULL DEFAULT 1;
ALTER TABLE products ADD COLUMN quarantine_clones BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE deployment_groups ADD COLUMN connecting_code TEXT NOT NULL DEFAULT '';
ALTER TABLE releases ADD COLUMN archive_id BIGINT NOT NULL DEFAULT 0;
ALTER TABLE ca_certificates ADD COLUMN verified_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN extensions_off BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN connecting_code TEXT NOT NULL DEFAULT '';
ALTER TABLE devices ADD COLUMN admission TEXT NOT NULL DEFAULT 'admitted';
ALTER TABLE devices ADD COLUMN admission_reason TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE products DROP COLUMN extensions;
ALTER TABLE products DROP COLUMN quarantine_clones;
ALTER TABLE deployment_groups DROP COLUMN connecting_code;
ALTER TABLE releases DROP COLUMN archive_id;
ALTER TABLE ca_certificates DROP COLUMN verified_at;
ALTER TABLE devices DROP COLUMN extensions_off;
ALTER TABLE devices DROP COLUMN connecting_code;
ALTER TABLE devices DROP COLUMN admission;
ALTER TABLE devices DROP COLUMN admission_reason;
