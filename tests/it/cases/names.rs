//! Names that need quotes, long names, and schemas.

use crate::cases::refused;
use crate::lifecycle::Life;

#[tokio::test]
async fn quotes_spaces_and_capitals() {
    Life {
        name: "quoted",
        setup: r#"
            CREATE SCHEMA "My App";
            CREATE TABLE "My App"."Order ""Items""" (
                "Id" bigint PRIMARY KEY, "The Total" numeric(10, 2) NOT NULL, "it's" text, "%I" int);
            INSERT INTO "My App"."Order ""Items"""
            SELECT n, n * 0.5, 'x' || n, n FROM generate_series(1, 2000) n;"#,
        migration: r#"
            -- pgshift: expand
            ALTER TABLE "My App"."Order ""Items""" ADD COLUMN "Total ""Cents""" bigint;
            CREATE INDEX "by Total" ON "My App"."Order ""Items""" ("Total ""Cents""");
            -- pgshift: backfill
            UPDATE "My App"."Order ""Items""" AS "O o"
            SET "Total ""Cents""" = round("O o"."The Total" * 100) WHERE "it's" <> '$pgshift$';
            -- pgshift: reverse
            UPDATE "My App"."Order ""Items""" SET "The Total" = "Total ""Cents""" / 100.0;
            -- pgshift: contract
            ALTER TABLE "My App"."Order ""Items""" DROP COLUMN "The Total";"#,
        traffic: Some(|n| match n % 2 {
            0 => format!(
                r#"INSERT INTO "My App"."Order ""Items""" VALUES ({}, {n}, 'y', 1)"#,
                10_000 + n
            ),
            _ => format!(
                r#"UPDATE "My App"."Order ""Items""" SET "The Total" = 1.25 WHERE "Id" = {}"#,
                n % 2000
            ),
        }),
        ready: &[r#"SELECT bool_and("Total ""Cents""" = round("The Total" * 100))
                    FROM "My App"."Order ""Items""""#],
        complete: &[r#"SELECT bool_and("Total ""Cents""" >= 0) FROM "My App"."Order ""Items""""#],
        new_version: Some((
            r#"UPDATE "My App"."Order ""Items""" SET "Total ""Cents""" = 42 WHERE "Id" = 1"#,
            r#"UPDATE "My App"."Order ""Items""" SET "Total ""Cents""" = 43 WHERE "Id" = 2;
               INSERT INTO "My App"."Order ""Items""" ("Id", "Total ""Cents""") VALUES (0, 44)"#,
            &[r#"SELECT array_agg("The Total" ORDER BY "Id") = '{0.44,0.42,0.43}'
                 FROM "My App"."Order ""Items""" WHERE "Id" < 3"#],
        )),
        ..Life::default()
    }
    .live()
    .await;
}

#[tokio::test]
async fn names_of_63_bytes() {
    // Bytes, not characters: an umlaut has two.
    let table = format!("tä{}", "b".repeat(60));
    let (old, new, drop) = ("o".repeat(63), "n".repeat(63), "d".repeat(63));
    assert_eq!(table.len(), 63);
    let ready = format!(r#"SELECT bool_and("{new}" = "{old}" * 2) FROM "{table}""#);
    let complete = format!(r#"SELECT count(*) = 100 FROM "{table}" WHERE "{new}" > 0"#);
    let lost = format!("rows inserted after contract have no value in {drop}");
    Life {
        name: "long",
        setup: &format!(
            r#"CREATE TABLE "{table}" (id int PRIMARY KEY, "{old}" int NOT NULL, "{drop}" int);
               INSERT INTO "{table}" SELECT n, n, n FROM generate_series(1, 100) n;"#
        ),
        migration: &format!(
            r#"
            -- pgshift: expand
            ALTER TABLE "{table}" ADD COLUMN "{new}" int;
            -- pgshift: backfill
            UPDATE "{table}" SET "{new}" = "{old}" * 2;
            -- pgshift: reverse
            UPDATE "{table}" SET "{old}" = "{new}" / 2;
            -- pgshift: contract
            ALTER TABLE "{table}" ALTER COLUMN "{new}" SET NOT NULL;
            ALTER TABLE "{table}" DROP COLUMN "{old}", DROP COLUMN "{drop}";"#
        ),
        ready: &[&ready],
        complete: &[&complete],
        lost: &[&lost],
        ..Life::default()
    }
    .live()
    .await;
}

const IN_APP: &str = "
    CREATE SCHEMA app;
    CREATE FUNCTION app.cents(n numeric) RETURNS bigint LANGUAGE sql IMMUTABLE
        AS 'SELECT round(n * 100)::bigint';
    CREATE TABLE app.orders (id bigint PRIMARY KEY, total numeric(10, 2) NOT NULL);
    INSERT INTO app.orders SELECT n, n FROM generate_series(1, 2000) n;";

/// The author's names resolve as at plan time, whatever the application's path is.
#[tokio::test]
async fn a_schema_in_the_search_path() {
    Life {
        name: "in_path",
        setup: &format!(
            "{IN_APP}
             DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = app, public',
                                        current_database()); END $$;"
        ),
        migration: "
            -- pgshift: expand
            ALTER TABLE orders ADD COLUMN total_cents bigint;
            -- pgshift: backfill
            UPDATE orders SET total_cents = cents(total);
            -- pgshift: contract
            ALTER TABLE orders DROP COLUMN total;",
        traffic: Some(|n| {
            format!(
                "SET search_path = pg_catalog; INSERT INTO app.orders (id, total) VALUES ({}, 2)",
                10_000 + n
            )
        }),
        ready: &["SELECT bool_and(total_cents = total * 100) FROM app.orders"],
        lost: &["have no value in total, and NOT NULL comes back only where every row has one"],
        complete: &["SELECT bool_and(total_cents > 0) FROM app.orders"],
        ..Life::default()
    }
    .live()
    .await;
}

#[tokio::test]
async fn a_schema_outside_of_the_search_path() {
    Life {
        name: "out_of_path",
        setup: IN_APP,
        migration: "
            -- pgshift: expand
            ALTER TABLE app.orders ADD COLUMN total_cents bigint;
            -- pgshift: backfill
            UPDATE app.orders SET total_cents = app.cents(total);
            -- pgshift: contract
            ALTER TABLE app.orders DROP COLUMN total;",
        traffic: Some(|n| {
            format!(
                "INSERT INTO app.orders (id, total) VALUES ({}, 2)",
                10_000 + n
            )
        }),
        ready: &["SELECT bool_and(total_cents = total * 100) FROM app.orders"],
        lost: &["have no value in total, and NOT NULL comes back only where every row has one"],
        ..Life::default()
    }
    .live()
    .await;
    refused(
        "not_in_path",
        IN_APP,
        "-- pgshift: backfill\nUPDATE orders SET total = 1;",
        2,
        &["table orders does not exist", "search_path", ":2:8"],
    )
    .await;
}

/// Names that mean something to the server, or to the trigger's language.
#[tokio::test]
async fn names_that_are_words() {
    Life {
        name: "words",
        setup: r#"
            CREATE TABLE "new" ("select" int PRIMARY KEY, "old" int NOT NULL, "found" int NOT NULL,
                pgshift_row int, "new" int);
            INSERT INTO "new" SELECT n, n, n, n FROM generate_series(1, 1000) n;"#,
        migration: r#"
            -- pgshift: expand
            ALTER TABLE "new" ADD COLUMN "tg_op" int, ADD COLUMN "user" int;
            -- pgshift: backfill
            UPDATE "new" SET tg_op = new.old * 2 + found, "user" = pgshift_row;
            -- pgshift: reverse
            UPDATE "new" SET "old" = (tg_op - found) / 2, pgshift_row = "user";
            -- pgshift: contract
            ALTER TABLE "new" ALTER COLUMN tg_op SET NOT NULL;
            ALTER TABLE "new" DROP COLUMN "old", DROP COLUMN pgshift_row;"#,
        traffic: Some(|n| match n % 2 {
            0 => format!(r#"INSERT INTO "new" VALUES ({}, 1, 2, 3)"#, 10_000 + n),
            _ => format!(r#"UPDATE "new" SET old = old + 1 WHERE "select" = {}"#, n % 1000),
        }),
        ready: &[r#"SELECT bool_and(tg_op = old * 2 + found
                        AND "user" IS NOT DISTINCT FROM pgshift_row) FROM "new""#],
        new_version: Some((
            r#"UPDATE "new" SET tg_op = 100 + found WHERE "select" = 1"#,
            r#"UPDATE "new" SET tg_op = 200 + found, "user" = 5 WHERE "select" = 2"#,
            &[
                r#"SELECT array_agg(old ORDER BY "select") = '{50,100}' FROM "new" WHERE "select" < 3"#,
                r#"SELECT pgshift_row = 5 FROM "new" WHERE "select" = 2"#,
            ],
        )),
        ..Life::default()
    }
    .live()
    .await;
}
