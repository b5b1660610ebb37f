ALTER TABLE events ALTER COLUMN id TYPE bigint, ALTER COLUMN user_id TYPE bigint;
