CREATE TABLE invoices (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    issued_on date NOT NULL,
    terms     integer NOT NULL DEFAULT 30,
    amount    numeric(12, 2) NOT NULL
);

INSERT INTO invoices (issued_on, terms, amount)
SELECT date '2025-01-01' + n % 365, (ARRAY[14, 30, 60])[1 + n % 3], n
FROM generate_series(1, 3000) AS n;
