-- Two columns become one: '+43' and '0001234' are '+43 0001234'.

-- pgshift: expand
ALTER TABLE contacts ADD COLUMN phone text;

-- pgshift: backfill
UPDATE contacts SET phone = country || ' ' || number;

-- pgshift: reverse
-- What stands before the first space, and the rest.
UPDATE contacts
SET country = split_part(phone, ' ', 1),
    number = substr(phone, length(split_part(phone, ' ', 1)) + 2);

-- pgshift: contract
ALTER TABLE contacts ALTER COLUMN phone SET NOT NULL;
ALTER TABLE contacts DROP COLUMN country;
ALTER TABLE contacts DROP COLUMN number;
