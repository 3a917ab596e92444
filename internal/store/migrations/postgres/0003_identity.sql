-- +goose Up
ALTER TABLE products ADD COLUMN approve_devices BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE ca_certificates ADD COLUMN jitp_product_id BIGINT NOT NULL DEFAULT 0;
ALTER TABLE ca_certificates ADD COLUMN jitp_tags TEXT NOT NULL DEFAULT '[]';
ALTER TABLE ca_certificates ADD COLUMN jitp_description TEXT NOT NULL DEFAULT '';
ALTER TABLE ca_certificates ADD COLUMN jitp_quota BIGINT NOT NULL DEFAULT 0;
ALTER TABLE ca_certificates ADD COLUMN jitp_approval BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE ca_certificates ADD COLUMN jitp_created BIGINT NOT NULL DEFAULT 0;
CREATE INDEX devices_deleted ON devices (org_id, identifier) WHERE deleted_at > 0;

CREATE TABLE revoked_certificates (
  fingerprint TEXT PRIMARY KEY,
  org_id BIGINT NOT NULL REFERENCES orgs (id),
  device_id BIGINT NOT NULL,
  serial TEXT NOT NULL,
  revoked_at BIGINT NOT NULL
);

CREATE TABLE notifications (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  uuid TEXT NOT NULL,
  org_id BIGINT NOT NULL REFERENCES orgs (id),
  product_id BIGINT NOT NULL,
  device_id BIGINT NOT NULL,
  device TEXT NOT NULL,
  kind TEXT NOT NULL,
  key TEXT NOT NULL,
  title TEXT NOT NULL,
  message TEXT NOT NULL,
  count BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  last_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX notifications_unique_key ON notifications (org_id, product_id, kind, device_id, device, key);
CREATE INDEX notifications_product ON notifications (org_id, product_id, last_at, id);
CREATE INDEX notifications_last ON notifications (last_at);

CREATE TABLE device_refusals (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  org_id BIGINT NOT NULL REFERENCES orgs (id),
  product_id BIGINT NOT NULL,
  device_id BIGINT NOT NULL,
  identifier TEXT NOT NULL,
  code TEXT NOT NULL,
  message TEXT NOT NULL,
  address TEXT NOT NULL,
  count BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  last_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX device_refusals_unique_code ON device_refusals (org_id, identifier, code);
CREATE INDEX device_refusals_org ON device_refusals (org_id, last_at, id);
CREATE INDEX device_refusals_last ON device_refusals (last_at);

-- +goose Down
DROP TABLE device_refusals;
DROP TABLE notifications;
DROP TABLE revoked_certificates;
DROP INDEX devices_deleted;
ALTER TABLE ca_certificates DROP COLUMN jitp_created;
ALTER TABLE ca_certificates DROP COLUMN jitp_approval;
ALTER TABLE ca_certificates DROP COLUMN jitp_quota;
ALTER TABLE ca_certificates DROP COLUMN jitp_description;
ALTER TABLE ca_certificates DROP COLUMN jitp_tags;
ALTER TABLE ca_certificates DROP COLUMN jitp_product_id;
ALTER TABLE products DROP COLUMN approve_devices;
