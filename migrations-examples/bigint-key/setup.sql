CREATE TABLE events (
    id      serial PRIMARY KEY,
    kind    text NOT NULL,
    user_id integer CHECK (user_id > 0)
);
CREATE INDEX events_user_recent ON events (user_id, id DESC) WHERE user_id IS NOT NULL;

INSERT INTO events (kind, user_id)
SELECT 'click', nullif(n % 50, 0) FROM generate_series(1, 3000) AS n;
