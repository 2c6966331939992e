-- The packages with connectors that a gateway has, with their versions. Null for a gateway of an earlier version.
ALTER TABLE replica ADD COLUMN packages text;
