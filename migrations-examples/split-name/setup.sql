CREATE TABLE users (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text NOT NULL UNIQUE,
    name  text NOT NULL
);

INSERT INTO users (email, name)
SELECT 'user' || n || '@example.com',
       CASE WHEN n % 10 = 0 THEN 'Madonna'
            WHEN n % 7 = 0 THEN 'Ludwig van Beethoven'
            ELSE 'Ada Lovelace ' || n END
FROM generate_series(1, 3000) AS n;
