CREATE TABLE users (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text NOT NULL
);

INSERT INTO users (email)
SELECT CASE WHEN n % 2 = 0 THEN 'User' || n || '@Example.COM' ELSE 'user' || n || '@example.com' END
FROM generate_series(1, 3000) AS n;
