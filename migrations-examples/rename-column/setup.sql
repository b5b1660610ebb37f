CREATE TABLE orders (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    status text NOT NULL DEFAULT 'new',
    total  numeric(12, 2) NOT NULL CHECK (total >= 0)
);
CREATE INDEX orders_total ON orders (total);
CREATE VIEW large_orders AS SELECT id, total FROM orders WHERE total > 1000;

INSERT INTO orders (total)
SELECT n * 1.37 FROM generate_series(1, 3000) AS n;
