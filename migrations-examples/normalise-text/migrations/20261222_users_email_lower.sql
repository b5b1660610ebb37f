-- Compare e-mail addresses without regard to case: store them in lower case.

-- pgshift: backfill strategy=keyset
-- The WHERE leaves rows alone that are right already: less to write, less to vacuum.
UPDATE users SET email = lower(email) WHERE email <> lower(email);

-- pgshift: verify
SELECT count(*) FROM users WHERE email <> lower(email);
