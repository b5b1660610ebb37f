CREATE TABLE people (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    first_name text NOT NULL,
    last_name  text NOT NULL
);

INSERT INTO people (first_name, last_name)
SELECT 'Ada', 'Lovelace ' || n FROM generate_series(1, 3000) AS n;
