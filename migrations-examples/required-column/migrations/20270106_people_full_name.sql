-- Plain SQL, as one would write it for an empty database.
ALTER TABLE people ADD COLUMN full_name text;
UPDATE people SET full_name = first_name || ' ' || last_name;
ALTER TABLE people ALTER COLUMN full_name SET NOT NULL;
