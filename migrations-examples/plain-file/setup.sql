CREATE TABLE products (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name  text NOT NULL,
    price numeric(10, 2) NOT NULL
);

INSERT INTO products (name, price) SELECT 'product ' || n, n * 0.5 FROM generate_series(1, 2000) AS n;
