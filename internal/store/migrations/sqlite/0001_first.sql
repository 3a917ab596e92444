-- +goose Up
CREATE TABLE orgs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  uuid TEXT NOT NULL,
  name TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX orgs_unique_name ON orgs (name);

CREATE TABLE users (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  uuid TEXT NOT NULL,
  email TEXT NOT NULL,
  name TEXT NOT NULL,
  password_hash TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX users_unique_email ON users (email);

CREATE TABLE memberships (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  org_id BIGINT NOT NULL REFERENCES orgs (id),
  user_id BIGINT NOT NULL REFERENCES users (id),
  role TEXT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX memberships_unique_user_id ON memberships (org_id, user_id);
CREATE INDEX memberships_user ON memberships (user_id);

CREATE TABLE tokens (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  uuid TEXT NOT NULL,
  user_id BIGINT NOT NULL,
  kind TEXT NOT NULL,
  hash BLOB NOT NULL,
  note TEXT NOT NULL,
  expires_at BIGINT NOT NULL,
  last_used_at BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX tokens_unique_hash ON tokens (hash);
CREATE INDEX tokens_user ON tokens (user_id);
CREATE INDEX tokens_expiry ON tokens (expires_at) WHERE expires_at > 0;

CREATE TABLE products (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  uuid TEXT NOT NULL,
  org_id BIGINT NOT NULL REFERENCES orgs (id),
  name TEXT NOT NULL,
  require_unique_firmware_version BOOLEAN NOT NULL,
  deleted_at BIGINT NOT NULL DEFAULT 0,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX products_unique_name ON products (org_id, name) WHERE deleted_at = 0;

CREATE TABLE shared_secrets (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  uuid TEXT NOT NULL,
  org_id BIGINT NOT NULL REFERENCES orgs (id),
  product_id BIGINT NOT NULL REFERENCES products (id),
  device_id BIGINT NOT NULL DEFAULT 0,
  key TEXT NOT NULL,
  sealed BLOB NOT NULL,
  note TEXT NOT NULL,
  deactivated_at BIGINT NOT NULL,
  last_used_at BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX shared_secrets_unique_key ON shared_secrets (key);
CREATE INDEX shared_secrets_product ON shared_secrets (product_id);

CREATE TABLE signing_keys (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  uuid TEXT NOT NULL,
  org_id BIGINT NOT NULL REFERENCES orgs (id),
  name TEXT NOT NULL,
  key TEXT NOT NULL,
  created_by BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX signing_keys_unique_name ON signing_keys (org_id, name);
CREATE UNIQUE INDEX signing_keys_unique_key ON signing_keys (org_id, key);

CREATE TABLE ca_certificates (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  uuid TEXT NOT NULL,
  org_id BIGINT NOT NULL REFERENCES orgs (id),
  serial TEXT NOT NULL,
  aki BLOB NOT NULL,
  ski BLOB NOT NULL,
  der BLOB NOT NULL,
  description TEXT NOT NULL,
  not_before BIGINT NOT NULL,
  not_after BIGINT NOT NULL,
  check_expiration BOOLEAN NOT NULL,
  last_used_at BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX ca_certificates_unique_serial ON ca_certificates (org_id, serial);
CREATE INDEX ca_certificates_ski ON ca_certificates (ski);

CREATE TABLE deployment_groups (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  uuid TEXT NOT NULL,
  org_id BIGINT NOT NULL REFERENCES orgs (id),
  product_id BIGINT NOT NULL REFERENCES products (id),
  name TEXT NOT NULL,
  platform TEXT NOT NULL,
  architecture TEXT NOT NULL,
  tags TEXT NOT NULL,
  tag_operator TEXT NOT NULL,
  version TEXT NOT NULL,
  active BOOLEAN NOT NULL,
  concurrent_updates BIGINT NOT NULL,
  failure_threshold BIGINT NOT NULL,
  failure_window BIGINT NOT NULL,
  penalty BIGINT NOT NULL,
  hold_time BIGINT NOT NULL,
  release_id BIGINT NOT NULL,
  revision BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX deployment_groups_unique_name ON deployment_groups (product_id, name);

CREATE TABLE devices (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  uuid TEXT NOT NULL,
  org_id BIGINT NOT NULL REFERENCES orgs (id),
  product_id BIGINT NOT NULL REFERENCES products (id),
  identifier TEXT NOT NULL,
  description TEXT NOT NULL,
  tags TEXT NOT NULL,
  group_id BIGINT NOT NULL DEFAULT 0,
  firmware_uuid TEXT NOT NULL DEFAULT '',
  firmware_product TEXT NOT NULL DEFAULT '',
  firmware_version TEXT NOT NULL DEFAULT '',
  firmware_platform TEXT NOT NULL DEFAULT '',
  firmware_architecture TEXT NOT NULL DEFAULT '',
  firmware_author TEXT NOT NULL DEFAULT '',
  firmware_description TEXT NOT NULL DEFAULT '',
  firmware_vcs_identifier TEXT NOT NULL DEFAULT '',
  firmware_misc TEXT NOT NULL DEFAULT '',
  validation TEXT NOT NULL DEFAULT 'unknown',
  auto_reverted BOOLEAN NOT NULL DEFAULT FALSE,
  api_version TEXT NOT NULL DEFAULT '',
  fwup_version TEXT NOT NULL DEFAULT '',
  updates_enabled BOOLEAN NOT NULL DEFAULT TRUE,
  blocked_until BIGINT NOT NULL DEFAULT 0,
  failures BIGINT NOT NULL DEFAULT 0,
  penalties BIGINT NOT NULL DEFAULT 0,
  first_seen_at BIGINT NOT NULL DEFAULT 0,
  deleted_at BIGINT NOT NULL DEFAULT 0,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX devices_unique_identifier ON devices (org_id, identifier) WHERE deleted_at = 0;
CREATE INDEX devices_product ON devices (product_id, identifier) WHERE deleted_at = 0;
CREATE INDEX devices_group ON devices (group_id, firmware_uuid) WHERE deleted_at = 0 AND group_id > 0;
CREATE INDEX devices_firmware ON devices (product_id, firmware_uuid) WHERE deleted_at = 0;

CREATE TABLE device_certificates (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  uuid TEXT NOT NULL,
  org_id BIGINT NOT NULL REFERENCES orgs (id),
  device_id BIGINT NOT NULL REFERENCES devices (id),
  serial TEXT NOT NULL,
  aki BLOB NOT NULL,
  ski BLOB NOT NULL,
  der BLOB NOT NULL,
  fingerprint TEXT NOT NULL,
  public_key_fingerprint TEXT NOT NULL,
  not_before BIGINT NOT NULL,
  not_after BIGINT NOT NULL,
  last_used_at BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX device_certificates_unique_fingerprint ON device_certificates (fingerprint);
CREATE UNIQUE INDEX device_certificates_unique_serial ON device_certificates (device_id, serial);
CREATE INDEX device_certificates_public_key ON device_certificates (public_key_fingerprint);

CREATE TABLE connections (
  device_id BIGINT PRIMARY KEY REFERENCES devices (id),
  org_id BIGINT NOT NULL,
  product_id BIGINT NOT NULL,
  uuid TEXT NOT NULL,
  node TEXT NOT NULL,
  status TEXT NOT NULL,
  address TEXT NOT NULL,
  established_at BIGINT NOT NULL,
  last_seen_at BIGINT NOT NULL,
  disconnected_at BIGINT NOT NULL,
  reason TEXT NOT NULL,
  network_interface TEXT NOT NULL
);
CREATE INDEX connections_node ON connections (node, status);
CREATE INDEX connections_product ON connections (product_id, status);

CREATE TABLE firmware (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  org_id BIGINT NOT NULL REFERENCES orgs (id),
  product_id BIGINT NOT NULL REFERENCES products (id),
  uuid TEXT NOT NULL,
  product TEXT NOT NULL,
  version TEXT NOT NULL,
  platform TEXT NOT NULL,
  architecture TEXT NOT NULL,
  author TEXT NOT NULL,
  description TEXT NOT NULL,
  vcs_identifier TEXT NOT NULL,
  misc TEXT NOT NULL,
  signing_key_id BIGINT NOT NULL REFERENCES signing_keys (id),
  status TEXT NOT NULL,
  size BIGINT NOT NULL,
  sha256 TEXT NOT NULL,
  part_sha256 TEXT NOT NULL,
  nickname TEXT NOT NULL,
  fwup_version TEXT NOT NULL,
  created_by BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX firmware_unique_uuid ON firmware (product_id, uuid);
CREATE INDEX firmware_version ON firmware (product_id, version, platform, architecture);
CREATE INDEX firmware_sha256 ON firmware (sha256);
CREATE INDEX firmware_signing_key ON firmware (signing_key_id);

CREATE TABLE releases (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  uuid TEXT NOT NULL,
  org_id BIGINT NOT NULL REFERENCES orgs (id),
  product_id BIGINT NOT NULL REFERENCES products (id),
  group_id BIGINT NOT NULL REFERENCES deployment_groups (id),
  number BIGINT NOT NULL,
  firmware_id BIGINT NOT NULL REFERENCES firmware (id),
  description TEXT NOT NULL,
  created_by BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX releases_unique_number ON releases (group_id, number);
CREATE INDEX releases_firmware ON releases (firmware_id);

CREATE TABLE update_attempts (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  uuid TEXT NOT NULL,
  org_id BIGINT NOT NULL REFERENCES orgs (id),
  product_id BIGINT NOT NULL,
  device_id BIGINT NOT NULL REFERENCES devices (id),
  group_id BIGINT NOT NULL,
  release_id BIGINT NOT NULL,
  firmware_id BIGINT NOT NULL,
  source_uuid TEXT NOT NULL,
  target_uuid TEXT NOT NULL,
  state TEXT NOT NULL,
  reason TEXT NOT NULL,
  percent BIGINT NOT NULL,
  number BIGINT NOT NULL,
  bytes BIGINT NOT NULL,
  offered_at BIGINT NOT NULL,
  received_at BIGINT NOT NULL,
  downloading_at BIGINT NOT NULL,
  applying_at BIGINT NOT NULL,
  rebooting_at BIGINT NOT NULL,
  proving_at BIGINT NOT NULL,
  finished_at BIGINT NOT NULL,
  deadline_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX update_attempts_unique_device_id ON update_attempts (device_id)
  WHERE state IN ('offered', 'received', 'downloading', 'applying', 'rebooting', 'proving');
CREATE INDEX update_attempts_group ON update_attempts (group_id, state);
CREATE INDEX update_attempts_release ON update_attempts (release_id, device_id, id);
CREATE INDEX update_attempts_device ON update_attempts (device_id, id);
CREATE INDEX update_attempts_product ON update_attempts (product_id, id);
CREATE INDEX update_attempts_deadline ON update_attempts (deadline_at)
  WHERE state IN ('offered', 'received', 'downloading', 'applying', 'rebooting', 'proving');

CREATE TABLE leases (
  name TEXT PRIMARY KEY,
  holder TEXT NOT NULL,
  token BIGINT NOT NULL,
  expires_at BIGINT NOT NULL
);

CREATE TABLE audit_events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  uuid TEXT NOT NULL,
  org_id BIGINT NOT NULL REFERENCES orgs (id),
  product_id BIGINT NOT NULL,
  actor_kind TEXT NOT NULL,
  actor_id BIGINT NOT NULL,
  actor_name TEXT NOT NULL,
  action TEXT NOT NULL,
  noun TEXT NOT NULL,
  noun_id BIGINT NOT NULL,
  noun_name TEXT NOT NULL,
  summary TEXT NOT NULL,
  detail TEXT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE INDEX audit_events_org ON audit_events (org_id, id);
CREATE INDEX audit_events_product ON audit_events (product_id, id);
CREATE INDEX audit_events_noun ON audit_events (noun, noun_id, id);
CREATE INDEX audit_events_created ON audit_events (created_at);

-- +goose Down
DROP TABLE audit_events;
DROP TABLE leases;
DROP TABLE update_attempts;
DROP TABLE releases;
DROP TABLE firmware;
DROP TABLE connections;
DROP TABLE device_certificates;
DROP TABLE devices;
DROP TABLE deployment_groups;
DROP TABLE ca_certificates;
DROP TABLE signing_keys;
DROP TABLE shared_secrets;
DROP TABLE products;
DROP TABLE tokens;
DROP TABLE memberships;
DROP TABLE users;
DROP TABLE orgs;
