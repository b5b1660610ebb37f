-- Split users.name into first_name and last_name.

-- pgshift: expand
ALTER TABLE users
    ADD COLUMN first_name text,
    ADD COLUMN last_name text;

-- pgshift: backfill
-- One UPDATE for both columns: they belong together. nullif: no space, no last name.
UPDATE users
SET first_name = split_part(name, ' ', 1),
    last_name = nullif(substr(name, length(split_part(name, ' ', 1)) + 2), '');

-- pgshift: reverse
-- concat_ws leaves out what is null.
UPDATE users SET name = concat_ws(' ', first_name, last_name);

-- pgshift: contract
ALTER TABLE users ALTER COLUMN first_name SET NOT NULL;
ALTER TABLE users DROP COLUMN name;
