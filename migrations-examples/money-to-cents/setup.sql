CREATE TABLE orders (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL,
    status      text NOT NULL DEFAULT 'new',
    total       numeric(12, 2) NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_customer ON orders (customer_id);

INSERT INTO orders (customer_id, status, total, created_at)
SELECT n % 500, (ARRAY['new', 'paid', 'sent'])[1 + n % 3], n * 1.37,
       timestamptz '2026-01-01 00:00+00' + n * interval '1 minute'
FROM generate_series(1, 5000) AS n;
