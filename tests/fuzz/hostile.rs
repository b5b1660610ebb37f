//! Files that nobody would write, made of what breaks parsers.

use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Pieces with a meaning of their own: openings without ends, ends without openings, and what
/// PostgreSQL reads in its own way.
const PIECES: &[&str] = &[
    "'",
    "''",
    "E'",
    "e'\\'",
    "\\'",
    "U&'\\",
    "N'",
    "B'",
    "X'",
    "\"",
    "\"\"",
    "U&\"",
    "U&\"\\0061\"",
    "U&\"\\+00006\"",
    " UESCAPE '!'",
    "$$",
    "$a$",
    "$é$",
    "$1",
    "$",
    "$pgshift$",
    "$function$",
    "/*",
    "*/",
    "/*/",
    "--",
    "-- ",
    "\n",
    "\r\n",
    "\r",
    "\t",
    "\u{b}",
    "\u{c}",
    "\0",
    "\u{feff}",
    "\u{a0}",
    "\u{2028}",
    "\u{202e}",
    "\u{1b}[2J",
    "é",
    "🦀",
    "e\u{301}",
    ";",
    ";;",
    "(",
    ")",
    "[",
    "]",
    "((((",
    "))))",
    ",",
    ".",
    "..",
    "::",
    ":=",
    ":",
    ":x",
    ":'x'",
    "${x}",
    "{{ x }}",
    "%s",
    "?",
    "\\",
    "\\i x",
    "\\set a b",
    "\\.",
    "\\gexec",
    "1e",
    "0x",
    "0b2",
    "1_",
    "1..2",
    ".5",
    "@>",
    "+-",
    "<>-",
    "->>",
    " AND ",
    " OR ",
    " BETWEEN 1 AND 2",
    " CASE WHEN a THEN ",
    " END",
    " BEGIN ATOMIC ",
    " IS DISTINCT FROM ",
    " FROM ",
    " WHERE ",
    " SET ",
    " a = ",
    " AS ",
    " USING ",
    " RETURNING *",
    "-- pgshift: expand\n",
    "-- pgshift: backfill\n",
    "-- pgshift: backfill batch=1 workers=2 sync=off\n",
    "-- pgshift: reverse\n",
    "-- pgshift: verify\n",
    "-- pgshift: contract\n",
    "-- pgshift: revert\n",
    "-- pgshift: option lock_timeout=2s\n",
    "-- pgshift: option max-lag=\"1m 30s\"\n",
    "-- pgshift: option lock_timeout=\"",
    "-- pgshift: allow drop-column reason=\"x\"\n",
    "-- pgshift: allow x reason=\"a \"\" b",
    "-- pgshift:",
    "-- pgshift expand\n",
    "--pgshift:expand\n",
    "/* pgshift: expand */",
    "-- +goose Up\n",
    "-- +goose StatementBegin\n",
    "-- +goose Down\n",
    "-- migrate:up\n",
    "-- no-transaction\n",
    "UPDATE ",
    "UPDATE orders SET total_cents = ",
    "UPDATE ONLY (orders) AS \"o\" SET note = ",
    "DELETE FROM ",
    "DELETE FROM orders WHERE ",
    "SELECT ",
    "INSERT INTO orders SELECT ",
    "ALTER TABLE orders ",
    "ALTER TABLE IF EXISTS ONLY \"public\".orders ",
    "ADD COLUMN c ",
    "bigint NOT NULL DEFAULT ",
    "GENERATED ALWAYS AS (id) STORED",
    "DROP COLUMN total, ",
    "ALTER COLUMN id TYPE bigint USING ",
    "ALTER id SET NOT NULL",
    "ADD CONSTRAINT c CHECK (",
    "ADD FOREIGN KEY (id) REFERENCES users",
    "RENAME COLUMN total TO ",
    "RENAME TO ",
    "VALIDATE CONSTRAINT ",
    "ATTACH PARTITION p FOR VALUES FROM (1) TO (2)",
    "CREATE TABLE t (id int PRIMARY KEY, ",
    "CREATE TABLE p PARTITION OF orders FOR VALUES IN (1)",
    "CREATE UNIQUE INDEX ON orders (",
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON orders USING gin (id) WHERE ",
    "DROP INDEX ",
    "DROP TABLE orders CASCADE",
    "REINDEX TABLE orders",
    "VACUUM FULL orders",
    "TRUNCATE orders",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; END",
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DROP TABLE orders'; END $$",
    "DO $$ BEGIN ",
    "CREATE TRIGGER t BEFORE INSERT ON orders EXECUTE FUNCTION f('",
    "GRANT ALL ON orders TO ",
    "CREATE RULE r AS ON INSERT TO orders DO (DELETE FROM users; ",
    "COPY orders FROM STDIN;\n1\t2\n\\.\n",
    "COMMENT ON COLUMN orders.id IS ",
    "CREATE VIEW v AS SELECT ",
    "CREATE TYPE e AS ENUM ('a')",
    "ALTER TYPE e ADD VALUE 'b'",
    "CREATE DOMAIN d AS int CHECK (",
    "SET search_path = ",
    "BEGIN",
    "COMMIT",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO x",
    "CREATE POLICY p ON orders USING (",
    "CREATE SCHEMA s CREATE TABLE t (id int)",
    "WITH x AS (",
    "VALUES (1)",
    "NULL",
    "true",
    "42",
    "orders",
    "\"orders\"",
    "public.orders",
    "users.name",
    "id",
    "total",
    "note",
    "coalesce(",
    "now()",
];

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => select(PIECES).prop_map(|p| p.as_bytes().to_vec()),
        2 => "[a-zA-Z0-9_ ]{1,6}".prop_map(String::into_bytes),
        2 => Just(b" ".to_vec()),
        2 => Just(b";\n".to_vec()),
        1 => "\\PC{1,3}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 1..3),
        1 => (select(&["(", "[", "/*", "CASE ", "SELECT (", "NOT ", "-", "$a$ $b$"][..]), 1..300_usize)
            .prop_map(|(p, n)| p.repeat(n).into_bytes()),
    ]
}

/// A file of pieces.
pub(crate) fn file() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        8 => Just(Vec::new()),
        1 => Just("\u{feff}".as_bytes().to_vec()),
        1 => Just(vec![0xFF, 0xFE]),
        4 => Just(b"-- pgshift: expand\n".to_vec()),
    ];
    (start, vec(piece(), 0..40)).prop_map(|(start, parts)| [start, parts.concat()].concat())
}

/// What happens to a text.
#[derive(Debug, Clone)]
enum Damage {
    Cut(Index),
    Delete(Index, usize),
    Insert(Index, Vec<u8>),
    Double(Index, Index),
    Crlf,
    Bom,
}

/// Real files with damage.
pub(crate) fn damaged(texts: Vec<String>) -> impl Strategy<Value = Vec<u8>> {
    let damage = prop_oneof![
        2 => any::<Index>().prop_map(Damage::Cut),
        4 => (any::<Index>(), 1..9_usize).prop_map(|(at, n)| Damage::Delete(at, n)),
        8 => (any::<Index>(), piece()).prop_map(|(at, p)| Damage::Insert(at, p)),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Damage::Double(a, b)),
        1 => Just(Damage::Crlf),
        1 => Just(Damage::Bom),
    ];
    (select(texts), vec(damage, 1..5))
        .prop_map(|(text, all)| all.into_iter().fold(text.into_bytes(), apply))
}

fn apply(mut text: Vec<u8>, damage: Damage) -> Vec<u8> {
    let size = text.len() + 1;
    match damage {
        Damage::Cut(at) => text.truncate(at.index(size)),
        Damage::Delete(at, n) => {
            let at = at.index(size);
            text.drain(at..(at + n).min(text.len()));
        }
        Damage::Insert(at, piece) => {
            let at = at.index(size);
            text.splice(at..at, piece);
        }
        Damage::Double(a, b) => {
            let (a, b) = (a.index(size), b.index(size));
            let part = text[a.min(b)..a.max(b)].to_vec();
            text.splice(a..a, part);
        }
        Damage::Crlf => {
            text = String::from_utf8_lossy(&text)
                .replace('\n', "\r\n")
                .into_bytes();
        }
        Damage::Bom => {
            text.splice(0..0, "\u{feff}".bytes());
        }
    }
    text
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations-examples");
    let mut all: Vec<PathBuf> = std::fs::read_dir(root)
        .expect("migrations-examples/")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .collect();
    all.sort();
    all
}

/// The migrations of the examples.
pub(crate) fn examples() -> Vec<String> {
    folders()
        .iter()
        .flat_map(|f| std::fs::read_dir(f.join("migrations")).expect("migrations/"))
        .map(|entry| read(&entry.expect("an entry").path()))
        .collect()
}

/// The schemas of the examples.
pub(crate) fn setups() -> Vec<String> {
    folders()
        .iter()
        .map(|f| read(&f.join("setup.sql")))
        .collect()
}

/// Files of about so many bytes of one shape each.
pub(crate) fn large(bytes: usize) -> Vec<(String, String)> {
    // Before, repeated, between, repeated, after.
    let shapes: &[[&str; 5]] = &[
        ["", "(", "", "", ""],
        ["SELECT ", "(", "1", ")", ";"],
        ["SELECT ", "[", "", "]", ";"],
        ["SELECT ", "(", "", ":", ";"],
        ["SELECT ", "((:", "", "", ""],
        ["", "/*", "", "*/", "SELECT 1;"],
        ["", "/* ", "", "", ""],
        ["", "'a' ", "", "", ";"],
        ["SELECT E'a'", "\n'b'", "", "", ";"],
        ["SELECT U&\"a\"", " U&\"a\"", "", "", ";"],
        ["SELECT ", "U&\"a\" ", "--", "\n--", ";"],
        ["", "$a$", "", "$b$", ""],
        ["", "$a ", "", "", ""],
        ["", ";", "", "", ""],
        ["", "x;", "", "", ""],
        ["", "\\i x\n", "", "", ""],
        ["", "`", "", "", ""],
        ["", "SELECT 1;\n", "", "", ""],
        ["", "-- pgshift: nonsense\n", "", "", ""],
        [
            "",
            "-- pgshift: allow drop-column reason=\"x\"\n",
            "",
            "",
            "",
        ],
        ["", "-- pgshift: option a=b\n", "", "", "SELECT 1;"],
        ["-- pgshift: option ", "a=b ", "", "", "\nSELECT 1;"],
        [
            "-- pgshift: backfill\nUPDATE orders SET note = ",
            "(",
            "'x'",
            ")",
            ";",
        ],
        [
            "-- pgshift: backfill\nUPDATE orders SET note = ",
            "CASE WHEN true THEN ",
            "'x'",
            " END",
            ";",
        ],
        [
            "-- pgshift: backfill\nUPDATE orders SET note = ",
            "NOT ",
            "true",
            "",
            ";",
        ],
        [
            "-- pgshift: backfill\nUPDATE orders SET note = ",
            "- ",
            "1",
            "",
            ";",
        ],
        [
            "-- pgshift: backfill\nUPDATE orders SET note = 'x' WHERE true",
            " AND true",
            "",
            "",
            ";",
        ],
        [
            "-- pgshift: backfill\nUPDATE orders SET note = 'x' WHERE ",
            "a OR b AND ",
            "true",
            "",
            ";",
        ],
        [
            "-- pgshift: backfill\nUPDATE orders SET note = 'x'",
            ", b = 1",
            "",
            "",
            ";",
        ],
        [
            "-- pgshift: backfill\nUPDATE orders SET note = a",
            "::text",
            "",
            "",
            ";",
        ],
        [
            "-- pgshift: backfill\nUPDATE orders SET note = a",
            "[1]",
            "",
            "",
            ";",
        ],
        [
            "-- pgshift: backfill\nUPDATE orders SET note = ",
            "f(",
            "a",
            ")",
            ";",
        ],
        [
            "-- pgshift: backfill\nUPDATE orders SET note = ",
            "a || ",
            "a",
            "",
            ";",
        ],
        [
            "-- pgshift: backfill\nUPDATE orders SET note = ",
            "(SELECT ",
            "a",
            ")",
            ";",
        ],
        [
            "-- pgshift: backfill\nDELETE FROM orders WHERE ",
            "EXISTS (SELECT WHERE ",
            "a",
            ")",
            ";",
        ],
        ["-- pgshift: verify\n", "SELECT (", "1", ")", ";"],
        [
            "ALTER TABLE orders ",
            "ADD COLUMN a int, ",
            "ADD COLUMN b int",
            "",
            ";",
        ],
        ["ALTER TABLE orders ADD CHECK (", "(", "a", ")", ");"],
        [
            "ALTER TABLE orders ADD COLUMN c int DEFAULT ",
            "(",
            "1",
            ")",
            ";",
        ],
        [
            "ALTER TABLE orders ALTER id TYPE bigint USING ",
            "(",
            "id",
            ")",
            ";",
        ],
        ["", "ALTER TABLE orders ADD COLUMN a int;\n", "", "", ""],
        ["", "CREATE INDEX ON orders (id);\n", "", "", ""],
        ["CREATE TABLE t (", "a int, ", "b int", "", ");"],
        ["", "CREATE TABLE t (id int);\n", "", "", ""],
        ["", "DROP TABLE orders;\n", "", "", ""],
        ["DROP TABLE ", "a, ", "b", "", ";"],
        ["CREATE VIEW v AS ", "SELECT * FROM (", "SELECT 1", ")", ";"],
        ["CREATE VIEW v AS SELECT 1", " UNION SELECT 1", "", "", ";"],
        [
            "",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC ",
            "",
            "END ",
            ";",
        ],
        [
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT ",
            "CASE ",
            "1",
            " END",
            "; END;",
        ],
        [
            "DO $$ BEGIN ",
            "IF true THEN ",
            "NULL;",
            " END IF;",
            " END $$;",
        ],
        ["DO $$ BEGIN ", "BEGIN ", "NULL;", " END;", " END $$;"],
        [
            "DO $$ BEGIN ",
            "EXECUTE 'DROP TABLE orders';",
            "",
            "",
            " END $$;",
        ],
        [
            "DO $a$ BEGIN ",
            "EXECUTE $$DROP TABLE orders$$;",
            "",
            "",
            " END $a$;",
        ],
        [
            "CREATE RULE r AS ON INSERT TO orders DO (",
            "DELETE FROM users;",
            "",
            "",
            ");",
        ],
        ["GRANT SELECT ON ", "a, ", "b", "", " TO c;"],
        ["SELECT \"", "\"\"", "", "", "\";"],
        ["SELECT '", "''", "", "", "';"],
        ["SELECT E'", "\\'", "", "", "';"],
        ["SELECT ", "a.", "a", "", ";"],
        ["SELECT ", "+-", "1", "", ";"],
        ["SELECT ", "é", "", "", ";"],
        ["", "\r", "", "", "SELECT 1;"],
        [
            "WITH ",
            "a AS (SELECT 1), ",
            "b AS (SELECT 1)",
            "",
            " SELECT 1;",
        ],
        ["SELECT ", "1,", "1", "", ";"],
        [
            "",
            "-- +goose StatementBegin\n",
            "",
            "-- +goose StatementEnd\n",
            "",
        ],
        ["-- +goose Up\n", "SELECT 1;\n-- +goose Down\n", "", "", ""],
        ["", "SET lock_timeout = '1s';\n", "", "", ""],
        ["", "BEGIN;\n", "", "COMMIT;\n", ""],
        ["", "DO $$ BEGIN NULL; END $$;\n", "", "", ""],
        [
            "",
            "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM f(); END $$;\nSELECT f();\n",
            "",
            "",
            "",
        ],
    ];
    shapes
        .iter()
        .map(|[before, one, between, other, after]| {
            let n = bytes / (one.len() + other.len()).max(1);
            let text = format!(
                "{before}{}{between}{}{after}",
                one.repeat(n),
                other.repeat(n)
            );
            (format!("{before}{one}×{n}{between}{other}{after}"), text)
        })
        .collect()
}

/// Files of about so many bytes that nest without end, each in one statement.
pub(crate) fn deep(bytes: usize) -> Vec<(String, String)> {
    const UPDATE: &str = "-- pgshift: backfill\nUPDATE orders SET note = ";
    const OTHER: &str = "-- pgshift: contract\n";
    let shapes: &[[&str; 5]] = &[
        [UPDATE, "(", "'x'", ")", ";"],
        [UPDATE, "NOT ", "true", "", ";"],
        [UPDATE, "- ", "1", "", ";"],
        [UPDATE, "", "a", "::text", ";"],
        [UPDATE, "", "a", "[1]", ";"],
        [UPDATE, "a || ", "a", "", ";"],
        [UPDATE, "a OR ", "a", "", ";"],
        [UPDATE, "a AND ", "a", "", " ;"],
        [UPDATE, "", "a", " IS NULL", ";"],
        [UPDATE, "", "a", " COLLATE \"C\"", ";"],
        [UPDATE, "", "a", " AT TIME ZONE 'utc'", ";"],
        [UPDATE, "f(", "a", ")", ";"],
        [UPDATE, "CASE WHEN ", "a", " THEN 1 END", ";"],
        [UPDATE, "(SELECT ", "a", ")", ";"],
        [UPDATE, "", "(SELECT 1", " UNION SELECT 1", ");"],
        [UPDATE, "ARRAY[", "a", "]", ";"],
        [UPDATE, "ROW(", "a", ")", ";"],
        [UPDATE, "INTERVAL ", "'1'", "", ";"],
        ["-- pgshift: verify\n", "SELECT (", "1", ")", ";"],
        [OTHER, "/*", "", "*/", "SELECT 1;"],
        [
            "-- pgshift: backfill\nDELETE FROM orders WHERE ",
            "EXISTS (SELECT WHERE ",
            "a",
            ")",
            ";",
        ],
        [
            "-- pgshift: backfill\nUPDATE orders SET note = 1 FROM ",
            "(",
            "users",
            ")",
            ";",
        ],
        [
            "-- pgshift: backfill\nUPDATE orders SET note = 1 FROM ",
            "",
            "users",
            " JOIN users ON true",
            ";",
        ],
        [OTHER, "", "ALTER TABLE orders ADD CHECK (a", "(", ");"],
        [
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT ",
            "CASE ",
            "1",
            " END",
            "; END;",
        ],
    ];
    shapes
        .iter()
        .map(|[before, one, between, other, after]| {
            let n = bytes / (one.len() + other.len()).max(1);
            let text = format!(
                "{before}{}{between}{}{after}",
                one.repeat(n),
                other.repeat(n)
            );
            (format!("{before}{one}×{n}{between}{other}{after}"), text)
        })
        .collect()
}
