CREATE TABLE users (
    id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    bio  text
);
-- One row for each user, made together with it.
CREATE TABLE profiles (
    user_id bigint PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    color   text NOT NULL DEFAULT 'grey'
);

INSERT INTO users (name, bio)
SELECT 'user ' || n, CASE WHEN n % 3 <> 0 THEN 'I am number ' || n END
FROM generate_series(1, 3000) AS n;
INSERT INTO profiles (user_id) SELECT id FROM users;
