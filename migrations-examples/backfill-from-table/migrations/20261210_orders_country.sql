-- Orders carry the country of their customer, so that reports need no join.

-- pgshift: expand
ALTER TABLE orders ADD COLUMN country text;

-- pgshift: backfill
UPDATE orders AS o
SET country = c.country
FROM customers AS c
WHERE c.id = o.customer_id;

-- pgshift: verify
-- Beside the built-in comparison of every row: a check in the author's words.
SELECT o.id FROM orders AS o WHERE o.customer_id IS NOT NULL AND o.country IS NULL;
