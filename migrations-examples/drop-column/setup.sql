CREATE TABLE users (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email        text NOT NULL,
    legacy_token text NOT NULL DEFAULT ''
);

INSERT INTO users (email, legacy_token)
SELECT 'user' || n || '@example.com', md5(n::text) FROM generate_series(1, 1000) AS n;
