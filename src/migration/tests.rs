use std::fmt::Write as _;
use std::time::Duration;

use proptest::prelude::{
    Just, Strategy, any, prop_assert, prop_assert_eq, prop_assume, prop_oneof, proptest,
};

use super::*;
use crate::sql::Diagnostic;

const EXAMPLE: &str = "\
-- pgshift: expand
ALTER TABLE orders ADD COLUMN total_cents bigint;

-- pgshift: backfill
UPDATE orders SET total_cents = round(total * 100)::bigint;

-- pgshift: reverse
UPDATE orders SET total = total_cents / 100.0;

-- pgshift: contract
ALTER TABLE orders ALTER COLUMN total_cents SET NOT NULL;
ALTER TABLE orders DROP COLUMN total;
";

fn read(text: &str) -> std::result::Result<Migration, Vec<Diagnostic>> {
    parse("20261123_test", Source::new("test.sql", text))
}

/// Sections and statements, one on each line.
#[track_caller]
fn show(text: &str) -> String {
    let migration = match read(text) {
        Ok(migration) => migration,
        Err(d) => panic!("{}", render(text, &d)),
    };
    let mut out = String::new();
    for section in &migration.sections {
        let _ = write!(out, "[{}", section.kind);
        if let Some(of) = section.of {
            let _ = write!(out, " of {of}");
        }
        let _ = writeln!(out, "]");
        for statement in &section.statements {
            assert_eq!(statement.span.of(migration.source.text()), statement.sql);
            for allow in &statement.allows {
                let _ = writeln!(out, "allow {}: {}", allow.rule, allow.reason);
            }
            let _ = writeln!(out, "{}", statement.sql);
        }
    }
    out
}

fn render(text: &str, diagnostics: &[Diagnostic]) -> String {
    let source = Source::new("test.sql", text);
    let mut out = String::new();
    for d in diagnostics {
        let (line, column) = source.line_column(d.span.start);
        let _ = writeln!(out, "{line}:{column} `{}` {}", d.span.of(text), d.message);
        for label in &d.also {
            let _ = writeln!(out, "  `{}` {}", label.span.of(text), label.text);
        }
        let help = d.help.as_deref().expect("every error says what to do");
        let _ = writeln!(out, "  help: {help}");
    }
    out
}

#[track_caller]
fn errors(text: &str) -> String {
    render(text, &read(text).expect_err("is refused"))
}

#[test]
fn reads_sections() {
    insta::assert_snapshot!(show(EXAMPLE), @r#"
[expand]
ALTER TABLE orders ADD COLUMN total_cents bigint
[backfill]
UPDATE orders SET total_cents = round(total * 100)::bigint
[reverse]
UPDATE orders SET total = total_cents / 100.0
[contract]
ALTER TABLE orders ALTER COLUMN total_cents SET NOT NULL
ALTER TABLE orders DROP COLUMN total
"#);
    let migration = read(EXAMPLE).expect("parses");
    assert!(!migration.plain);
    assert_eq!(migration.id, "20261123_test");
    assert_eq!(
        migration.sections[1].span.of(EXAMPLE),
        "-- pgshift: backfill"
    );
}

#[test]
fn the_examples_of_the_documentation_are_right() {
    let page = include_str!("../../docs/migration-files.md");
    let blocks: Vec<&str> = page
        .split("```sql\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert_eq!(blocks[0], EXAMPLE);
    for block in blocks {
        if let Err(d) = read(block) {
            panic!("{block}{}", render(block, &d));
        }
    }
}

#[test]
fn reads_all_kinds() {
    insta::assert_snapshot!(show("
        -- pgshift: option lock_timeout=2s
        -- pgshift: expand
        ALTER TABLE t ADD b int; -- why
        -- pgshift: revert
        SELECT 1;
        -- pgshift: backfill batch=100 workers=2 strategy=keyset sync=off
        UPDATE t SET b = 1;
        --pgshift: backfill
        DELETE FROM u;
        -- pgshift: verify
        SELECT count(*) FROM t WHERE b IS NULL;
        WITH x AS (SELECT 1) SELECT * FROM x;
        -- pgshift: contract
        -- a note
        -- pgshift: allow drop-column reason=\"nobody reads \"\"a\"\"\"
        -- pgshift: allow other reason=x
        ALTER TABLE t DROP a;
        -- pgshift: revert
        CREATE VIEW v AS SELECT 1
    "), @r#"
[expand]
ALTER TABLE t ADD b int
[revert of expand]
SELECT 1
[backfill]
UPDATE t SET b = 1
[backfill]
DELETE FROM u
[verify]
SELECT count(*) FROM t WHERE b IS NULL
WITH x AS (SELECT 1) SELECT * FROM x
[contract]
allow drop-column: nobody reads "a"
allow other: x
ALTER TABLE t DROP a
[revert of contract]
CREATE VIEW v AS SELECT 1
"#);
}

#[test]
fn reads_options() {
    let text = "-- pgshift: option lock_timeout=1m30s\n-- pgshift: backfill batch=100 workers=2 strategy=keyset sync=off stripes=1 vacuum=5%\nUPDATE t SET a = 1;";
    let migration = read(text).expect("parses");
    assert_eq!(
        migration.options.lock_timeout,
        Some(Duration::from_secs(90))
    );
    assert_eq!(
        migration.sections[0].options,
        BackfillOptions {
            batch: Some(100),
            workers: Some(2),
            strategy: Some(super::Strategy::Keyset),
            sync: Some(false),
            stripes: Some(1),
            vacuum: Some(5),
        }
    );
    let plain = read("-- pgshift: backfill sync=on\nDELETE FROM t").expect("parses");
    assert_eq!(plain.options, FileOptions::default());
    assert_eq!(plain.sections[0].options.sync, Some(true));
    assert_eq!(plain.sections[0].options.batch, None);
}

#[test]
fn reads_plain_files() {
    let text = "-- pgshift: option lock_timeout=1s\n-- pgshift: allow a reason=b\nCREATE TABLE t (); SELECT 1";
    insta::assert_snapshot!(show(text), @r#"
[plain]
allow a: b
CREATE TABLE t ()
SELECT 1
"#);
    let migration = read(text).expect("parses");
    assert!(migration.plain);
    let at = text.find("CREATE").expect("is there");
    assert_eq!(migration.sections[0].span, Span::new(at, at));

    let reverted = "DROP VIEW v;\n-- pgshift: revert\nCREATE VIEW v AS SELECT 1;";
    insta::assert_snapshot!(show(reverted), @r#"
[plain]
DROP VIEW v
[revert of plain]
CREATE VIEW v AS SELECT 1
"#);
    let migration = read(reverted).expect("parses");
    assert!(migration.plain);
    assert!(migration.revert_of(SectionKind::Plain).is_some());
    assert_eq!(migration.sections_of(SectionKind::Revert).count(), 1);
}

#[test]
fn text_that_is_no_comment_is_no_directive() {
    insta::assert_snapshot!(show("
        -- pgshift is a tool; pgshift: too
        -- about pgshift: expand
        SELECT '
        -- pgshift: expand
        ', $$
        -- pgshift: nonsense
        $$ /*
        -- pgshift: expand
        */;
    "), @r#"
[plain]
SELECT '
        -- pgshift: expand
        ', $$
        -- pgshift: nonsense
        $$
"#);
}

#[test]
fn refuses_unknown_words() {
    insta::assert_snapshot!(errors("-- pgshift: contrct\nSELECT 1;"), @r#"
1:13 `contrct` unknown directive `contrct`
  help: did you mean `contract`?
"#);
    insta::assert_snapshot!(errors("-- pgshift: down\nSELECT 1;\n-- pgshift:\nSELECT 2;"), @r#"
1:13 `down` unknown directive `down`
  help: the directives are expand, backfill, reverse, verify, contract, revert, allow, option
3:4 `pgshift:` this directive says nothing
  help: the directives are expand, backfill, reverse, verify, contract, revert, allow, option
"#);
    insta::assert_snapshot!(errors("-- pgshift: backfill btach=1 batch=0 workers=many strategy=rows sync=no batch=5 sync stripes=3 vacuum=60%\nUPDATE t SET a = 1;"), @r#"
1:22 `btach` backfill has no option `btach`
  help: did you mean `batch`?
1:36 `0` `0` is not a value of batch
  help: batch must be a number of rows from 1 on, for example batch=5000
1:46 `many` `many` is not a value of workers
  help: workers must be a number from 1 on, for example workers=2
1:60 `rows` `rows` is not a value of strategy
  help: strategy must be ctid or keyset
1:70 `no` `no` is not a value of sync
  help: sync must be on or off
1:73 `batch` option `batch` is set twice
  `batch` first set here
  help: keep one of them
1:81 `sync` option `sync` is set twice
  `sync` first set here
  help: keep one of them
1:94 `3` `3` is not a value of stripes
  help: stripes must be a power of two from 1 (off) to 64, for example stripes=4
1:103 `60%` `60%` is not a value of vacuum
  help: vacuum must be off or a percentage from 1% to 50%, for example vacuum=5%
"#);
    insta::assert_snapshot!(errors("-- pgshift: option lock_timout=2s lock_timeout=2 lock_timeout=\"0s\"\nSELECT 1;"), @r#"
1:20 `lock_timout` the file has no option `lock_timout`
  help: did you mean `lock_timeout`?
1:48 `2` `2` is not a value of lock_timeout
  help: lock_timeout must be a time of at least 1ms, for example lock_timeout=2s or lock_timeout=500ms
1:50 `lock_timeout` option `lock_timeout` is set twice
  `lock_timeout` first set here
  help: keep one of them
"#);
    insta::assert_snapshot!(errors("-- pgshift: option\n-- pgshift: expand now\nSELECT 1;\n-- pgshift: contract=1\nSELECT 2;"), @r#"
1:13 `option` `option` names no option
  help: for example: `-- pgshift: option lock_timeout=2s`
2:20 `now` `expand` takes no options
  help: write `-- pgshift: expand` alone on its line
4:22 `1` `contract` takes no value
  help: write `-- pgshift: contract`
"#);
}

#[test]
fn refuses_near_misses() {
    insta::assert_snapshot!(errors("-- PgShift: expand\nSELECT 1;"), @r#"
1:4 `PgShift` a directive begins with `pgshift:` in lower case
  help: write `-- pgshift: …`
"#);
    insta::assert_snapshot!(errors("-- pgshift expand\nSELECT 1;"), @r#"
1:4 `pgshift` this looks like a directive, but is a mere comment
  help: write `-- pgshift: expand`, or change the wording
"#);
    insta::assert_snapshot!(errors("-- pgshift : backfill batch=1\nSELECT 1;"), @r#"
1:4 `pgshift` this looks like a directive, but is a mere comment
  help: write `-- pgshift: backfill batch=1`, or change the wording
"#);
    insta::assert_snapshot!(errors("/* pgshift: expand */\nSELECT 1;"), @r#"
1:1 `/* pgshift: expand */` a directive cannot be in a block comment
  help: write it as a line comment: `-- pgshift: …`
"#);
    insta::assert_snapshot!(errors("SELECT 1; -- pgshift: allow x reason=y\nSELECT 2;"), @r#"
1:11 `-- pgshift: allow x reason=y` a directive must be alone on its line
  help: move it to a line of its own, before what it is about
"#);
}

#[test]
fn refuses_wrong_allows() {
    insta::assert_snapshot!(errors("-- pgshift: allow x\n-- pgshift: allow reason=y\n-- pgshift: allow x reason=\"\"\n-- pgshift: allow x reason\n-- pgshift: allow x y reason=z\n-- pgshift: allow x because=z\n-- pgshift: allow x reason=\"z\nSELECT 1;"), @r#"
1:19 `x` `allow` gives no reason
  help: write `-- pgshift: allow RULE reason="why it is safe here"`
2:13 `allow` `allow` names no rule
  help: write `-- pgshift: allow RULE reason="why it is safe here"`
3:28 `""` `allow` gives no reason
  help: write `-- pgshift: allow RULE reason="why it is safe here"`
4:21 `reason` `reason` has no value
  help: write `-- pgshift: allow RULE reason="why it is safe here"`
5:21 `y` one rule for each `allow`
  help: write `-- pgshift: allow RULE reason="why it is safe here"`
6:21 `because` `allow` has no option `because`
  help: write `-- pgshift: allow RULE reason="why it is safe here"`
7:28 `"` this quote is not closed
  help: close it with `"` on the same line; a quote inside is `""`
"#);
    insta::assert_snapshot!(errors("-- pgshift: expand\nSELECT 1;\n-- pgshift: allow x reason=y\n-- pgshift: contract\nSELECT 2;\n-- pgshift: allow z reason=y\n-- again"), @r#"
3:19 `x` no statement follows this `allow` in its section
  help: put it directly before the statement that it is about
6:19 `z` no statement follows this `allow` in its section
  help: put it directly before the statement that it is about
"#);
    insta::assert_snapshot!(errors("-- pgshift: allow x reason=y\n-- pgshift: allow x reason=y\nSELECT 1"), @r#"
2:19 `x` `x` is allowed twice for one statement
  `x` first here
  help: keep one of them
"#);
}

#[test]
fn refuses_wrong_structure() {
    insta::assert_snapshot!(errors("SELECT 0;\n-- pgshift: contract\nSELECT 1;\n-- pgshift: expand\nSELECT 2;\n-- pgshift: expand\nSELECT 3;"), @r#"
1:1 `SELECT` this statement is before the first section
  `contract` the first section
  help: in a file with sections, each statement is in one: begin with `-- pgshift: expand`
4:13 `expand` section expand is after contract
  `-- pgshift: contract` contract is here
  help: the order is expand, backfill, reverse, verify, contract
6:13 `expand` section expand is after contract
  `-- pgshift: contract` contract is here
  help: the order is expand, backfill, reverse, verify, contract
"#);
    insta::assert_snapshot!(errors("-- pgshift: expand\n-- pgshift: backfill\nUPDATE t SET a = 1;\n-- pgshift: contract\n"), @r#"
1:1 `-- pgshift: expand` section expand is empty
  help: write its statements, or remove the directive
4:1 `-- pgshift: contract` section contract is empty
  help: write its statements, or remove the directive
"#);
    insta::assert_snapshot!(errors("-- pgshift: expand\nSELECT 1;\n-- pgshift: expand\nSELECT 2;\n-- pgshift: revert\nSELECT 3;\n-- pgshift: revert\nSELECT 4;"), @r#"
3:13 `expand` a second section expand
  `-- pgshift: expand` the first
  help: put the statements into one section
7:13 `revert` revert follows what it takes back, not revert
  help: put it directly after `expand` or `contract`, or at the end of a file without sections
"#);
    insta::assert_snapshot!(errors("-- pgshift: revert\nSELECT 1;"), @r#"
1:13 `revert` revert follows what it takes back, and there is nothing before it
  help: put it directly after `expand` or `contract`, or at the end of a file without sections
"#);
    insta::assert_snapshot!(errors("-- pgshift: backfill\nDELETE FROM t;\n-- pgshift: revert\nSELECT 1;\n-- pgshift: option lock_timeout=1s"), @r#"
3:13 `revert` revert follows what it takes back, not backfill
  help: put it directly after `expand` or `contract`, or at the end of a file without sections
5:13 `option` an option of the file comes too late
  help: move it before the first statement
"#);
    insta::assert_snapshot!(errors("-- pgshift: expand\nSELECT 1\n-- pgshift: contract\nSELECT 2;"), @r#"
3:1 `-- pgshift: contract` this directive is inside a statement
  `SELECT` the statement begins here
  help: end the statement before it with `;`, or move the directive out of it
"#);
    insta::assert_snapshot!(errors("SELECT 1\n-- pgshift: revert\n"), @r#"
2:1 `-- pgshift: revert` this directive is inside a statement
  `SELECT` the statement begins here
  help: end the statement before it with `;`, or move the directive out of it
"#);
    insta::assert_snapshot!(errors("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1;\n-- pgshift: expand\nSELECT 2; END;"), @r#"
2:1 `-- pgshift: expand` this directive is inside a statement
  `CREATE` the statement begins here
  help: end the statement before it with `;`, or move the directive out of it
"#);
    insta::assert_snapshot!(errors("-- nothing\n;"), @r#"
1:1 `` this migration has no statement
  help: write its SQL, or remove the file
"#);
    insta::assert_snapshot!(errors("-- pgshift: option lock_timeout=1s"), @r#"
1:1 `` this migration has no statement
  help: write its SQL, or remove the file
"#);
}

#[test]
fn refuses_statements_in_the_wrong_place() {
    insta::assert_snapshot!(errors("
-- pgshift: backfill
INSERT INTO t VALUES (1);
WITH x AS (SELECT 1) UPDATE t SET a = 1;
-- pgshift: reverse
DELETE FROM t;
-- pgshift: verify
UPDATE t SET a = 1;
WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x;
WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x;"), @r#"
3:1 `INSERT` section backfill takes UPDATE and DELETE only
  help: move the statement to `expand` or `contract`
4:1 `WITH` section backfill takes UPDATE and DELETE only
  help: put the query of WITH into the statement: `UPDATE … FROM (SELECT …) AS x WHERE …`
6:1 `DELETE` section reverse takes UPDATE only
  help: write how the old columns follow from the new: `UPDATE t SET old = f(new)`
8:1 `UPDATE` section verify takes SELECT only
  help: write a query that finds the wrong rows: `SELECT … WHERE …`
9:12 `DELETE` a query of section verify cannot write
  help: write a query that finds the wrong rows: `SELECT … WHERE …`
10:22 `INSERT` a query of section verify cannot write
  help: write a query that finds the wrong rows: `SELECT … WHERE …`
"#);
    insta::assert_snapshot!(errors("
BEGIN;
START TRANSACTION;
SAVEPOINT a;
PREPARE TRANSACTION 'x';
SET lock_timeout = '1s';
SET LOCAL search_path TO app;
SET SESSION AUTHORIZATION joe;
RESET ALL;
DISCARD ALL;
COMMIT;"), @r#"
2:1 `BEGIN` BEGIN cannot be in a migration
  help: remove it: pgshift decides on transactions, and the plan shows them
3:1 `START` START cannot be in a migration
  help: remove it: pgshift decides on transactions, and the plan shows them
4:1 `SAVEPOINT` SAVEPOINT cannot be in a migration
  help: remove it: pgshift decides on transactions, and the plan shows them
5:1 `PREPARE` PREPARE cannot be in a migration
  help: remove it: pgshift decides on transactions, and the plan shows them
6:1 `SET lock_timeout = '1s'` SET of the session cannot be in a migration
  help: write `-- pgshift: option lock_timeout=2s` at the top of the file
7:1 `SET LOCAL search_path TO app` SET of the session cannot be in a migration
  help: write names with their schema: `app.orders`
8:1 `SET SESSION AUTHORIZATION joe` SET of the session cannot be in a migration
  help: connect as the role that is to run the migration
9:1 `RESET ALL` RESET of the session cannot be in a migration
  help: remove it: pgshift makes the settings of its sessions, and the plan shows them
10:1 `DISCARD ALL` DISCARD of the session cannot be in a migration
  help: remove it: pgshift makes the settings of its sessions, and the plan shows them
11:1 `COMMIT` COMMIT cannot be in a migration
  help: remove it: pgshift decides on transactions, and the plan shows them
"#);
}

#[test]
fn tells_all_that_can_be_told() {
    insta::assert_snapshot!(errors("\\set x 1\n-- pgshift: expnad\nBEGIN;\nSELECT (1;\n-- pgshift: nonsense\n'"), @r#"
1:1 `\set` `\set` is a command of psql, not SQL
  help: remove the line; a migration file holds SQL only
2:13 `expnad` unknown directive `expnad`
  help: did you mean `expand`?
3:1 `BEGIN` BEGIN cannot be in a migration
  help: remove it: pgshift decides on transactions, and the plan shows them
6:1 `'` this string is not closed
  help: close it with `'`; a quote inside is written twice: `''`
"#);
    insta::assert_snapshot!(errors("-- pgshift: expand\nCOPY t FROM stdin;\n1\t-- pgshift: what\n\\.\n"), @r#"
2:1 `COPY t FROM stdin` COPY with data in the script is for psql, it is not SQL
  help: write the rows as INSERT statements
"#);
}

#[test]
fn bytes() {
    let with_bom = [b"\xEF\xBB\xBF".as_slice(), EXAMPLE.as_bytes()].concat();
    let crlf = EXAMPLE.replace('\n', "\r\n");
    let plain = parse_bytes("a", "a.sql", EXAMPLE.as_bytes()).expect("parses");
    let bom = parse_bytes("a", "a.sql", &with_bom).expect("parses");
    let crlf = parse_bytes("a", "a.sql", crlf.as_bytes()).expect("parses");
    assert_eq!(bom, plain);
    assert_eq!(crlf.checksum, plain.checksum);
    assert_eq!(
        crlf.sections[3].statements[1].sql,
        plain.sections[3].statements[1].sql
    );
    assert_eq!(
        checksum("abc"),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );

    let error = |bytes: &[u8]| {
        let e = parse_bytes("a", "a.sql", bytes).expect_err("fails");
        assert!(e.what_next().is_some() || e.places().is_some());
        e.to_string()
    };
    insta::assert_snapshot!(error(b"SELECT 1;\nSELECT '\xE4';"), @"a.sql is not UTF-8: byte 0xE4 at offset 18, line 2");
    insta::assert_snapshot!(error(b"\xFF\xFES\0"), @"a.sql is UTF-16, not UTF-8: byte 0xFF at offset 0, line 1");
    insta::assert_snapshot!(error(b"SELECT '\0';"), @"a zero byte cannot be in SQL");
    insta::assert_snapshot!(error(b""), @"this migration has no statement");
}

#[test]
fn ids() {
    for good in ["1", "20261123_orders.total-cents", "_x", &"x".repeat(200)] {
        assert!(check_id(good).is_ok(), "{good}");
    }
    let error = |id: &str| check_id(id).expect_err("fails").to_string();
    insta::assert_snapshot!(error(""), @"the file name `` cannot be a migration's id: it is empty");
    insta::assert_snapshot!(error("a b"), @"the file name `a b` cannot be a migration's id: ` ` cannot be in it");
    insta::assert_snapshot!(error("größe"), @"the file name `größe` cannot be a migration's id: `ö` cannot be in it");
    insta::assert_snapshot!(error("-x"), @"the file name `-x` cannot be a migration's id: it begins with `-` or `.`");
    assert!(error(&"x".repeat(201)).contains("201 bytes"));
    assert!(parse("a b", Source::new("a b.sql", "SELECT 1")).is_err());
}

/// Lines that make up files, good and bad.
fn lines() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("-- pgshift: expand".to_owned()),
        Just("-- pgshift: backfill batch=1".to_owned()),
        Just("-- pgshift: reverse".to_owned()),
        Just("-- pgshift: verify".to_owned()),
        Just("-- pgshift: contract".to_owned()),
        Just("-- pgshift: revert".to_owned()),
        Just("-- pgshift: allow x reason=\"y\"".to_owned()),
        Just("-- pgshift: option lock_timeout=1s".to_owned()),
        "-- pgshift:[ a-z=\"é]{0,12}",
        Just("UPDATE t SET a = 1;".to_owned()),
        Just("SELECT ';é'; DELETE FROM t".to_owned()),
        Just(";".to_owned()),
        "[a-z'\"$();/*é-]{0,6}",
    ];
    proptest::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn any_file_is_read_or_refused_with_places(text in lines()) {
        match read(&text) {
            Ok(migration) => {
                prop_assert!(migration.sections.iter().all(|s| !s.statements.is_empty()));
                for statement in migration.sections.iter().flat_map(|s| &s.statements) {
                    prop_assert_eq!(statement.span.of(&text), &statement.sql);
                    prop_assert!(!statement.sql.contains("-- pgshift:") || text.contains(['\'', '"', '$', '/']));
                }
            }
            Err(diagnostics) => {
                prop_assert!(!diagnostics.is_empty());
                // Spans are places of the text, and every error says what to do.
                let _ = render(&text, &diagnostics);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = parse_bytes("a", "a.sql", &bytes);
    }

    #[test]
    fn what_is_written_is_read(
        statements in proptest::collection::vec("[a-z]{1,8}( '[;é]{0,3}')?", 1..6),
    ) {
        let text = format!("-- pgshift: expand\n{};\n", statements.join(" ;\n-- x\n"));
        let migration = read(&text);
        prop_assume!(migration.is_ok());
        let migration = migration.expect("is ok");
        let found: Vec<&str> =
            migration.sections[0].statements.iter().map(|s| s.sql.as_str()).collect();
        prop_assert_eq!(found, statements);
    }
}
