-- Nothing has read users.legacy_token since release 41.

-- pgshift: contract
-- NOT NULL goes with it, so that rows can be inserted without a value meanwhile.
ALTER TABLE users DROP COLUMN legacy_token;
