//! The main shapes of migrations.

use super::*;
use crate::plan::Phase;
use crate::plan::cost::Sample;

macro_rules! plan {
    ($file:expr, @$snapshot:literal) => {
        insta::assert_snapshot!(shown(&planned(&catalog(15), $file).expect("a plan")), @$snapshot)
    };
}

#[test]
fn a_column_replaced_with_a_way_back() {
    plan!("
-- pgshift: expand
ALTER TABLE orders ADD COLUMN cents bigint DEFAULT 0;
CREATE INDEX by_cents ON orders (cents);
-- pgshift: backfill
UPDATE orders SET cents = round(total * 100)::bigint WHERE cents IS NULL;
-- pgshift: reverse
UPDATE orders SET total = cents / 100.0;
-- pgshift: verify
SELECT id FROM orders WHERE cents < 0;
-- pgshift: contract
ALTER TABLE orders ALTER COLUMN cents SET NOT NULL;
ALTER TABLE orders DROP COLUMN total;
", @r#"
expand | orders: add column cents bigint
  ALTER TABLE orders ADD COLUMN cents bigint
  < public.orders: drop column cents
    ALTER TABLE "public"."orders" DROP COLUMN "cents"
sync | create the sync trigger of public.orders
  CREATE OR REPLACE FUNCTION "pgshift"."sync_orders_32b6ff37"() RETURNS trigger LANGUAGE plpgsql …
  REVOKE ALL ON FUNCTION "pgshift"."sync_orders_32b6ff37"() FROM PUBLIC
  CREATE TRIGGER "zzz_pgshift_sync_99_orders_32b6ff37" BEFORE INSERT OR UPDATE ON "public"."orders" FOR EACH ROW WHEN (current_setting('pgshift.writer', true) IS DISTINCT FROM 'backfill') EXECUTE FUNCTION "pgshift"."sync_orders_32b6ff37"()
  < drop the sync trigger of public.orders
    DROP TRIGGER IF EXISTS "zzz_pgshift_sync_99_orders_32b6ff37" ON "public"."orders"
    DROP FUNCTION IF EXISTS "pgshift"."sync_orders_32b6ff37"()
backfill | backfill public.orders
  UPDATE ONLY "public"."orders" AS "orders" SET "cents" = round(total * 100)::bigint
     WHERE (pg_catalog.hashtid("orders".ctid) & $3::text::int4) = $4::text::int4 AND ("orders"."cents" IS NULL AND ((round(total * 100)::bigint) IS NOT NULL)) AND "orders".ctid >= $1::text::tid AND "orders".ctid < $2::text::tid
validate | create index by_cents on orders
  (alone) CREATE INDEX CONCURRENTLY by_cents ON orders (cents)
  < drop index public.by_cents
    (alone) DROP INDEX CONCURRENTLY IF EXISTS "public"."by_cents"
verify | verify every row of public.orders
  (("orders"."cents" IS NOT DISTINCT FROM CAST((round(total * 100)::bigint) AS bigint)) OR (("orders"."cents" IS NOT NULL) AND EXISTS (SELECT 1 FROM (SELECT "orders"."cents" AS "cents", "orders"."total" AS "total") AS "orders" WHERE "orders"."total" IS NOT DISTINCT FROM CAST((cents / 100.0) AS numeric(10,2))))) IS NOT TRUE of all
verify | check that the author's query finds nothing wrong
  SELECT id FROM orders WHERE cents < 0
contract | verify every row of public.orders
  (("orders"."cents" IS NOT DISTINCT FROM CAST((round(total * 100)::bigint) AS bigint)) OR (("orders"."cents" IS NOT NULL) AND EXISTS (SELECT 1 FROM (SELECT "orders"."cents" AS "cents", "orders"."total" AS "total") AS "orders" WHERE "orders"."total" IS NOT DISTINCT FROM CAST((cents / 100.0) AS numeric(10,2))))) IS NOT TRUE of all
contract | check that the author's query finds nothing wrong
  SELECT id FROM orders WHERE cents < 0
contract | orders: add constraint pgshift_orders_cents_not_null_e9973026
  ALTER TABLE orders ADD CONSTRAINT "pgshift_orders_cents_not_null_e9973026" CHECK ("cents" IS NOT NULL) NOT VALID
  < public.orders: drop constraint pgshift_orders_cents_not_null_e9973026
    ALTER TABLE "public"."orders" DROP CONSTRAINT IF EXISTS "pgshift_orders_cents_not_null_e9973026"
contract | orders: validate constraint pgshift_orders_cents_not_null_e9973026
  ALTER TABLE orders VALIDATE CONSTRAINT "pgshift_orders_cents_not_null_e9973026"
contract | orders: set cents not null
  ALTER TABLE orders ALTER COLUMN "cents" SET NOT NULL
  < public.orders: let cents be null
    ALTER TABLE "public"."orders" ALTER COLUMN "cents" DROP NOT NULL
contract | orders: drop constraint pgshift_orders_cents_not_null_e9973026
  ALTER TABLE orders DROP CONSTRAINT "pgshift_orders_cents_not_null_e9973026"
contract | soft-drop column total of public.orders
  ALTER TABLE "public"."orders" RENAME COLUMN "total" TO "_pgshift_dropped_total_1cbf7aa3"
  ALTER TABLE "public"."orders" DROP CONSTRAINT "orders_total_check"
  CREATE OR REPLACE FUNCTION "pgshift"."sync_orders_32b6ff37"() RETURNS trigger LANGUAGE plpgsql …
  REVOKE ALL ON FUNCTION "pgshift"."sync_orders_32b6ff37"() FROM PUBLIC
  < bring back column total of public.orders
    ALTER TABLE "public"."orders" RENAME COLUMN "_pgshift_dropped_total_1cbf7aa3" TO "total"
    CREATE OR REPLACE FUNCTION "pgshift"."sync_orders_32b6ff37"() RETURNS trigger LANGUAGE plpgsql …
    REVOKE ALL ON FUNCTION "pgshift"."sync_orders_32b6ff37"() FROM PUBLIC
  < public.orders: add constraint orders_total_check
    ALTER TABLE "public"."orders" ADD CONSTRAINT "orders_total_check" CHECK ((total >= (0)::numeric)) NOT VALID
contract | set the default of public.orders.cents
  ALTER TABLE "public"."orders" ALTER COLUMN "cents" SET DEFAULT 0
  < drop the default of public.orders.cents
    ALTER TABLE "public"."orders" ALTER COLUMN "cents" DROP DEFAULT
purge | drop the sync trigger of public.orders
  DROP TRIGGER IF EXISTS "zzz_pgshift_sync_99_orders_32b6ff37" ON "public"."orders"
  DROP FUNCTION IF EXISTS "pgshift"."sync_orders_32b6ff37"()
  no way back: purge is final
purge | drop column total of public.orders for good
  ALTER TABLE "public"."orders" DROP COLUMN IF EXISTS "_pgshift_dropped_total_1cbf7aa3"
  no way back: purge is final
! unique index orders_total_idx stays with the soft-dropped column total of public.orders until purge: two rows of the new application version that map back to one value fail
! triggers of public.orders fire for the backfilled rows: audit
"#);
}

#[test]
fn a_plain_file_sorts_itself() {
    plan!("
CREATE TABLE notes (id bigint PRIMARY KEY, body text);
INSERT INTO notes VALUES (1, 'a');
UPDATE notes SET body = 'b';
ALTER TABLE orders ADD COLUMN slug text, ADD CONSTRAINT slug_len CHECK (length(slug) < 9), ADD COLUMN x int;
UPDATE orders SET slug = lower(email);
ALTER TABLE orders ALTER COLUMN slug SET NOT NULL;
CREATE UNIQUE INDEX by_slug ON orders (slug);
COMMENT ON INDEX by_slug IS 'slugs';
DELETE FROM users WHERE name IS NULL;
ALTER TABLE users ADD CONSTRAINT named CHECK (name IS NOT NULL);
DROP TABLE empty;
", @r#"
expand | create table notes
  CREATE TABLE notes (id bigint PRIMARY KEY, body text)
  < DROP TABLE "app"."notes"
    DROP TABLE "app"."notes"
expand | INSERT INTO notes VALUES (1, 'a')
  INSERT INTO notes VALUES (1, 'a')
expand | UPDATE notes SET body = 'b'
  UPDATE notes SET body = 'b'
expand | orders: add column slug text, add column x int
  ALTER TABLE orders ADD COLUMN slug text, ADD COLUMN x int
  < public.orders: drop column x
    ALTER TABLE "public"."orders" DROP COLUMN "x"
  < public.orders: drop column slug
    ALTER TABLE "public"."orders" DROP COLUMN "slug"
sync | create the sync trigger of public.orders
  CREATE OR REPLACE FUNCTION "pgshift"."sync_orders_32b6ff37"() RETURNS trigger LANGUAGE plpgsql …
  REVOKE ALL ON FUNCTION "pgshift"."sync_orders_32b6ff37"() FROM PUBLIC
  CREATE TRIGGER "zzz_pgshift_sync_99_orders_32b6ff37" BEFORE INSERT OR UPDATE ON "public"."orders" FOR EACH ROW WHEN (current_setting('pgshift.writer', true) IS DISTINCT FROM 'backfill') EXECUTE FUNCTION "pgshift"."sync_orders_32b6ff37"()
  < drop the sync trigger of public.orders
    DROP TRIGGER IF EXISTS "zzz_pgshift_sync_99_orders_32b6ff37" ON "public"."orders"
    DROP FUNCTION IF EXISTS "pgshift"."sync_orders_32b6ff37"()
backfill | backfill public.orders
  UPDATE ONLY "public"."orders" AS "orders" SET "slug" = lower(email)
     WHERE (pg_catalog.hashtid("orders".ctid) & $3::text::int4) = $4::text::int4 AND ("orders"."slug" IS NULL AND ((lower(email)) IS NOT NULL)) AND "orders".ctid >= $1::text::tid AND "orders".ctid < $2::text::tid
backfill | delete from public.users
  DELETE FROM ONLY "public"."users" AS "users" WHERE (name IS NULL) AND ("users"."id") > ($1::text::bigint) AND ("users"."id") <= ($2::text::bigint)
  no way back: deleted rows are not kept
validate | orders: add constraint slug_len
  ALTER TABLE orders ADD CONSTRAINT slug_len CHECK (length(slug) < 9) NOT VALID
  < public.orders: drop constraint slug_len
    ALTER TABLE "public"."orders" DROP CONSTRAINT "slug_len"
validate | orders: validate constraint slug_len
  ALTER TABLE orders VALIDATE CONSTRAINT "slug_len"
validate | orders: add constraint pgshift_orders_slug_not_null_e0db8230
  ALTER TABLE orders ADD CONSTRAINT "pgshift_orders_slug_not_null_e0db8230" CHECK ("slug" IS NOT NULL) NOT VALID
  < public.orders: drop constraint pgshift_orders_slug_not_null_e0db8230
    ALTER TABLE "public"."orders" DROP CONSTRAINT IF EXISTS "pgshift_orders_slug_not_null_e0db8230"
validate | orders: validate constraint pgshift_orders_slug_not_null_e0db8230
  ALTER TABLE orders VALIDATE CONSTRAINT "pgshift_orders_slug_not_null_e0db8230"
validate | orders: set slug not null
  ALTER TABLE orders ALTER COLUMN "slug" SET NOT NULL
  < public.orders: let slug be null
    ALTER TABLE "public"."orders" ALTER COLUMN "slug" DROP NOT NULL
validate | orders: drop constraint pgshift_orders_slug_not_null_e0db8230
  ALTER TABLE orders DROP CONSTRAINT "pgshift_orders_slug_not_null_e0db8230"
validate | create unique index by_slug on orders
  (alone) CREATE UNIQUE INDEX CONCURRENTLY by_slug ON orders (slug)
  < drop index public.by_slug
    (alone) DROP INDEX CONCURRENTLY IF EXISTS "public"."by_slug"
validate | COMMENT ON INDEX by_slug IS 'slugs'
  COMMENT ON INDEX by_slug IS 'slugs'
validate | users: add constraint named
  ALTER TABLE users ADD CONSTRAINT named CHECK (name IS NOT NULL) NOT VALID
  < public.users: drop constraint named
    ALTER TABLE "public"."users" DROP CONSTRAINT "named"
validate | users: validate constraint named
  ALTER TABLE users VALIDATE CONSTRAINT "named"
verify | verify every row of public.orders
  ("orders"."slug" COLLATE "C" IS NOT DISTINCT FROM CAST((lower(email)) AS text) COLLATE "C") IS NOT TRUE of all
contract | verify every row of public.orders
  "orders"."slug" IS NULL AND ((lower(email)) IS NOT NULL) of all
contract | soft-drop table public.empty
  ALTER TABLE "public"."empty" RENAME TO "_pgshift_dropped_empty_1c8d72ba"
  < bring back table public.empty
    ALTER TABLE "public"."_pgshift_dropped_empty_1c8d72ba" RENAME TO "empty"
contract | drop the sync trigger of public.orders
  DROP TRIGGER IF EXISTS "zzz_pgshift_sync_99_orders_32b6ff37" ON "public"."orders"
  DROP FUNCTION IF EXISTS "pgshift"."sync_orders_32b6ff37"()
  < restore the sync trigger of public.orders
    CREATE OR REPLACE FUNCTION "pgshift"."sync_orders_32b6ff37"() RETURNS trigger LANGUAGE plpgsql …
    REVOKE ALL ON FUNCTION "pgshift"."sync_orders_32b6ff37"() FROM PUBLIC
    CREATE TRIGGER "zzz_pgshift_sync_99_orders_32b6ff37" BEFORE INSERT OR UPDATE ON "public"."orders" FOR EACH ROW WHEN (current_setting('pgshift.writer', true) IS DISTINCT FROM 'backfill') EXECUTE FUNCTION "pgshift"."sync_orders_32b6ff37"()
purge | drop table public.empty for good
  DROP TABLE IF EXISTS "public"."_pgshift_dropped_empty_1c8d72ba"
  no way back: purge is final
! triggers of public.orders fire for the backfilled rows: audit
! no reverse section for public.orders: what the new application version writes to slug does not reach the old columns and is lost by a revert
"#);
}

#[test]
fn what_reads_what_it_writes_is_walked_by_key() {
    plan!("
-- pgshift: backfill batch=500
UPDATE orders SET email = lower(email) WHERE email <> lower(email);
-- pgshift: backfill strategy=ctid
DELETE FROM orders WHERE total IS NULL;
", @r#"
backfill | backfill public.orders
  UPDATE ONLY "public"."orders" AS "orders" SET "email" = lower(email)
     WHERE (email <> lower(email)) AND ("orders"."id") > ($1::text::bigint) AND ("orders"."id") <= ($2::text::bigint)
  no way back: overwritten values are not kept
backfill | delete from public.orders
  DELETE FROM ONLY "public"."orders" AS "orders" WHERE (total IS NULL) AND "orders".ctid >= $1::text::tid AND "orders".ctid < $2::text::tid
  no way back: deleted rows are not kept
! triggers of public.orders fire for the backfilled rows: audit
"#);
}

#[test]
fn several_mappings_of_one_column() {
    plan!("
-- pgshift: expand
ALTER TABLE orders ADD COLUMN size text;
-- pgshift: backfill
UPDATE orders SET size = 'big' WHERE total > 100 OR note = 'big';
UPDATE orders SET size = 'small' WHERE size IS NULL;
", @r#"
expand | orders: add column size text
  ALTER TABLE orders ADD COLUMN size text
  < public.orders: drop column size
    ALTER TABLE "public"."orders" DROP COLUMN "size"
sync | create the sync trigger of public.orders
  CREATE OR REPLACE FUNCTION "pgshift"."sync_orders_32b6ff37"() RETURNS trigger LANGUAGE plpgsql …
  REVOKE ALL ON FUNCTION "pgshift"."sync_orders_32b6ff37"() FROM PUBLIC
  CREATE TRIGGER "zzz_pgshift_sync_99_orders_32b6ff37" BEFORE INSERT OR UPDATE ON "public"."orders" FOR EACH ROW WHEN (current_setting('pgshift.writer', true) IS DISTINCT FROM 'backfill') EXECUTE FUNCTION "pgshift"."sync_orders_32b6ff37"()
  < drop the sync trigger of public.orders
    DROP TRIGGER IF EXISTS "zzz_pgshift_sync_99_orders_32b6ff37" ON "public"."orders"
    DROP FUNCTION IF EXISTS "pgshift"."sync_orders_32b6ff37"()
backfill | backfill public.orders
  UPDATE ONLY "public"."orders" AS "orders" SET "size" = 'big'
     WHERE (pg_catalog.hashtid("orders".ctid) & $3::text::int4) = $4::text::int4 AND (total > 100 OR note = 'big') AND ("orders"."size" IS NULL AND (('big') IS NOT NULL)) AND "orders".ctid >= $1::text::tid AND "orders".ctid < $2::text::tid
backfill | backfill public.orders
  UPDATE ONLY "public"."orders" AS "orders" SET "size" = 'small'
     WHERE (pg_catalog.hashtid("orders".ctid) & $3::text::int4) = $4::text::int4 AND ("orders"."size" IS NULL AND (('small') IS NOT NULL)) AND "orders".ctid >= $1::text::tid AND "orders".ctid < $2::text::tid
verify | verify every row of public.orders
  (("orders"."size" COLLATE "C" IS NOT DISTINCT FROM CAST(('big') AS text) COLLATE "C") OR ((('big') IS NOT NULL) IS NOT TRUE AND ("orders"."size" COLLATE "C" IS NOT DISTINCT FROM CAST(('small') AS text) COLLATE "C"))) IS NOT TRUE of total > 100 OR note = 'big'
verify | verify every row of public.orders
  (("orders"."size" COLLATE "C" IS NOT DISTINCT FROM CAST(('small') AS text) COLLATE "C") OR ((total > 100 OR note = 'big') AND ("orders"."size" COLLATE "C" IS NOT DISTINCT FROM CAST(('big') AS text) COLLATE "C"))) IS NOT TRUE of all
contract | verify every row of public.orders
  "orders"."size" IS NULL AND (('big') IS NOT NULL) of total > 100 OR note = 'big'
contract | verify every row of public.orders
  "orders"."size" IS NULL AND (('small') IS NOT NULL) of all
contract | drop the sync trigger of public.orders
  DROP TRIGGER IF EXISTS "zzz_pgshift_sync_99_orders_32b6ff37" ON "public"."orders"
  DROP FUNCTION IF EXISTS "pgshift"."sync_orders_32b6ff37"()
  < restore the sync trigger of public.orders
    CREATE OR REPLACE FUNCTION "pgshift"."sync_orders_32b6ff37"() RETURNS trigger LANGUAGE plpgsql …
    REVOKE ALL ON FUNCTION "pgshift"."sync_orders_32b6ff37"() FROM PUBLIC
    CREATE TRIGGER "zzz_pgshift_sync_99_orders_32b6ff37" BEFORE INSERT OR UPDATE ON "public"."orders" FOR EACH ROW WHEN (current_setting('pgshift.writer', true) IS DISTINCT FROM 'backfill') EXECUTE FUNCTION "pgshift"."sync_orders_32b6ff37"()
! triggers of public.orders fire for the backfilled rows: audit
! no reverse section for public.orders: what the new application version writes to size does not reach the old columns and is lost by a revert
"#);
}

#[test]
fn contract_swaps_names() {
    plan!("
-- pgshift: expand
ALTER TABLE orders ADD COLUMN IF NOT EXISTS cents bigint;
-- pgshift: backfill
UPDATE orders SET cents = total;
-- pgshift: reverse
UPDATE orders SET total = cents;
-- pgshift: contract
ALTER TABLE orders DROP COLUMN total;
ALTER TABLE orders RENAME COLUMN cents TO total;
ALTER TABLE orders DROP COLUMN user_id, DROP CONSTRAINT orders_email_check;
", @r#"
expand | orders: add column cents bigint
  ALTER TABLE orders ADD COLUMN IF NOT EXISTS cents bigint
  < public.orders: drop column cents
    ALTER TABLE "public"."orders" DROP COLUMN "cents"
sync | create the sync trigger of public.orders
  CREATE OR REPLACE FUNCTION "pgshift"."sync_orders_32b6ff37"() RETURNS trigger LANGUAGE plpgsql …
  REVOKE ALL ON FUNCTION "pgshift"."sync_orders_32b6ff37"() FROM PUBLIC
  CREATE TRIGGER "zzz_pgshift_sync_99_orders_32b6ff37" BEFORE INSERT OR UPDATE ON "public"."orders" FOR EACH ROW WHEN (current_setting('pgshift.writer', true) IS DISTINCT FROM 'backfill') EXECUTE FUNCTION "pgshift"."sync_orders_32b6ff37"()
  < drop the sync trigger of public.orders
    DROP TRIGGER IF EXISTS "zzz_pgshift_sync_99_orders_32b6ff37" ON "public"."orders"
    DROP FUNCTION IF EXISTS "pgshift"."sync_orders_32b6ff37"()
backfill | backfill public.orders
  UPDATE ONLY "public"."orders" AS "orders" SET "cents" = total
     WHERE (pg_catalog.hashtid("orders".ctid) & $3::text::int4) = $4::text::int4 AND ("orders"."cents" IS NULL AND ((total) IS NOT NULL)) AND "orders".ctid >= $1::text::tid AND "orders".ctid < $2::text::tid
verify | verify every row of public.orders
  (("orders"."cents" IS NOT DISTINCT FROM CAST((total) AS bigint)) OR (("orders"."cents" IS NOT NULL) AND EXISTS (SELECT 1 FROM (SELECT "orders"."cents" AS "cents", "orders"."total" AS "total") AS "orders" WHERE "orders"."total" IS NOT DISTINCT FROM CAST((cents) AS numeric(10,2))))) IS NOT TRUE of all
contract | verify every row of public.orders
  (("orders"."cents" IS NOT DISTINCT FROM CAST((total) AS bigint)) OR (("orders"."cents" IS NOT NULL) AND EXISTS (SELECT 1 FROM (SELECT "orders"."cents" AS "cents", "orders"."total" AS "total") AS "orders" WHERE "orders"."total" IS NOT DISTINCT FROM CAST((cents) AS numeric(10,2))))) IS NOT TRUE of all
contract | soft-drop column total of public.orders
  ALTER TABLE "public"."orders" RENAME COLUMN "total" TO "_pgshift_dropped_total_1cbf7aa3"
  ALTER TABLE "public"."orders" DROP CONSTRAINT "orders_total_check"
  CREATE OR REPLACE FUNCTION "pgshift"."sync_orders_32b6ff37"() RETURNS trigger LANGUAGE plpgsql …
  REVOKE ALL ON FUNCTION "pgshift"."sync_orders_32b6ff37"() FROM PUBLIC
  < bring back column total of public.orders
    ALTER TABLE "public"."orders" RENAME COLUMN "_pgshift_dropped_total_1cbf7aa3" TO "total"
    CREATE OR REPLACE FUNCTION "pgshift"."sync_orders_32b6ff37"() RETURNS trigger LANGUAGE plpgsql …
    REVOKE ALL ON FUNCTION "pgshift"."sync_orders_32b6ff37"() FROM PUBLIC
  < public.orders: add constraint orders_total_check
    ALTER TABLE "public"."orders" ADD CONSTRAINT "orders_total_check" CHECK ((total >= (0)::numeric)) NOT VALID
contract | orders: rename column cents to total
  ALTER TABLE orders RENAME COLUMN cents TO total
  CREATE OR REPLACE FUNCTION "pgshift"."sync_orders_32b6ff37"() RETURNS trigger LANGUAGE plpgsql …
  REVOKE ALL ON FUNCTION "pgshift"."sync_orders_32b6ff37"() FROM PUBLIC
  < public.orders: rename column total to cents
    ALTER TABLE "public"."orders" RENAME COLUMN "total" TO "cents"
    CREATE OR REPLACE FUNCTION "pgshift"."sync_orders_32b6ff37"() RETURNS trigger LANGUAGE plpgsql …
    REVOKE ALL ON FUNCTION "pgshift"."sync_orders_32b6ff37"() FROM PUBLIC
contract | soft-drop column user_id of public.orders
  ALTER TABLE "public"."orders" RENAME COLUMN "user_id" TO "_pgshift_dropped_user_id_8b6d3a1a"
  ALTER TABLE "public"."orders" ALTER COLUMN "_pgshift_dropped_user_id_8b6d3a1a" DROP NOT NULL
  ALTER TABLE "public"."orders" DROP CONSTRAINT "orders_user_id_fkey"
  CREATE OR REPLACE FUNCTION "pgshift"."sync_orders_32b6ff37"() RETURNS trigger LANGUAGE plpgsql …
  REVOKE ALL ON FUNCTION "pgshift"."sync_orders_32b6ff37"() FROM PUBLIC
  < bring back column user_id of public.orders
    ALTER TABLE "public"."orders" RENAME COLUMN "_pgshift_dropped_user_id_8b6d3a1a" TO "user_id"
    CREATE OR REPLACE FUNCTION "pgshift"."sync_orders_32b6ff37"() RETURNS trigger LANGUAGE plpgsql …
    REVOKE ALL ON FUNCTION "pgshift"."sync_orders_32b6ff37"() FROM PUBLIC
  < public.orders: add constraint pgshift_orders_user_id_not_null_2d9d42a9
    ALTER TABLE "public"."orders" ADD CONSTRAINT "pgshift_orders_user_id_not_null_2d9d42a9" CHECK ("user_id" IS NOT NULL) NOT VALID
  < public.orders: validate constraint pgshift_orders_user_id_not_null_2d9d42a9
    ALTER TABLE "public"."orders" VALIDATE CONSTRAINT "pgshift_orders_user_id_not_null_2d9d42a9"
  < public.orders: set user_id not null
    ALTER TABLE "public"."orders" ALTER COLUMN "user_id" SET NOT NULL
  < public.orders: drop constraint pgshift_orders_user_id_not_null_2d9d42a9
    ALTER TABLE "public"."orders" DROP CONSTRAINT "pgshift_orders_user_id_not_null_2d9d42a9"
  < public.orders: add constraint orders_user_id_fkey
    ALTER TABLE "public"."orders" ADD CONSTRAINT "orders_user_id_fkey" FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE NOT VALID
  < public.orders: validate constraint orders_user_id_fkey
    ALTER TABLE "public"."orders" VALIDATE CONSTRAINT "orders_user_id_fkey"
  lost: rows inserted after contract have no value in user_id, and NOT NULL comes back only where every row has one
contract | orders: drop constraint orders_email_check
  ALTER TABLE orders DROP CONSTRAINT orders_email_check
  < public.orders: add constraint orders_email_check
    ALTER TABLE "public"."orders" ADD CONSTRAINT "orders_email_check" CHECK ((email IS NOT NULL)) NOT VALID
  < public.orders: validate constraint orders_email_check
    ALTER TABLE "public"."orders" VALIDATE CONSTRAINT "orders_email_check"
purge | drop the sync trigger of public.orders
  DROP TRIGGER IF EXISTS "zzz_pgshift_sync_99_orders_32b6ff37" ON "public"."orders"
  DROP FUNCTION IF EXISTS "pgshift"."sync_orders_32b6ff37"()
  no way back: purge is final
purge | drop column total of public.orders for good
  ALTER TABLE "public"."orders" DROP COLUMN IF EXISTS "_pgshift_dropped_total_1cbf7aa3"
  no way back: purge is final
purge | drop column user_id of public.orders for good
  ALTER TABLE "public"."orders" DROP COLUMN IF EXISTS "_pgshift_dropped_user_id_8b6d3a1a"
  no way back: purge is final
! unique index orders_total_idx stays with the soft-dropped column total of public.orders until purge: two rows of the new application version that map back to one value fail
! triggers of public.orders fire for the backfilled rows: audit
"#);
}

#[test]
fn revert_sections_and_lost_ways_back() {
    plan!("
-- pgshift: expand
CREATE TABLE notes (id bigint);
INSERT INTO users VALUES (1, 'x');
INSERT INTO users VALUES (2, 'y');
-- pgshift: revert
DELETE FROM users WHERE id IN (1, 2);
-- pgshift: contract
DROP VIEW report;
", @r#"
expand | create table notes
  CREATE TABLE notes (id bigint)
  < DROP TABLE "app"."notes"
    DROP TABLE "app"."notes"
expand | INSERT INTO users VALUES (1, 'x')
  INSERT INTO users VALUES (1, 'x')
  < DELETE FROM users WHERE id IN (1, 2)
    DELETE FROM users WHERE id IN (1, 2)
expand | INSERT INTO users VALUES (2, 'y')
  INSERT INTO users VALUES (2, 'y')
contract | DROP VIEW report
  DROP VIEW report
  no way back: the view public.report has more than its definition, owner and rights, or another view stands upon it; give a revert section
"#);
}

#[test]
fn a_volatile_value_is_only_looked_for() {
    let file = "
-- pgshift: expand
CREATE FUNCTION token() RETURNS text LANGUAGE sql AS 'SELECT 1';
ALTER TABLE orders ADD COLUMN key uuid, ADD COLUMN seen timestamptz, ADD COLUMN token text, ADD COLUMN pos pair;
-- pgshift: backfill
UPDATE orders SET key = gen_random_uuid();
UPDATE orders SET seen = current_timestamp;
UPDATE orders SET token = token();
UPDATE orders SET pos = ROW(id, user_id)::pair;
";
    let plan = planned_with(&catalog(15), file, |probed| {
        probed.volatile = BTreeSet::from(["gen_random_uuid".to_owned()]);
    });
    let plan = plan.expect("a plan");
    let needs: Vec<_> = plan
        .steps_of(&[Phase::Backfill])
        .into_iter()
        .filter_map(|step| match step.work {
            Work::Backfill(spec) => spec.need,
            _ => None,
        })
        .collect();
    assert_eq!(
        needs,
        [
            r#""orders"."key" IS NULL"#,
            r#""orders"."seen" IS NULL"#,
            r#""orders"."token" IS NULL"#,
            r#""orders"."pos" IS NULL AND ((ROW(id, user_id)::pair) IS DISTINCT FROM NULL)"#,
        ]
    );
}

#[test]
fn a_walk_without_a_trigger() {
    // The tests of the target are the author's where no need stands in for them.
    plan!("
-- pgshift: expand
ALTER TABLE orders ADD COLUMN a int, ADD COLUMN b int;
-- pgshift: backfill sync=off
UPDATE orders SET a = user_id WHERE a IS NULL;
-- pgshift: backfill
UPDATE orders SET b = coalesce(b, 0) + 1 WHERE b IS NULL;
-- pgshift: backfill sync=on
UPDATE orders SET note = left(email, 10) WHERE note IS NULL;
", @r#"
expand | orders: add column a int, add column b int
  ALTER TABLE orders ADD COLUMN a int, ADD COLUMN b int
  < public.orders: drop column b
    ALTER TABLE "public"."orders" DROP COLUMN "b"
  < public.orders: drop column a
    ALTER TABLE "public"."orders" DROP COLUMN "a"
sync | create the sync trigger of public.orders
  CREATE OR REPLACE FUNCTION "pgshift"."sync_orders_32b6ff37"() RETURNS trigger LANGUAGE plpgsql …
  REVOKE ALL ON FUNCTION "pgshift"."sync_orders_32b6ff37"() FROM PUBLIC
  CREATE TRIGGER "zzz_pgshift_sync_99_orders_32b6ff37" BEFORE INSERT OR UPDATE ON "public"."orders" FOR EACH ROW WHEN (current_setting('pgshift.writer', true) IS DISTINCT FROM 'backfill') EXECUTE FUNCTION "pgshift"."sync_orders_32b6ff37"()
  < drop the sync trigger of public.orders
    DROP TRIGGER IF EXISTS "zzz_pgshift_sync_99_orders_32b6ff37" ON "public"."orders"
    DROP FUNCTION IF EXISTS "pgshift"."sync_orders_32b6ff37"()
backfill | backfill public.orders
  UPDATE ONLY "public"."orders" AS "orders" SET "a" = user_id
     WHERE ("orders"."a" IS NULL AND ((user_id) IS NOT NULL)) AND ("orders"."id") > ($1::text::bigint) AND ("orders"."id") <= ($2::text::bigint)
backfill | backfill public.orders
  UPDATE ONLY "public"."orders" AS "orders" SET "b" = coalesce(b, 0) + 1
     WHERE (b IS NULL) AND ("orders"."id") > ($1::text::bigint) AND ("orders"."id") <= ($2::text::bigint)
backfill | backfill public.orders
  UPDATE ONLY "public"."orders" AS "orders" SET "note" = left(email, 10)
     WHERE (note IS NULL) AND "orders".ctid >= $1::text::tid AND "orders".ctid < $2::text::tid
  no way back: overwritten values are not kept
verify | verify every row of public.orders
  "orders"."a" IS NULL AND ((user_id) IS NOT NULL) of all
verify | verify every row of public.orders
  ("orders"."note" COLLATE "C" IS NOT DISTINCT FROM CAST((left(email, 10)) AS character varying(10)) COLLATE "C") IS NOT TRUE of note IS NULL
contract | verify every row of public.orders
  "orders"."a" IS NULL AND ((user_id) IS NOT NULL) of all
contract | verify every row of public.orders
  ("orders"."note" COLLATE "C" IS NOT DISTINCT FROM CAST((left(email, 10)) AS character varying(10)) COLLATE "C") IS NOT TRUE of note IS NULL
contract | drop the sync trigger of public.orders
  DROP TRIGGER IF EXISTS "zzz_pgshift_sync_99_orders_32b6ff37" ON "public"."orders"
  DROP FUNCTION IF EXISTS "pgshift"."sync_orders_32b6ff37"()
  < restore the sync trigger of public.orders
    CREATE OR REPLACE FUNCTION "pgshift"."sync_orders_32b6ff37"() RETURNS trigger LANGUAGE plpgsql …
    REVOKE ALL ON FUNCTION "pgshift"."sync_orders_32b6ff37"() FROM PUBLIC
    CREATE TRIGGER "zzz_pgshift_sync_99_orders_32b6ff37" BEFORE INSERT OR UPDATE ON "public"."orders" FOR EACH ROW WHEN (current_setting('pgshift.writer', true) IS DISTINCT FROM 'backfill') EXECUTE FUNCTION "pgshift"."sync_orders_32b6ff37"()
! triggers of public.orders fire for the backfilled rows: audit
! no reverse section for public.orders: what the new application version writes to note does not reach the old columns and is lost by a revert
"#);
}

#[test]
fn an_idempotent_drop_of_nothing_is_nothing() {
    plan!("
-- pgshift: contract
DROP TABLE IF EXISTS nothing;
ALTER TABLE orders DROP COLUMN IF EXISTS nothing;
ALTER TABLE IF EXISTS nothing DROP COLUMN a;
", @r#"
contract | nothing: drop column a
  ALTER TABLE IF EXISTS nothing DROP COLUMN a
"#);
}

#[test]
fn a_dropped_table_lets_go_of_others() {
    let mut catalog = catalog(15);
    let orders = catalog
        .tables
        .get_mut(&crate::catalog::QName::new("public", "orders"));
    orders.expect("orders").triggers.clear();
    let plan = planned(&catalog, "DROP TABLE orders;").expect("a plan");
    insta::assert_snapshot!(shown(&plan), @r#"
contract | soft-drop table public.orders
  ALTER TABLE "public"."orders" DROP CONSTRAINT "orders_user_id_fkey"
  ALTER TABLE "public"."orders" RENAME TO "_pgshift_dropped_orders_0d31c086"
  < bring back table public.orders
    ALTER TABLE "public"."_pgshift_dropped_orders_0d31c086" RENAME TO "orders"
  < public.orders: add constraint orders_user_id_fkey
    ALTER TABLE "public"."orders" ADD CONSTRAINT "orders_user_id_fkey" FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE NOT VALID
  < public.orders: validate constraint orders_user_id_fkey
    ALTER TABLE "public"."orders" VALIDATE CONSTRAINT "orders_user_id_fkey"
purge | drop table public.orders for good
  DROP TABLE IF EXISTS "public"."_pgshift_dropped_orders_0d31c086"
  no way back: purge is final
"#);
}

#[test]
fn a_value_is_computed_once_where_each_sampled_row_gets_one() {
    let file = "
-- pgshift: expand
ALTER TABLE orders ADD COLUMN cents bigint;
-- pgshift: backfill
UPDATE orders SET cents = round(total * 100)::bigint;
-- pgshift: contract
ALTER TABLE orders DROP COLUMN total;
";
    let plan = |changed, valueless| {
        let sample = Sample {
            rows: 2_000,
            changed,
            valueless,
            seconds: 0.01,
            heap: 160_000,
            toast: 0,
        };
        let plan = planned_with(&catalog(15), file, |probed| {
            probed.samples.insert(0, sample);
        })
        .expect("a plan");
        let spec = plan.steps.into_iter().find_map(|step| match step.work {
            Work::Backfill(spec) => Some(spec),
            _ => None,
        });
        spec.and_then(|spec| spec.need).expect("rows need work")
    };
    let unset = r#""orders"."cents" IS NULL"#;
    let valued = format!("{unset} AND ((round(total * 100)::bigint) IS NOT NULL)");
    assert_eq!(plan(2_000, Some(0)), unset);
    assert_eq!(plan(2_000, Some(1)), valued, "one row has none");
    assert_eq!(plan(300, Some(0)), valued, "too few to tell");
    assert_eq!(plan(2_000, None), valued, "not known");
}
