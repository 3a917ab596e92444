-- +goose Up
ALTER TABLE products ADD COLUMN health_thresholds TEXT NOT NULL DEFAULT '[]';
ALTER TABLE devices ADD COLUMN flapping_since BIGINT NOT NULL DEFAULT 0;
CREATE INDEX devices_flapping ON devices (product_id, identifier) WHERE flapping_since > 0;

CREATE TABLE device_health (
  device_id BIGINT PRIMARY KEY REFERENCES devices (id),
  org_id BIGINT NOT NULL,
  product_id BIGINT NOT NULL,
  status TEXT NOT NULL,
  reasons TEXT NOT NULL,
  report TEXT NOT NULL,
  received_at BIGINT NOT NULL
);
CREATE INDEX device_health_product ON device_health (product_id, status);

CREATE TABLE metrics (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  org_id BIGINT NOT NULL,
  product_id BIGINT NOT NULL,
  device_id BIGINT NOT NULL REFERENCES devices (id),
  name TEXT COLLATE "C" NOT NULL,
  value DOUBLE PRECISION NOT NULL,
  at BIGINT NOT NULL,
  rolled_at BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX metrics_unique_name ON metrics (device_id, name);

CREATE TABLE metric_points (
  metric_id BIGINT NOT NULL,
  at BIGINT NOT NULL,
  value DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (metric_id, at)
);

CREATE TABLE metric_hours (
  metric_id BIGINT NOT NULL,
  at BIGINT NOT NULL,
  low DOUBLE PRECISION NOT NULL,
  high DOUBLE PRECISION NOT NULL,
  total DOUBLE PRECISION NOT NULL,
  points BIGINT NOT NULL,
  PRIMARY KEY (metric_id, at)
);

CREATE TABLE alarms (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  org_id BIGINT NOT NULL,
  product_id BIGINT NOT NULL,
  device_id BIGINT NOT NULL REFERENCES devices (id),
  name TEXT COLLATE "C" NOT NULL,
  description TEXT NOT NULL,
  first_seen_at BIGINT NOT NULL,
  raised_at BIGINT NOT NULL,
  last_seen_at BIGINT NOT NULL,
  cleared_at BIGINT NOT NULL,
  times BIGINT NOT NULL
);
CREATE UNIQUE INDEX alarms_unique_name ON alarms (device_id, name);
CREATE INDEX alarms_product ON alarms (product_id, raised_at, id);
CREATE INDEX alarms_raised ON alarms (product_id, name) WHERE cleared_at = 0;
CREATE INDEX alarms_cleared ON alarms (cleared_at) WHERE cleared_at > 0;

CREATE TABLE log_lines (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  org_id BIGINT NOT NULL,
  product_id BIGINT NOT NULL,
  device_id BIGINT NOT NULL,
  at BIGINT NOT NULL,
  received_at BIGINT NOT NULL,
  level BIGINT NOT NULL,
  message TEXT NOT NULL,
  meta TEXT NOT NULL
);
CREATE INDEX log_lines_device ON log_lines (device_id, at, id);

CREATE TABLE connection_records (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  uuid TEXT NOT NULL,
  org_id BIGINT NOT NULL,
  product_id BIGINT NOT NULL,
  device_id BIGINT NOT NULL,
  node TEXT NOT NULL,
  address TEXT NOT NULL,
  network_interface TEXT NOT NULL,
  established_at BIGINT NOT NULL,
  ended_at BIGINT NOT NULL,
  reason TEXT NOT NULL
);
CREATE INDEX connection_records_device ON connection_records (device_id, established_at, id);

CREATE TABLE locations (
  device_id BIGINT PRIMARY KEY REFERENCES devices (id),
  org_id BIGINT NOT NULL,
  product_id BIGINT NOT NULL,
  known BOOLEAN NOT NULL,
  latitude DOUBLE PRECISION NOT NULL,
  longitude DOUBLE PRECISION NOT NULL,
  accuracy DOUBLE PRECISION NOT NULL,
  source TEXT NOT NULL,
  at BIGINT NOT NULL,
  error_code TEXT NOT NULL,
  error_description TEXT NOT NULL,
  error_at BIGINT NOT NULL
);
CREATE INDEX locations_product ON locations (product_id);

CREATE TABLE network_identities (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  org_id BIGINT NOT NULL REFERENCES orgs (id),
  product_id BIGINT NOT NULL,
  device_id BIGINT NOT NULL REFERENCES devices (id),
  service TEXT COLLATE "C" NOT NULL,
  identifier TEXT COLLATE "C" NOT NULL,
  instance TEXT COLLATE "C" NOT NULL,
  details TEXT NOT NULL,
  source TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX network_identities_unique_identifier ON network_identities (org_id, service, identifier);
CREATE UNIQUE INDEX network_identities_unique_instance ON network_identities (device_id, service, instance);
CREATE INDEX network_identities_product ON network_identities (product_id);

-- +goose Down
DROP TABLE network_identities;
DROP TABLE locations;
DROP TABLE connection_records;
DROP TABLE log_lines;
DROP TABLE alarms;
DROP TABLE metric_hours;
DROP TABLE metric_points;
DROP TABLE metrics;
DROP TABLE device_health;
DROP INDEX devices_flapping;
ALTER TABLE devices DROP COLUMN flapping_since;
ALTER TABLE products DROP COLUMN health_thresholds;
