//! What the server refuses whatever rows there are is found in the plan, and nothing else is.

use crate::support::{Cli, Db};

const SETUP: &str = "CREATE TABLE c (id int PRIMARY KEY, code text, n numeric);
    CREATE TABLE t (id int PRIMARY KEY, c int, total numeric NOT NULL DEFAULT 0, s text,
        CONSTRAINT positive CHECK (total >= 0));
    CREATE UNIQUE INDEX one_of_each ON t (c);
    CREATE VIEW seen AS SELECT id FROM t;
    CREATE SCHEMA other; CREATE TABLE other.c (id int PRIMARY KEY);
    CREATE TABLE p (id int, at date, n int) PARTITION BY RANGE (at);
    CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')";

/// Each is refused at the words that are wrong.
#[tokio::test]
async fn what_the_server_would_refuse() {
    let db = Db::with("trial_refused", SETUP).await;
    let cli = Cli::new(&db);
    let mut wrong = Vec::new();
    for (n, (file, at, why)) in [
        (
            "CREATE INDEX ON t (nosuch)",
            "nosuch",
            "\"nosuch\" does not exist",
        ),
        (
            "CREATE INDEX CONCURRENTLY i ON t (lower(nosuch))",
            "nosuch",
            "does not exist",
        ),
        (
            "CREATE UNIQUE INDEX i ON ONLY p (at, nosuch)",
            "nosuch",
            "does not exist",
        ),
        ("CREATE INDEX ON t ((id * random()))", "", "IMMUTABLE"),
        (
            "CREATE INDEX ON t USING gin (s nosuch_ops)",
            "nosuch_ops",
            "does not exist",
        ),
        (
            "ALTER TABLE t ADD CONSTRAINT k CHECK (nosuch > 0)",
            "nosuch",
            "does not exist",
        ),
        (
            "ALTER TABLE t ADD CHECK (total > 'x')",
            "'x'",
            "invalid input syntax",
        ),
        (
            "ALTER TABLE t ADD COLUMN d int CHECK (d > nosuch)",
            "nosuch",
            "does not exist",
        ),
        (
            "ALTER TABLE t ADD COLUMN d int DEFAULT (SELECT 1)",
            "",
            "subquery",
        ),
        (
            "ALTER TABLE t ALTER total SET DEFAULT nosuch()",
            "nosuch",
            "does not exist",
        ),
        (
            "ALTER TABLE t ALTER total SET DEFAULT 'x'",
            "'x'",
            "invalid input syntax",
        ),
        (
            "ALTER TABLE t ADD PRIMARY KEY (c)",
            "t ADD",
            "multiple primary keys",
        ),
        (
            "-- pgshift: allow add-column-generated-stored reason=\"small\"\nALTER TABLE t ADD COLUMN d int GENERATED ALWAYS AS (nosuch + 1) STORED",
            "nosuch",
            "does not exist",
        ),
        (
            "ALTER TABLE t ADD FOREIGN KEY (nosuch) REFERENCES c",
            "nosuch",
            "does not exist",
        ),
        (
            "ALTER TABLE t ADD FOREIGN KEY (c) REFERENCES public.c (nosuch)",
            "nosuch",
            "does not exist",
        ),
        (
            "ALTER TABLE t ADD FOREIGN KEY (c) REFERENCES c (n)",
            "",
            "no unique constraint",
        ),
        (
            "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (s) REFERENCES other.c NOT VALID",
            "f FOREIGN",
            "cannot be implemented",
        ),
        (
            "ALTER TABLE t ADD COLUMN d text REFERENCES c (id)",
            "",
            "cannot be implemented",
        ),
        (
            "ALTER TABLE t ADD COLUMN d int REFERENCES nosuch",
            "REFERENCES",
            "does not exist",
        ),
        (
            "CREATE TABLE x (d int REFERENCES nosuch)",
            "CREATE TABLE",
            "does not exist",
        ),
        (
            "-- pgshift: allow add-exclusion reason=\"small\"\nALTER TABLE t ADD CONSTRAINT e EXCLUDE USING gist (nosuch WITH =)",
            "nosuch",
            "does not exist",
        ),
        (
            "-- pgshift: expand\nALTER TABLE t ADD COLUMN d int;\n-- pgshift: backfill\n\
            UPDATE t SET d = c;\n-- pgshift: contract\nALTER TABLE t ADD CHECK (e > 0)",
            "e > 0",
            "does not exist",
        ),
        (
            "CREATE TABLE x (id int PRIMARY KEY, id text)",
            "",
            "specified more than once",
        ),
        ("CREATE VIEW w AS SELECT nosuch FROM t", "nosuch", "does not exist"),
        (
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT nosuch FROM t'",
            "nosuch",
            "does not exist",
        ),
        ("CREATE TYPE x AS (a nosuch)", "nosuch", "does not exist"),
        ("COMMENT ON COLUMN t.nosuch IS 'x'", "nosuch", "does not exist"),
        ("CREATE POLICY q ON t USING (nosuch > 1)", "nosuch", "does not exist"),
        (
            "CREATE TRIGGER q BEFORE UPDATE OF nosuch ON t FOR EACH ROW EXECUTE FUNCTION \
             suppress_redundant_updates_trigger()",
            "nosuch",
            "does not exist",
        ),
        ("CREATE STATISTICS q ON c, nosuch FROM t", "nosuch", "does not exist"),
        ("GRANT SELECT (nosuch) ON t TO PUBLIC", "nosuch", "does not exist"),
        ("GRANT SELECT ON t TO nosuch", "nosuch", "does not exist"),
        ("ALTER TABLE t SET (fillfactor = 800)", "fillfactor", "out of bounds"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("{n:03}");
        cli.migration(&id, &format!("{file};"));
        let said = cli.run(&["plan", &id]).await.stderr;
        // The caret is under the words.
        let text = format!("{file};");
        let (above, _) = text.split_at(text.find(at).expect(file));
        let line = above.lines().count().max(1);
        let column = above.rsplit('\n').next().unwrap_or_default().len() + 1;
        let place = format!("{id}.sql:{line}:{column}");
        for words in [why, "nothing was changed", &place] {
            if !said.contains(words) {
                wrong.push(format!("{file}\n  does not say {words}: {said}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What only looks like it goes on as ever.
#[tokio::test]
async fn what_the_server_takes() {
    let db = Db::with("trial_taken", SETUP).await;
    let cli = Cli::new(&db);
    for (n, file) in [
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS t_c_idx ON public.t (c) WHERE t.total > 0",
        "CREATE INDEX ON ONLY p (n)",
        "ALTER TABLE t ADD CONSTRAINT t_c_key UNIQUE (c), ADD CONSTRAINT k CHECK (t.total > 0)",
        "ALTER TABLE t ADD COLUMN d int REFERENCES t, ADD COLUMN e int REFERENCES public.t (c)",
        "ALTER TABLE t ADD FOREIGN KEY (c) REFERENCES other.c ON DELETE SET NULL NOT VALID",
        "CREATE UNIQUE INDEX u ON c (n); ALTER TABLE t ADD COLUMN r numeric REFERENCES c (n)",
        "CREATE TABLE x (id int PRIMARY KEY); ALTER TABLE t ADD COLUMN x int REFERENCES x",
        "CREATE TYPE mood AS ENUM ('good'); ALTER TABLE t ADD COLUMN m mood DEFAULT 'good'",
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER TABLE t ALTER c SET \
         DEFAULT one()",
        "CREATE SEQUENCE sq; ALTER TABLE t ADD COLUMN d bigint DEFAULT nextval('sq')",
        "ALTER TABLE t ADD CONSTRAINT u UNIQUE (d), ADD COLUMN d int",
        "ALTER TABLE t ADD COLUMN d text NOT NULL DEFAULT s || total",
        "ALTER TABLE t ADD COLUMN d bigint GENERATED ALWAYS AS IDENTITY; CREATE INDEX ON t (d)",
        "ALTER TABLE t RENAME c TO d",
        "ALTER TABLE t ALTER c TYPE bigint; CREATE INDEX ON c (n)",
        "ALTER TABLE t ADD COLUMN z int; CREATE VIEW w AS SELECT z FROM t",
        "ALTER TABLE t ADD COLUMN z int; COMMENT ON COLUMN t.z IS 'x'; GRANT SELECT (z) ON t TO \
         PUBLIC; CREATE POLICY q ON t USING (z > 0); CREATE STATISTICS q ON c, z FROM t",
        "ALTER TABLE t ADD COLUMN z int; CREATE FUNCTION f() RETURNS bigint LANGUAGE sql AS 'SELECT \
         sum(z) FROM t'",
        "CREATE TABLE x (id int PRIMARY KEY, c int REFERENCES c); CREATE VIEW w AS SELECT c FROM x; \
         COMMENT ON COLUMN w.c IS 'x'",
        "CREATE OR REPLACE VIEW seen AS SELECT id, c FROM t",
        "ALTER TABLE t SET (autovacuum_vacuum_scale_factor = 0.01, toast.autovacuum_enabled = off)",
        "-- pgshift: expand\nALTER TABLE t ADD COLUMN d int;\n-- pgshift: backfill\n\
         UPDATE t SET d = c;\n-- pgshift: contract\nALTER TABLE t ALTER d SET NOT NULL;\n\
         ALTER TABLE t DROP COLUMN c;",
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("{n:03}");
        cli.migration(&id, &format!("{file};"));
        let output = cli.run(&["plan", &id]).await;
        assert!(
            !output.stderr.contains("error"),
            "{file}: {}",
            output.stderr
        );
    }
}
