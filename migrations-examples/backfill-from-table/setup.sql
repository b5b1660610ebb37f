CREATE TABLE customers (
    id      bigint PRIMARY KEY,
    country text NOT NULL
);
CREATE TABLE orders (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint REFERENCES customers,
    total       numeric(12, 2) NOT NULL
);

INSERT INTO customers
SELECT n, (ARRAY['AT', 'CH', 'DE', 'FR'])[1 + n % 4] FROM generate_series(1, 200) AS n;
-- Some orders have no customer: they keep a null country.
INSERT INTO orders (customer_id, total)
SELECT CASE WHEN n % 50 <> 0 THEN 1 + n % 200 END, n * 0.99 FROM generate_series(1, 3000) AS n;
