CREATE TABLE contacts (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    country text NOT NULL,
    number  text NOT NULL
);

INSERT INTO contacts (country, number)
SELECT '+4' || n % 10, lpad(n::text, 7, '0') FROM generate_series(1, 3000) AS n;
