-- +goose Up
CREATE TABLE archives (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
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
  size BIGINT NOT NULL,
  sha256 TEXT NOT NULL,
  created_by BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX archives_unique_uuid ON archives (product_id, uuid);
CREATE INDEX archives_sha256 ON archives (sha256);
CREATE INDEX archives_signing_key ON archives (signing_key_id);
CREATE INDEX releases_archive ON releases (archive_id) WHERE archive_id > 0;

CREATE TABLE scripts (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  org_id BIGINT NOT NULL REFERENCES orgs (id),
  product_id BIGINT NOT NULL REFERENCES products (id),
  name TEXT COLLATE "C" NOT NULL,
  text TEXT NOT NULL,
  tags TEXT NOT NULL,
  created_by BIGINT NOT NULL,
  updated_by BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX scripts_unique_name ON scripts (product_id, name);

-- +goose Down
DROP TABLE scripts;
DROP INDEX releases_archive;
DROP TABLE archives;
