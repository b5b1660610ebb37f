-- Every invoice gets the day on which it is due.

-- pgshift: expand
ALTER TABLE invoices ADD COLUMN due_on date;
-- Built after the backfill: it is faster then, and the index smaller.
CREATE INDEX invoices_due_on ON invoices (due_on);

-- pgshift: backfill
UPDATE invoices SET due_on = issued_on + terms;

-- pgshift: contract
-- Done as CHECK … NOT VALID, VALIDATE, SET NOT NULL: writers are not blocked by a scan.
ALTER TABLE invoices ALTER COLUMN due_on SET NOT NULL;
