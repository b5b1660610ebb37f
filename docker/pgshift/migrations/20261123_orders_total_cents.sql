-- pgshift: expand
ALTER TABLE orders ADD COLUMN total_cents bigint;

-- pgshift: backfill
UPDATE orders SET total_cents = round(total * 100)::bigint;

-- pgshift: reverse
UPDATE orders SET total = total_cents / 100.0;

-- pgshift: contract
ALTER TABLE orders ALTER COLUMN total_cents SET NOT NULL;
ALTER TABLE orders DROP COLUMN total;
