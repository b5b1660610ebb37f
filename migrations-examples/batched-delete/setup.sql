CREATE TABLE sessions (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    bigint NOT NULL,
    expires_at timestamptz NOT NULL
);

INSERT INTO sessions (user_id, expires_at)
SELECT n % 100, timestamptz '2024-01-01 00:00+00' + n * interval '6 hours'
FROM generate_series(1, 4000) AS n;
