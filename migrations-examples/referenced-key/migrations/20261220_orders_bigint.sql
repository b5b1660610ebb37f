-- pgshift: option cascade=true
ALTER TABLE orders ALTER COLUMN id TYPE bigint;
