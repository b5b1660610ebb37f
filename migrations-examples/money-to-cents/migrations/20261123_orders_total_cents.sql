-- Keep order totals as whole cents.
--
-- The old application version reads and writes `total`, the new one `total_cents`. While both
-- run, a trigger that pgshift makes keeps the two equal.

-- pgshift: expand
-- Nullable and without a default: the old version does not know the column.
ALTER TABLE orders ADD COLUMN total_cents bigint;

-- pgshift: backfill
-- Run in short chunks, and by the trigger for rows that the old version writes meanwhile.
UPDATE orders SET total_cents = round(total * 100)::bigint;

-- pgshift: reverse
-- How the old column follows from a write of the new version. Without it a revert would lose
-- what the new version wrote.
UPDATE orders SET total = total_cents / 100.0;

-- pgshift: contract
-- Only once the old version is gone. The column is set aside, not dropped, until `purge`.
ALTER TABLE orders ALTER COLUMN total_cents SET NOT NULL;
ALTER TABLE orders DROP COLUMN total;
