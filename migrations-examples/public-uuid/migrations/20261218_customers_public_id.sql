-- Customers get an id that may be shown in URLs.

-- pgshift: expand
ALTER TABLE customers ADD COLUMN public_id uuid;
-- Built CONCURRENTLY, after the backfill.
CREATE UNIQUE INDEX customers_public_id ON customers (public_id);

-- pgshift: backfill
-- A value that is there is never replaced: only rows without one are changed.
UPDATE customers SET public_id = gen_random_uuid();

-- pgshift: contract
ALTER TABLE customers ALTER COLUMN public_id SET DEFAULT gen_random_uuid();
ALTER TABLE customers ALTER COLUMN public_id SET NOT NULL;
