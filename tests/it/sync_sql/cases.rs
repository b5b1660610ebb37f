//! The branches of the trigger, one by one.

use pgshift::plan::Phase;

use super::lab::Lab;

const MONEY: &str = "
-- pgshift: expand
ALTER TABLE orders ADD COLUMN total_cents bigint;
-- pgshift: backfill
UPDATE orders SET total_cents = round(total * 100)::bigint; -- cents
-- pgshift: reverse
UPDATE orders SET total = total_cents / 100.0 -- and back
  WHERE total_cents IS NOT NULL;
-- pgshift: contract
ALTER TABLE orders DROP COLUMN total;
";

const ORDERS: &str = "
CREATE TABLE orders (id int PRIMARY KEY, total numeric, note text);
INSERT INTO orders SELECT n, n + 0.005, '' FROM generate_series(1, 5) n;
INSERT INTO orders VALUES (6, NULL, '');
";

#[tokio::test]
async fn both_versions_write_before_and_after_contract() {
    let mut lab = Lab::new("sync_both", ORDERS, MONEY).await;
    lab.run(&[Phase::Expand, Phase::Sync]).await;
    // Rows that the backfill has not reached: an unrelated update, the old column, the new one.
    lab.app("UPDATE orders SET note = 'x' WHERE id = 1").await;
    lab.app("UPDATE orders SET total = 20.005 WHERE id = 2")
        .await;
    lab.app("UPDATE orders SET total_cents = 3000 WHERE id = 3")
        .await;
    lab.app("INSERT INTO orders (id, total) VALUES (10, 1.115)")
        .await;
    lab.app("INSERT INTO orders (id, total_cents) VALUES (11, 222)")
        .await;
    lab.app("INSERT INTO orders (id) VALUES (12)").await;
    lab.app(
        "INSERT INTO orders (id, total) VALUES (10, 7.777)
         ON CONFLICT (id) DO UPDATE SET total = excluded.total",
    )
    .await;
    let all = ["id", "total", "total_cents"];
    assert_eq!(
        lab.rows("orders", &all).await,
        "1 1.005 101\n10 7.777 778\n11 2.2200000000000000 222\n12 - -\n2 20.005 2001\n\
         3 30.0000000000000000 3000\n4 4.005 -\n5 5.005 -\n6 - -"
    );
    assert_eq!(lab.wrong(Phase::Verify).await.0, 2);
    lab.run(&[Phase::Backfill, Phase::Validate, Phase::Verify])
        .await;

    // Wrong ones are found and named: a value, a value that is missing, one side changed.
    lab.app("SET session_replication_role = replica").await;
    lab.app("UPDATE orders SET total_cents = 1 WHERE id = 1")
        .await;
    lab.app("UPDATE orders SET total_cents = NULL WHERE id = 2")
        .await;
    lab.app("UPDATE orders SET total = 9 WHERE id = 11").await;
    lab.app("SET session_replication_role = origin").await;
    let (count, mut keys) = lab.wrong(Phase::Verify).await;
    keys.sort();
    assert_eq!(
        (count, keys),
        (3, ["id=1", "id=11", "id=2"].map(String::from).to_vec())
    );
    lab.app("UPDATE orders SET total = 1 WHERE id = 1").await;
    lab.app("UPDATE orders SET note = 'mended' WHERE id = 2")
        .await;
    lab.app("UPDATE orders SET total_cents = 223 WHERE id = 11")
        .await;

    lab.run(&[Phase::Contract]).await;
    lab.app("UPDATE orders SET total_cents = 5 WHERE id = 1")
        .await;
    lab.app("UPDATE orders SET note = 'y' WHERE id = 2").await;
    lab.app("INSERT INTO orders (id, total_cents) VALUES (20, 2000)")
        .await;
    lab.app("INSERT INTO orders (id) VALUES (21)").await;
    lab.revert().await;
    assert_eq!(
        lab.rows("orders", &["id", "total"]).await,
        "1 0.05000000000000000000\n10 7.777\n11 2.2300000000000000\n12 -\n2 20.005\n\
         20 20.0000000000000000\n21 -\n3 30.0000000000000000\n4 4.005\n5 5.005\n6 -"
    );
    assert_eq!(
        lab.db
            .rows::<String>(
                "SELECT proname::text FROM pg_proc WHERE pronamespace = 'pgshift'::regnamespace"
            )
            .await,
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn without_reverse_the_old_column_stays() {
    let file = "
-- pgshift: expand
ALTER TABLE orders ADD COLUMN total_cents bigint;
-- pgshift: backfill
UPDATE orders SET total_cents = round(total * 100)::bigint;
";
    let mut lab = Lab::new("sync_forward", ORDERS, file).await;
    lab.ready().await;
    lab.app("UPDATE orders SET total_cents = 7 WHERE id = 1")
        .await;
    lab.app("UPDATE orders SET total = 8 WHERE id = 2").await;
    lab.app("INSERT INTO orders (id, total_cents) VALUES (7, 70)")
        .await;
    assert_eq!(
        lab.rows("orders", &["id", "total", "total_cents"]).await,
        "1 1.005 7\n2 8 800\n3 3.005 301\n4 4.005 401\n5 5.005 501\n6 - -\n7 - 70"
    );
    // The new version's values are not wrong at contract; a row without one is.
    assert_eq!(lab.wrong(Phase::Verify).await.0, 2);
    assert_eq!(lab.wrong(Phase::Contract).await.0, 0);
    lab.app("SET session_replication_role = replica; UPDATE orders SET total_cents = NULL WHERE id = 3; RESET session_replication_role").await;
    assert_eq!(
        lab.wrong(Phase::Contract).await,
        (1, vec!["id=3".to_owned()])
    );
}

#[tokio::test]
async fn several_mappings_are_decided_together() {
    let setup = "
CREATE TABLE people (id int PRIMARY KEY, name text NOT NULL, score int);
INSERT INTO people VALUES (1, 'Ada Lovelace', 1), (2, 'Plato', 2), (3, 'Alan M Turing', 3);
";
    let file = "
-- pgshift: expand
ALTER TABLE people ADD COLUMN first text, ADD COLUMN last text, ADD COLUMN rank text, ADD COLUMN rank_len int;
-- pgshift: backfill
UPDATE people p SET first = split_part(p.name, ' ', 1);
UPDATE people SET last = substr(name, length(split_part(name, ' ', 1)) + 2);
UPDATE people SET rank = 'gold' WHERE score = 1;
UPDATE people SET rank = 'silver' WHERE score = 2;
UPDATE people SET rank = 'none' WHERE rank IS NULL;
UPDATE people SET rank_len = length(rank);
-- pgshift: reverse
UPDATE people AS t SET name = t.first || CASE WHEN last = '' THEN '' ELSE ' ' || last END;
-- pgshift: contract
ALTER TABLE people DROP COLUMN name;
";
    let mut lab = Lab::new("sync_several", setup, file).await;
    lab.run(&[Phase::Expand, Phase::Sync]).await;
    lab.app("INSERT INTO people (id, name, score) VALUES (4, 'Emmy Noether', 2)")
        .await;
    lab.run(&[Phase::Backfill, Phase::Validate, Phase::Verify])
        .await;
    lab.app("INSERT INTO people (id, first, last) VALUES (5, 'Kurt', 'Gödel')")
        .await;
    lab.app("UPDATE people SET last = 'King' WHERE id = 1")
        .await;
    lab.app("UPDATE people SET score = 1 WHERE id = 3").await;
    lab.app("UPDATE people SET name = 'Aristotle of Stagira' WHERE id = 2")
        .await;
    assert_eq!(
        lab.rows(
            "people",
            &["id", "name", "first", "last", "rank", "rank_len"]
        )
        .await,
        "1 Ada King Ada King gold 4\n2 Aristotle of Stagira Aristotle of Stagira silver 6\n\
         3 Alan M Turing Alan M Turing gold 4\n4 Emmy Noether Emmy Noether silver 6\n\
         5 Kurt Gödel Kurt Gödel none 4"
    );
    assert_eq!(lab.wrong(Phase::Verify).await.0, 0);
    lab.run(&[Phase::Contract]).await;
    lab.app("INSERT INTO people (id, first, last) VALUES (6, 'Sappho', '')")
        .await;
    lab.app("INSERT INTO people (id) VALUES (7)").await;
    lab.app("DELETE FROM people WHERE id = 7").await;
    lab.revert().await;
    assert_eq!(
        lab.rows("people", &["id", "name"]).await,
        "1 Ada King\n2 Aristotle of Stagira\n3 Alan M Turing\n4 Emmy Noether\n5 Kurt Gödel\n6 Sappho"
    );
}

#[tokio::test]
async fn values_that_are_equal_and_still_differ() {
    let setup = "
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE pair AS (x int, doc json);
CREATE TABLE t (id int PRIMARY KEY, n numeric, i interval, j json, js json[], p pair, m text, g point);
INSERT INTO t VALUES (1, 1.0, '1 day', '{\"a\": 1}', ARRAY['1'::json], ROW(1, NULL), 'ok', '(1,2)');
";
    let file = "
-- pgshift: expand
ALTER TABLE t ADD COLUMN n2 text, ADD COLUMN i2 text, ADD COLUMN j2 json, ADD COLUMN js2 json[],
    ADD COLUMN p2 pair, ADD COLUMN m2 mood, ADD COLUMN g2 point;
-- pgshift: backfill
UPDATE t SET n2 = n::text;
UPDATE t SET i2 = i::text;
UPDATE t SET j2 = j;
UPDATE t SET js2 = js;
UPDATE t SET p2 = p;
UPDATE t SET m2 = m::mood;
UPDATE t SET g2 = g;
-- pgshift: reverse
UPDATE t SET j = j2;
UPDATE t SET m = m2;
";
    let mut lab = Lab::new("sync_types", setup, file).await;
    lab.run(&[Phase::Expand, Phase::Sync, Phase::Backfill])
        .await;
    let new = ["id", "n2", "i2", "j2", "js2", "p2", "m2", "g2"];
    assert_eq!(
        lab.rows("t", &new).await,
        "1 1.0 1 day {\"a\": 1} {1} (1,) ok (1,2)"
    );
    lab.app("UPDATE t SET n = 1.00, i = '24:00', j = '{\"a\":1}', js = ARRAY['2'::json], p = ROW(1, '{}'), m = 'sad', g = '(3,4)'")
        .await;
    assert_eq!(
        lab.rows("t", &new).await,
        "1 1.00 24:00:00 {\"a\":1} {2} (1,{}) sad (3,4)"
    );
    lab.app("UPDATE t SET j2 = '[]', m2 = 'ok'").await;
    assert_eq!(lab.rows("t", &["id", "j", "m"]).await, "1 [] ok");
}

#[tokio::test]
async fn a_row_that_moves_between_partitions_keeps_its_digits() {
    let setup = "
CREATE TABLE orders (id int, region text, total numeric, note text, PRIMARY KEY (id, region))
    PARTITION BY LIST (region);
CREATE TABLE orders_eu (note text, total numeric, region text NOT NULL, id int NOT NULL, gone int);
ALTER TABLE orders_eu DROP COLUMN gone;
ALTER TABLE orders ATTACH PARTITION orders_eu FOR VALUES IN ('eu');
CREATE TABLE orders_us PARTITION OF orders FOR VALUES IN ('us');
INSERT INTO orders SELECT n, 'eu', n + 0.005 FROM generate_series(1, 4) n;
";
    let mut lab = Lab::new("sync_parts", setup, MONEY).await;
    lab.run(&[Phase::Expand, Phase::Sync]).await;
    lab.app("UPDATE orders SET region = 'us' WHERE id = 1")
        .await;
    lab.app("UPDATE orders SET region = 'us', total = 20.005 WHERE id = 2")
        .await;
    lab.app("UPDATE orders SET region = 'us', total_cents = 3333 WHERE id = 3")
        .await;
    lab.app("INSERT INTO orders (id, region, total) VALUES (5, 'us', 5.005)")
        .await;
    lab.app("INSERT INTO orders (id, region, total_cents) VALUES (6, 'us', 66)")
        .await;
    let all = ["id", "region", "total", "total_cents"];
    let written = "1 us 1.005 101\n2 us 20.005 2001\n3 us 33.3300000000000000 3333\n";
    assert_eq!(
        lab.rows("orders", &all).await,
        format!("{written}4 eu 4.005 -\n5 us 5.005 501\n6 us 0.66000000000000000000 66")
    );
    lab.run(&[
        Phase::Backfill,
        Phase::Validate,
        Phase::Verify,
        Phase::Contract,
    ])
    .await;
    lab.app("UPDATE orders SET region = 'us' WHERE id = 4")
        .await;
    lab.app("UPDATE orders SET region = 'eu', total_cents = 7 WHERE id = 6")
        .await;
    lab.app("INSERT INTO orders (id, region, total_cents) VALUES (7, 'eu', 77)")
        .await;
    lab.revert().await;
    assert_eq!(
        lab.rows("orders", &["id", "region", "total"]).await,
        "1 us 1.005\n2 us 20.005\n3 us 33.3300000000000000\n4 us 4.005\n5 us 5.005\n\
         6 eu 0.07000000000000000000\n7 eu 0.77000000000000000000"
    );
}

#[tokio::test]
async fn hostile_names_and_texts() {
    let setup = r#"
CREATE SCHEMA "s.$pgshift$";
CREATE TABLE "s.$pgshift$"."o'r ""d$pgshift$" ("new" int, "SELECT" text, "it's" text, "pgshift_row" text,
    "found" bool DEFAULT false, PRIMARY KEY ("new", "SELECT"));
INSERT INTO "s.$pgshift$"."o'r ""d$pgshift$" VALUES (1, 'k', '$pgshift$;', 'r');
CREATE TABLE names ("new" int, name text);
INSERT INTO names VALUES (1, '$pgshift1$'' --'), (2, 'zwei'), (2, 'zwei');
"#;
    let file = r#"
-- pgshift: expand
ALTER TABLE "s.$pgshift$"."o'r ""d$pgshift$" ADD COLUMN "c0" text, ADD COLUMN "old" text, ADD COLUMN tg_op int;
-- pgshift: backfill
UPDATE "s.$pgshift$"."o'r ""d$pgshift$" AS "NEW" SET "c0" = "it's" -- a comment; with '
  || $pgshift$ a $$ b $pgshift$ || /* ; */ "NEW"."SELECT" || E'\'' || pgshift_row;
UPDATE "s.$pgshift$"."o'r ""d$pgshift$" "row" SET old = n.name
  FROM names -- them; $pgshift1$
    AS n WHERE n."new" = "row"."new" -- and
    AND NOT found;
UPDATE "s.$pgshift$"."o'r ""d$pgshift$" SET tg_op = (SELECT count(*) FROM names WHERE names."new" > 0) + "new";
"#;
    let mut lab = Lab::new("sync_hostile", setup, file).await;
    let table = r#""s.$pgshift$"."o'r ""d$pgshift$""#;
    lab.run(&[Phase::Expand, Phase::Sync]).await;
    lab.app(&format!(
        r#"INSERT INTO {table} ("new", "SELECT", "it's", pgshift_row) VALUES (2, '', '', '')"#
    ))
    .await;
    lab.app(&format!(r"INSERT INTO {table} VALUES (3, '', '', '')"))
        .await;
    lab.run(&[Phase::Backfill, Phase::Verify]).await;
    assert_eq!(
        lab.rows(table, &["new", "c0", "old", "tg_op"]).await,
        "1 $pgshift$; a $$ b k'r $pgshift1$' -- 4\n2  a $$ b ' zwei 5\n3  a $$ b ' - 6"
    );
    lab.app(&format!("UPDATE {table} SET \"it's\" = 'changed'"))
        .await;
    assert_eq!(lab.wrong(Phase::Verify).await.0, 0);
    lab.run(&[Phase::Contract]).await;
    lab.revert().await;
}

#[tokio::test]
async fn contract_may_swap_the_names() {
    let setup = "
CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users VALUES (1, 'a');
CREATE TABLE orders (id int PRIMARY KEY, user_id int NOT NULL REFERENCES users ON DELETE RESTRICT,
    total int NOT NULL CHECK (total >= 0), CONSTRAINT c CHECK (total < 1000 OR id > 0));
INSERT INTO orders VALUES (1, 1, 100);
";
    let file = "
-- pgshift: expand
ALTER TABLE orders ADD COLUMN total_big bigint;
-- pgshift: backfill
UPDATE orders SET total_big = total;
-- pgshift: reverse
UPDATE orders SET total = total_big;
-- pgshift: contract
ALTER TABLE orders DROP COLUMN total;
ALTER TABLE orders RENAME COLUMN total_big TO total;
ALTER TABLE orders DROP COLUMN user_id;
";
    let mut lab = Lab::new("sync_swap", setup, file).await;
    let before = lab.db.schema().await;
    lab.ready().await;
    lab.run(&[Phase::Contract]).await;
    // Nothing of what was dropped has a say any more.
    lab.app("INSERT INTO orders (id, total) VALUES (2, 200)")
        .await;
    lab.app("INSERT INTO orders (id, total) VALUES (3, -1)")
        .await;
    lab.app("DELETE FROM users").await;
    lab.app("UPDATE orders SET total = 101 WHERE id = 1").await;
    lab.app("DELETE FROM orders WHERE id = 3").await;
    lab.app("INSERT INTO users VALUES (1, 'a')").await;
    lab.app("UPDATE orders SET id = id").await;
    let dropped: String = lab
        .db
        .one("SELECT attname::text FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname LIKE '\\_pgshift\\_dropped\\_user%'")
        .await;
    lab.app(&format!("UPDATE orders SET {dropped} = 1")).await;
    lab.revert().await;
    assert_eq!(
        lab.rows("orders", &["id", "user_id", "total"]).await,
        "1 1 101\n2 1 200"
    );
    assert_eq!(lab.db.schema().await, before);
}

#[tokio::test]
async fn a_second_migration_goes_through_the_first_ones_trigger() {
    let mut first = Lab::new("sync_chain", ORDERS, MONEY).await;
    first.ready().await;
    first.run(&[Phase::Contract]).await;
    let file = "
-- pgshift: expand
ALTER TABLE orders ADD COLUMN total_mills bigint;
-- pgshift: backfill
UPDATE orders SET total_mills = total_cents * 10;
-- pgshift: reverse
UPDATE orders SET total_cents = total_mills / 10;
";
    let second =
        pgshift::migration::parse("20260102_next", pgshift::sql::Source::new("b.sql", file));
    let client = first.db.client().await;
    let plan = pgshift::exec::planner::plan(&client, &second.expect("the file"))
        .await
        .expect("a plan");
    for step in plan.steps_of(&[Phase::Expand, Phase::Sync]) {
        if let pgshift::plan::Work::Sql { statements } = step.work {
            first.app(&statements.join(";")).await;
        }
    }
    first
        .app("UPDATE orders SET total_mills = 1230 WHERE id = 1")
        .await;
    first
        .app("INSERT INTO orders (id, total_cents) VALUES (9, 900)")
        .await;
    let dropped: String = first
        .db
        .one("SELECT attname::text FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname LIKE '\\_pgshift\\_dropped%'")
        .await;
    let rows = first
        .rows(
            "orders WHERE id IN (1, 9)",
            &["id", "total_mills", "total_cents", &dropped],
        )
        .await;
    assert_eq!(
        rows,
        "1 1230 123 1.2300000000000000\n9 9000 900 9.0000000000000000"
    );
}

#[tokio::test]
async fn not_null_of_a_plain_file_comes_after_its_update() {
    let file = "
ALTER TABLE orders ADD COLUMN total_cents bigint;
UPDATE orders SET total_cents = coalesce(round(total * 100)::bigint, 0);
ALTER TABLE orders ALTER COLUMN total_cents SET NOT NULL;
ALTER TABLE orders ADD CONSTRAINT positive CHECK (total_cents >= 0);
CREATE INDEX by_cents ON orders (total_cents);
";
    let mut lab = Lab::new("sync_plain", ORDERS, file).await;
    let before = lab.db.schema().await;
    lab.run(&[Phase::Expand]).await;
    lab.app("INSERT INTO orders (id, total) VALUES (7, 7)")
        .await;
    lab.app("UPDATE orders SET note = 'x' WHERE id = 1").await;
    lab.run(&[Phase::Sync, Phase::Backfill, Phase::Validate, Phase::Verify])
        .await;
    let not_null = "SELECT attnotnull FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname = 'total_cents'";
    assert!(lab.db.one::<bool>(not_null).await);
    lab.app("INSERT INTO orders (id, total) VALUES (8, 8)")
        .await;
    lab.run(&[Phase::Contract]).await;
    lab.revert().await;
    assert_eq!(lab.db.schema().await, before);
}
