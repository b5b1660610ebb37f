//! `pgshift snapshot` and `pgshift check` by the real binary, on private servers.

use std::path::Path;

use serde_json::Value;

use crate::support::{Cli, Db, Output, Running};

/// A project whose schema is made by `setup`.
struct Ci {
    cli: Cli,
    /// What says where the schema of a trial comes from.
    schema: String,
}

impl Ci {
    /// The schema is made by an earlier migration, which is not tried itself: no `pg_dump` is
    /// needed, and no database.
    fn new(setup: &str) -> Self {
        let ci = Self::on(Cli::offline(), "--from=migrations");
        ci.cli.migration("0_setup", setup);
        ci
    }

    /// The schema is in the snapshot of a database. `None`, loudly, where there is no `pg_dump`
    /// for the server's version.
    async fn with_snapshot(db: &Db) -> Option<Self> {
        let ci = Self::on(Cli::new(db), "--snapshot=pgshift-snapshot.json");
        ci.snapshot().await;
        if ci.read_snapshot()["schema"].is_null() {
            eprintln!("SKIPPED: no pg_dump for this server's version");
            return None;
        }
        Some(ci)
    }

    fn on(cli: Cli, schema: &str) -> Self {
        // The private servers are of the version that is tested.
        let cli = match std::env::var_os("PGSHIFT_PG_BIN") {
            Some(bin) => cli.env("PGSHIFT_PG_BIN", bin.to_str().expect("a path")),
            None => cli,
        };
        Self {
            cli,
            schema: schema.to_owned(),
        }
    }

    async fn snapshot(&self) {
        let out = ["snapshot", "--out", "pgshift-snapshot.json"];
        self.cli.run(&out).await.expect(0);
    }

    fn read_snapshot(&self) -> Value {
        let file = self.cli.dir().join("pgshift-snapshot.json");
        let text = std::fs::read_to_string(file).expect("the snapshot");
        serde_json::from_str(&text).expect("JSON")
    }

    /// The arguments of a check of every migration but the one that makes the schema.
    fn args(&self, more: &[&str]) -> Vec<String> {
        let mut args = vec!["check".to_owned(), self.schema.clone()];
        args.extend(more.iter().map(ToString::to_string));
        let names_some = more
            .iter()
            .any(|m| m.starts_with(|c: char| c.is_ascii_digit()));
        if self.cli.dir().join("migrations/0_setup.sql").exists() && !names_some {
            let mut ids: Vec<String> = std::fs::read_dir(self.cli.dir().join("migrations"))
                .expect("migrations/")
                .filter_map(|e| e.ok()?.file_name().into_string().ok())
                .filter_map(|name| Some(name.strip_suffix(".sql")?.to_owned()))
                .filter(|id| id != "0_setup")
                .collect();
            ids.sort();
            args.extend(ids);
        }
        args
    }

    async fn run(&self, more: &[&str]) -> Output {
        let args = self.args(more);
        self.cli
            .run(&args.iter().map(String::as_str).collect::<Vec<_>>())
            .await
    }

    fn spawn(&self, more: &[&str]) -> Running {
        let args = self.args(more);
        self.cli
            .spawn(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Checks, and gives the report as JSON.
    async fn check(&self, more: &[&str], code: i32) -> Value {
        let mut args = vec!["--format=json", "--rows=200"];
        args.extend(more);
        self.run(&args).await.expect(code).json()
    }
}

fn findings(report: &Value) -> &Vec<Value> {
    report["findings"].as_array().expect("findings")
}

fn outcome<'a>(report: &'a Value, migration: usize, stage: &str) -> &'a str {
    report["migrations"][migration]["stages"]
        .as_array()
        .expect("stages")
        .iter()
        .find(|s| s["stage"] == stage)
        .and_then(|s| s["outcome"].as_str())
        .unwrap_or_else(|| panic!("no stage {stage}"))
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations-examples")
}

/// A default that reads other columns is the planner's to understand, so a check takes it too: there
/// and back, with made-up rows, some of them without a value.
#[tokio::test]
async fn a_default_that_reads_other_columns_passes() {
    let ci = Ci::new("CREATE TABLE p (id int PRIMARY KEY, f text NOT NULL, l text);");
    ci.cli.migration(
        "1_required",
        "ALTER TABLE p ADD COLUMN full_name text NOT NULL DEFAULT f || coalesce(l, ''),
         ADD COLUMN both text DEFAULT f || l;",
    );
    let report = ci.check(&[], 0).await;
    assert!(findings(&report).is_empty(), "{report:#}");
}

/// Every example passes, on made-up rows, and every lock is as the plan says.
#[tokio::test]
async fn every_example_passes() {
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).expect("the folder") {
        let path = entry.expect("an entry").path();
        if !path.is_dir() {
            continue;
        }
        count += 1;
        let setup = std::fs::read_to_string(path.join("setup.sql")).expect("setup.sql");
        // Rows come last in these files, and are made up here.
        let ci = Ci::new(setup.split("INSERT INTO").next().expect("the schema"));
        for file in std::fs::read_dir(path.join("migrations")).expect("migrations/") {
            let file = file.expect("an entry").path();
            let stem = file
                .file_stem()
                .expect("a stem")
                .to_string_lossy()
                .into_owned();
            let text = std::fs::read_to_string(&file).expect("a file");
            ci.cli.migration(&stem, &text);
        }
        let report = ci.check(&[], 0).await;
        assert_eq!(report["passed"], true, "{}: {report:#}", path.display());
        assert_eq!(report["private_server"], true);
        assert_eq!(outcome(&report, 0, "purge"), "ok", "{}", path.display());
        for table in report["tables"].as_array().expect("tables") {
            assert_eq!(table["rows"], 200, "{table}");
        }
        let steps = report["migrations"][0]["steps"].as_array().expect("steps");
        let seen = |s: &Value| s["locks"].as_object().is_some_and(|l| !l.is_empty());
        // DDL tells of its locks itself; chunks are only looked at, and are quick.
        let ddl = |s: &Value| s["phase"] != "backfill" && s["phase"] != "verify";
        if steps.iter().any(ddl) {
            assert!(steps.iter().any(seen), "no lock was seen: {report:#}");
        }
    }
    assert!(count >= 10);
}

const SHOP: &str = "
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer bigint NOT NULL, total numeric(10,2) NOT NULL, note text);
CREATE VIEW big AS SELECT id FROM orders WHERE total > 100;";
const ROWS: &str =
    "INSERT INTO orders (customer, total) SELECT n, n FROM generate_series(1, 5000) n;";

#[tokio::test]
async fn a_wrong_way_back_is_found_with_what_differs() {
    let ci = Ci::new(SHOP);
    // The view comes back as another one, and the comment not at all.
    ci.cli.migration(
        "1_view",
        "-- pgshift: expand\nALTER TABLE orders ADD COLUMN seen boolean;\n\
         -- pgshift: contract\nDROP VIEW big;\n\
         -- pgshift: revert\nCREATE VIEW big AS SELECT id FROM orders WHERE total > 1000;\n",
    );
    let report = ci.check(&["--no-lint"], 1).await;
    let found = &findings(&report)[0];
    assert_eq!(found["kind"], "schema", "{report:#}");
    assert_eq!(found["stage"], "revert_contract");
    let differences = found["differences"].as_array().expect("differences");
    assert_eq!(differences.len(), 1, "{report:#}");
    assert_eq!(differences[0]["object"], "public.big rule \"_RETURN\"");
    assert!(
        differences[0]["before"]
            .as_str()
            .expect("a text")
            .contains("100")
    );
    assert!(
        differences[0]["after"]
            .as_str()
            .expect("a text")
            .contains("1000")
    );
    assert_eq!(outcome(&report, 0, "revert"), "ok");
    assert_eq!(outcome(&report, 0, "revert_contract"), "differs");

    // For people the same is a small diff.
    let human = ci.run(&["--no-lint"]).await.expect(1);
    for part in [
        "DIFFERS",
        "public.big rule",
        "    - ",
        "    + ",
        "1 migration tried on",
        "1 finding",
    ] {
        assert!(human.stdout.contains(part), "{part} in\n{}", human.stdout);
    }
}

#[tokio::test]
async fn rows_that_do_not_come_back_are_found() {
    let setup = format!(
        "{SHOP} CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN NEW.note := 'touched'; RETURN NEW; END $$; \
         CREATE TRIGGER touch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();"
    );
    let ci = Ci::new(&setup);
    ci.cli.migration(
        "1_cents",
        "-- pgshift: expand\nALTER TABLE orders ADD COLUMN cents bigint;\n\
         -- pgshift: backfill\nUPDATE orders SET cents = total * 100;\n",
    );
    let report = ci.check(&["--no-lint"], 1).await;
    let found = &findings(&report)[0];
    assert_eq!(found["kind"], "data", "{report:#}");
    assert_eq!(
        found["differences"][0]["object"],
        "public.orders column \"note\""
    );
    assert_eq!(found["differences"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn what_fails_on_rows_is_found_at_its_place() {
    let ci = Ci::new(SHOP);
    ci.cli.migration(
        "1_small",
        "ALTER TABLE orders ADD COLUMN x int;\n\n\
         ALTER TABLE orders ADD CONSTRAINT small CHECK (customer < 100);\n",
    );
    ci.cli
        .migration("2_after", "ALTER TABLE orders ADD COLUMN y int;");
    let report = ci.check(&["--no-lint"], 1).await;
    let found = &findings(&report)[0];
    assert_eq!(found["kind"], "failed", "{report:#}");
    assert_eq!(found["sqlstate"], "23514");
    assert_eq!(found["line"], 3);
    assert!(
        found["file"]
            .as_str()
            .expect("a file")
            .ends_with("1_small.sql")
    );
    assert!(found["message"].as_str().expect("a text").contains("small"));
    assert_eq!(outcome(&report, 0, "apply"), "failed");
    assert_eq!(outcome(&report, 1, "plan"), "skipped");
    assert!(
        report["migrations"][1]["notes"][0]
            .as_str()
            .expect("a note")
            .contains("1_small")
    );

    let human = ci.run(&["--no-lint"]).await.expect(1);
    assert!(
        human.stdout.contains("1 of 2 migrations tried"),
        "{}",
        human.stdout
    );

    // With rows of one's own it passes.
    ci.cli.file(
        "rows.sql",
        "INSERT INTO orders (customer, total) SELECT n % 90, n FROM generate_series(1, 500) n;",
    );
    let report = ci.check(&["--no-lint", "--data", "rows.sql"], 0).await;
    assert_eq!(outcome(&report, 1, "purge"), "ok");

    // A wrong name is found while planning, with its column.
    ci.cli.migration(
        "3_wrong",
        "ALTER TABLE orders ADD COLUMN z int;\nALTER TABLE nowhere ADD a int;",
    );
    let report = ci
        .check(&["--no-lint", "--data", "rows.sql", "3_wrong"], 1)
        .await;
    let found = &findings(&report)[0];
    assert_eq!(
        (&found["stage"], &found["line"]),
        (&"plan".into(), &2.into()),
        "{report:#}"
    );
    assert_eq!(report["migrations"].as_array().map(Vec::len), Some(1));
}

/// What a new table is bound to by the same file is locked as well when it is dropped again.
#[tokio::test]
async fn new_tables_that_hang_together_come_and_go_as_predicted() {
    let ci = Ci::new(SHOP);
    ci.cli.migration(
        "1_tables",
        "CREATE TABLE a (id int PRIMARY KEY, parent int REFERENCES a);\n\
         CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a, \"order\" bigint);\n\
         ALTER TABLE b ADD FOREIGN KEY (\"order\") REFERENCES orders;\n\
         CREATE TABLE p (at date NOT NULL, a int REFERENCES a) PARTITION BY RANGE (at);\n\
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');\n",
    );
    let report = ci.check(&["--no-lint"], 0).await;
    assert_eq!(outcome(&report, 0, "purge"), "ok", "{report:#}");
}

/// Changes of types with all that hangs on the columns: every lock and rewrite as predicted, there and
/// back, twice.
#[tokio::test]
async fn changes_of_types_come_and_go_as_predicted() {
    for (name, setup, file) in [
        (
            "cascade",
            "CREATE TABLE users (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name text);
             CREATE TABLE orders (id int PRIMARY KEY, user_id int NOT NULL REFERENCES users,
                 parent int REFERENCES orders);
             CREATE VIEW of_users AS SELECT user_id, count(*) FROM orders GROUP BY user_id;",
            "-- pgshift: option cascade=true\nALTER TABLE users ALTER id TYPE bigint;",
        ),
        (
            "matview",
            "CREATE TABLE t (id int PRIMARY KEY, n int);
             CREATE VIEW v AS SELECT n, id FROM t;
             CREATE MATERIALIZED VIEW m AS SELECT n, count(*) FROM v GROUP BY n;
             CREATE UNIQUE INDEX ON m (n);",
            "ALTER TABLE t ALTER n TYPE bigint;",
        ),
        (
            "partitions",
            "CREATE TABLE r (id int NOT NULL, at int NOT NULL, n int CHECK (n >= 0 OR n < 0),
                 PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
             CREATE TABLE r1 PARTITION OF r FOR VALUES FROM (MINVALUE) TO (100);
             CREATE TABLE r2 PARTITION OF r DEFAULT;
             CREATE INDEX ON r (n);",
            "ALTER TABLE r ALTER id TYPE bigint, ALTER n TYPE bigint;",
        ),
        (
            "small",
            "CREATE TABLE t (id int PRIMARY KEY, n int, m int, EXCLUDE (n WITH =));
             ALTER TABLE t ADD g bigint GENERATED ALWAYS AS (m + 1) STORED;
             CREATE INDEX ON t (g);",
            "ALTER TABLE t ALTER n TYPE bigint, ALTER m TYPE bigint;",
        ),
    ] {
        let ci = Ci::new(setup);
        ci.cli.migration("1_types", file);
        let report = ci.check(&["--no-lint"], 0).await;
        assert_eq!(report["passed"], true, "{name}: {report:#}");
        assert_eq!(outcome(&report, 0, "purge"), "ok", "{name}: {report:#}");
    }
}

#[tokio::test]
async fn the_linter_is_asked() {
    let ci = Ci::new(SHOP);
    ci.cli.migration("1_drop", "DROP TABLE orders CASCADE;");
    let report = ci.check(&[], 1).await;
    assert!(
        findings(&report).iter().any(|f| f["kind"] == "lint"),
        "{report:#}"
    );
}

/// Everything that is hard to fill.
const TRICKY: &str = r#"
CREATE EXTENSION btree_gist;
CREATE TYPE state AS ENUM ('new', 'paid', 'it''s');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN email AS text NOT NULL CHECK (VALUE ~ '^[^@]+@[^@]+\.[a-z]+$');
CREATE SCHEMA "Odd Schema";
CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mail email UNIQUE, age positive NOT NULL, country char(2) NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
    code varchar(5) NOT NULL UNIQUE, parent bigint REFERENCES customers,
    tags text[] NOT NULL, place pair NOT NULL, born date NOT NULL CHECK (born < '2020-01-01'),
    key uuid NOT NULL UNIQUE, doc jsonb NOT NULL, ip inet NOT NULL, span int4range NOT NULL);
CREATE TABLE orders (id serial PRIMARY KEY, customer bigint NOT NULL REFERENCES customers,
    state state NOT NULL, total numeric(8,2) NOT NULL CHECK (total >= 10 AND total < 20),
    tax numeric GENERATED ALWAYS AS (total * 0.19) STORED,
    kind text NOT NULL CHECK (kind IN ('a', 'b')), low int NOT NULL, high int NOT NULL,
    CONSTRAINT ordered CHECK (low < high), CONSTRAINT pairs UNIQUE (customer, kind) DEFERRABLE);
CREATE TABLE profiles (customer bigint PRIMARY KEY REFERENCES customers, bio text NOT NULL);
CREATE TABLE links (customer bigint REFERENCES customers, "order" int REFERENCES orders,
    PRIMARY KEY (customer, "order"));
CREATE TABLE rooms (room int NOT NULL, during tstzrange NOT NULL,
    EXCLUDE USING gist (room WITH =, during WITH &&));
CREATE TABLE events (at timestamptz NOT NULL, kind text NOT NULL, n bigint NOT NULL,
    PRIMARY KEY (at, kind, n)) PARTITION BY RANGE (at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')
    PARTITION BY LIST (kind);
CREATE TABLE events_2_x PARTITION OF events_2 FOR VALUES IN ('x', 'y');
CREATE TABLE hashed (id bigint PRIMARY KEY, v text) PARTITION BY HASH (id);
CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE "Odd Schema"."Odd ""Table" ("a b" int PRIMARY KEY, "select" text NOT NULL DEFAULT 'x');
CREATE TABLE hens (id int PRIMARY KEY, egg int NOT NULL);
CREATE TABLE eggs (id int PRIMARY KEY, hen int NOT NULL REFERENCES hens);
ALTER TABLE hens ADD FOREIGN KEY (egg) REFERENCES eggs;
CREATE TABLE impossible (n int NOT NULL CONSTRAINT never CHECK (n > 5 AND n < 5));
CREATE TABLE strict (n int NOT NULL);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'not so'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON strict FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE VIEW adults AS SELECT id, mail FROM customers WHERE age > 17;
CREATE MATERIALIZED VIEW totals AS SELECT customer, sum(total) FROM orders GROUP BY customer;
"#;

#[tokio::test]
async fn a_tricky_schema_is_filled_and_passes() {
    let ci = Ci::new(TRICKY);
    tricky(&ci).await;
}

#[tokio::test]
async fn a_tricky_schema_of_a_snapshot_is_filled_and_passes() {
    let db = Db::with("check_tricky", TRICKY).await;
    if let Some(ci) = Ci::with_snapshot(&db).await {
        tricky(&ci).await;
    }
}

async fn tricky(ci: &Ci) {
    ci.cli.migration(
        "1_cents",
        "-- pgshift: expand\nALTER TABLE orders ADD COLUMN cents bigint;\n\
         CREATE INDEX CONCURRENTLY orders_cents ON orders (cents);\n\
         -- pgshift: backfill\nUPDATE orders SET cents = total * 100;\n\
         -- pgshift: reverse\nUPDATE orders SET total = cents / 100.0;\n\
         -- pgshift: contract\nALTER TABLE orders ALTER COLUMN cents SET NOT NULL;\n",
    );
    ci.cli.migration(
        "2_part",
        "ALTER TABLE events ADD COLUMN note text;\n\
         ALTER TABLE customers ADD CONSTRAINT grown CHECK (age > 0);\n\
         ALTER TABLE links ADD COLUMN since date;\n",
    );
    let report = ci.check(&["--no-lint"], 0).await;
    let rows = |table: &str| {
        report["tables"]
            .as_array()
            .expect("tables")
            .iter()
            .find(|t| t["table"] == table)
            .unwrap_or_else(|| panic!("{table} in {report:#}"))
            .clone()
    };
    for table in [
        "customers",
        "orders",
        "profiles",
        "links",
        "rooms",
        "events",
        "hashed",
        "strict",
    ] {
        let filled = rows(&format!("public.{table}"));
        assert_eq!(filled["rows"], 200, "{filled}");
        assert_eq!(filled["reason"], Value::Null, "{filled}");
    }
    assert_eq!(rows("Odd Schema.Odd \"Table")["rows"], 200);
    for (table, reason) in [("hens", "eggs"), ("eggs", "hens"), ("impossible", "never")] {
        let filled = rows(&format!("public.{table}"));
        assert_eq!(filled["rows"], 0);
        let why = filled["reason"].as_str().expect("a reason");
        assert!(why.contains(reason), "{table}: {why}");
    }
}

#[tokio::test]
async fn a_snapshot_is_steady_has_sizes_and_no_rows() {
    let setup = format!("{SHOP} {ROWS} ALTER TABLE orders ALTER customer SET STATISTICS 1000;
        INSERT INTO orders (customer, total, note) SELECT 1, 1, 'a secret value' FROM generate_series(1, 5000);");
    let db = Db::with("snapshot", &setup).await;
    db.execute("ANALYZE").await;
    let ci = Ci::on(Cli::new(&db), "--snapshot=pgshift-snapshot.json");
    ci.snapshot().await;
    let read = || std::fs::read_to_string(ci.cli.dir().join("pgshift-snapshot.json")).expect("it");
    let first = read();
    assert!(!first.contains("secret"), "rows are not in it");
    let value = ci.read_snapshot();
    assert_eq!(value["format"], 1);
    assert_eq!(value["catalog"]["tables"][0]["rows"], 10_000);
    if let Some(schema) = value["schema"].as_object() {
        assert!(
            schema["by"]
                .as_str()
                .expect("a text")
                .starts_with("pg_dump")
        );
        assert!(value.get("schema_missing").is_none());
    } else {
        let why = value["schema_missing"].as_str().expect("the reason");
        assert!(why.starts_with("no pg_dump of PostgreSQL"), "{why}");
        assert!(!why.contains('/'), "no path of this machine: {why}");
    }
    // The same database gives the same file, and so does one that was written to a little.
    db.execute("INSERT INTO orders (customer, total) VALUES (1, 1); ANALYZE")
        .await;
    ci.snapshot().await;
    assert_eq!(read(), first);
    let names = || std::fs::read_dir(ci.cli.dir()).expect("the folder").count();
    assert_eq!(names(), 2, "no other file is left beside it");

    // What was applied is in it, and is not checked again.
    ci.cli
        .migration("1_x", "ALTER TABLE orders ADD COLUMN x int;");
    ci.cli.run(&["apply"]).await.expect(0);
    ci.snapshot().await;
    let report = ci.check(&[], 0).await;
    assert_eq!(report["migrations"], serde_json::json!([]));
    let error = ci.cli.run(&["check", "1_x"]).await.expect(2);
    assert!(error.stderr.contains("applied already"), "{}", error.stderr);
    // From the files alone it is: on the schema that they make.
    ci.cli
        .migration("0_t", "CREATE TABLE orders (id int PRIMARY KEY);");
    let from = [
        "check",
        "--from=migrations",
        "--rows=200",
        "--format=json",
        "1_x",
    ];
    let report = ci.cli.run(&from).await.expect(0).json();
    assert_eq!(report["migrations"][0]["migration"], "1_x");
    assert_eq!(report["tables"][0]["rows"], 200);
    // An edited one is an error.
    ci.cli
        .migration("1_x", "ALTER TABLE orders ADD COLUMN y int;");
    let error = ci.cli.run(&["check"]).await.expect(2);
    assert!(
        error.stderr.contains("was changed after"),
        "{}",
        error.stderr
    );
}

#[tokio::test]
async fn a_bad_snapshot_is_a_clear_error() {
    let db = Db::with("bad_snapshot", SHOP).await;
    let ci = Ci::on(Cli::new(&db), "--snapshot=pgshift-snapshot.json");
    ci.snapshot().await;
    ci.cli
        .migration("1_x", "ALTER TABLE orders ADD COLUMN x int;");
    let path = ci.cli.dir().join("pgshift-snapshot.json");
    let good = std::fs::read_to_string(&path).expect("it");
    let fails = async |text: &str, part: &str| {
        ci.cli.file("bad.json", text);
        let error = ci
            .cli
            .run(&["check", "--snapshot", "bad.json"])
            .await
            .expect(2);
        assert!(error.stderr.contains(part), "{part} in {}", error.stderr);
        assert!(error.stderr.contains("bad.json"), "{}", error.stderr);
    };
    fails(&good[..good.len() / 2], "cut short").await;
    fails(
        &good.replacen("\"format\": 1", "\"format\": 7", 1),
        "format 7",
    )
    .await;
    fails("not JSON", "no snapshot").await;
    let error = ci.cli.run(&["check", "--snapshot", "absent.json"]).await;
    assert!(error.expect(2).stderr.contains("absent.json"));
    // Without the SQL of the schema there is nothing to try on.
    let out = ["snapshot", "--no-schema", "--out", "facts.json"];
    ci.cli.run(&out).await.expect(0);
    let error = ci.cli.run(&["check", "--snapshot", "facts.json"]).await;
    let error = error.expect(3).stderr;
    for part in [
        "facts.json",
        "--no-schema",
        "pgshift snapshot",
        "--from migrations",
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert!(
        !error.contains("making a database"),
        "nothing is started for it: {error}"
    );
}

#[tokio::test]
async fn a_shadow_database_with_tables_is_refused() {
    let db = Db::with("shadow", &format!("{SHOP} {ROWS}")).await;
    let ci = Ci::new(SHOP);
    ci.cli
        .migration("1_x", "ALTER TABLE orders ADD COLUMN x int;");
    let before = db.schema().await;
    let url = db.url();
    let error = ci.run(&["--shadow-url", &url]).await.expect(3);
    assert!(error.stderr.contains("is not empty"), "{}", error.stderr);
    assert!(error.stderr.contains("public.orders"), "{}", error.stderr);
    assert_eq!(db.schema().await, before);
    let rows: i64 = db.one("SELECT count(*) FROM orders").await;
    assert_eq!(rows, 5000);

    // Beside an empty one a database of our own is made, and is gone afterwards.
    let empty = Db::create("shadow_empty").await;
    let report = ci.check(&["--shadow-url", &empty.url()], 0).await;
    assert_eq!(report["private_server"], false);
    assert_eq!(outcome(&report, 0, "purge"), "ok");
    // Of other checks there may be some.
    let left = "SELECT count(*) FROM pg_stat_database WHERE datname LIKE 'pgshift_check_%'
                AND datid > 0";
    let _: i64 = db.one(left).await;

    // A role that may not create databases uses the empty one itself, and empties it again;
    // also where an earlier check was killed there.
    let role = format!("shadow_{:08x}", fastrand::u32(..));
    empty
        .execute(&format!(
            "CREATE ROLE {role} LOGIN; ALTER DATABASE {} OWNER TO {role}; \
             ALTER SCHEMA public OWNER TO {role}",
            empty.name()
        ))
        .await;
    let url = empty.url().replace("postgres@", &format!("{role}@"));
    for _ in 0..2 {
        let running = ci.spawn(&["--shadow-url", &url]);
        let marked = "SELECT to_regnamespace('pgshift_check') IS NOT NULL";
        let wait = async {
            while !empty.one::<bool>(marked).await {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), wait)
            .await
            .expect("it begins");
        running.kill().await;
    }
    let report = ci.check(&["--shadow-url", &url], 0).await;
    assert_eq!(outcome(&report, 0, "purge"), "ok", "{report:#}");
    let left: i64 = empty
        .one(
            "SELECT count(*) FROM pg_class WHERE relnamespace::regnamespace::text NOT LIKE 'pg_%'
              AND relnamespace::regnamespace::text <> 'information_schema'",
        )
        .await;
    assert_eq!(left, 0);
    empty
        .execute(&format!(
            "REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role}; DROP ROLE {role}"
        ))
        .await;
}

#[tokio::test]
async fn ctrl_c_leaves_nothing() {
    let mut ci = Ci::new(SHOP);
    ci.cli.migration("1_x", "SELECT pg_sleep(60);");
    let folder = ci.cli.dir().join("tmp");
    std::fs::create_dir(&folder).expect("tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // Where tests run as root the server runs as another user.
        for path in [ci.cli.dir(), folder.as_path()] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("open");
        }
    }
    ci.cli = ci.cli.env("TMPDIR", folder.to_str().expect("a path"));
    let servers = || std::fs::read_dir(&folder).expect("tmp").count();
    for signal in ["INT", "KILL"] {
        let mut running = ci.spawn(&["--no-lint"]);
        let begun = async {
            while running.running() && servers() == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        };
        begun.await;
        running.signal(signal);
        let output: Output = running.wait().await;
        if signal == "INT" {
            assert_eq!(output.code, Some(5), "{}", output.stderr);
        }
        let gone = async {
            while servers() > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), gone)
            .await
            .expect("its server is gone");
    }
}

/// A check that is killed leaves its database on another's server, and the next one drops it; a
/// database that is given is one check's at a time, and is given back whatever runs in it.
#[tokio::test]
async fn checks_on_a_shadow_server_end_without_leavings() {
    let limit = std::time::Duration::from_secs(30);
    let db = Db::create("shadow_left").await;
    let ci = Ci::new(SHOP);
    ci.cli.migration("1_slow", "SELECT pg_sleep(60);");
    let sleeping = |more: &str| {
        format!(
            "SELECT count(*) > 0 FROM pg_stat_activity
             WHERE query = 'SELECT pg_sleep(60)' AND state = 'active' AND {more}"
        )
    };
    let role = format!("given_{:08x}", fastrand::u32(..));
    db.execute(&format!("CREATE ROLE {role} LOGIN")).await;
    let url = db.url().replace("postgres@", &format!("{role}@"));
    let refused = ci.run(&["--shadow-url", &url]).await.expect(3).stderr;
    for part in ["neither create databases nor", "CREATEDB", "OWNER TO"] {
        assert!(refused.contains(part), "{part} in {refused}");
    }
    db.execute(&format!(
        "ALTER DATABASE {} OWNER TO {role}; ALTER SCHEMA public OWNER TO {role}",
        db.name()
    ))
    .await;
    let first = ci.spawn(&["--no-lint", "--shadow-url", &url]);
    let ours = sleeping("datname = current_database()");
    db.until(limit, "the first is at work", &ours).await;
    let second = ci.run(&["--no-lint", "--shadow-url", &url]).await.expect(3);
    assert!(second.stderr.contains("another check"), "{}", second.stderr);
    first.interrupt();
    assert_eq!(first.wait().await.code, Some(5));
    let left = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE nspname <> 'information_schema' AND nspname !~ '^pg_'";
    assert_eq!(db.one::<i64>(left).await, 0);
    assert_eq!(db.rows::<bool>(&ours).await, [false]);

    // A superuser makes a database beside it.
    let made = sleeping("datname LIKE 'pgshift_check_%'");
    let first = ci.spawn(&["--no-lint", "--shadow-url", &db.url()]);
    db.until(limit, "the first is at work", &made).await;
    let name: String = db
        .one("SELECT datname::text FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND datname LIKE 'pgshift_check_%'")
        .await;
    first.kill().await;
    db.execute(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    ))
    .await;
    ci.cli.migration("1_slow", "SELECT 1;");
    ci.run(&["--no-lint", "--shadow-url", &db.url()])
        .await
        .expect(0);
    let there = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(db.one::<i64>(&there).await, 0, "{name}");
    db.execute(&format!(
        "REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role}; DROP ROLE {role}"
    ))
    .await;
}
