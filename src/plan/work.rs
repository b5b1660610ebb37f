//! How much a statement does while it holds its locks.
//!
//! Sources: PostgreSQL documentation, ALTER TABLE ("Notes" on what rewrites and what scans), and
//! where it is silent `tablecmds.c`. The same in 14 to 18 unless said.

use super::forms::{proven_not_null, table};
use crate::catalog::{Catalog, Column, ConstraintKind, Table};
use crate::sql::RelName;
use crate::sql::ddl::{Action, AlterOpKind, ColumnDef, ConstraintDef, Generated};
use crate::sql::lex::{TokenKind, ident_value, is_keyword, lex_code};

/// What takes time proportional to the table, lightest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Work {
    /// Only the catalogs are changed.
    None,
    /// Every row is read.
    Scan,
    /// An index is built.
    IndexBuild,
    /// Every row is written anew, and every index built; or what is done is not known.
    Rewrite,
}

/// What the statement does to existing tables while it holds its locks, the heaviest of its
/// sub-commands. What is not recognised is [`Work::Rewrite`].
pub fn rewrites_or_scans(action: &Action, catalog: &Catalog) -> Work {
    match action {
        Action::AlterTable { name, ops, .. } => {
            let table = table(catalog, name);
            ops.iter()
                .map(|op| op_work(&op.kind, table, catalog))
                .max()
                .unwrap_or(Work::None)
        }
        Action::CreateIndex { .. } | Action::Reindex { .. } => Work::IndexBuild,
        Action::AlterDomain { scans: true, .. } => Work::Scan,
        Action::Vacuum { full: true, .. }
        | Action::Cluster { .. }
        | Action::Refresh { .. }
        | Action::Do
        | Action::Call
        | Action::Opaque { .. } => Work::Rewrite,
        Action::Select { functions } if !functions.is_empty() => Work::Rewrite,
        _ => Work::None,
    }
}

/// What a sub-command of ALTER TABLE does to its table; `None` for a table that the catalog does
/// not have.
pub(crate) fn op_work(op: &AlterOpKind, table: Option<&Table>, catalog: &Catalog) -> Work {
    match op {
        AlterOpKind::AddColumn(column) => add_column(column, table),
        AlterOpKind::SetNotNull { column } => not_null(table, column),
        AlterOpKind::SetType {
            column,
            type_text,
            using,
            collate,
        } => {
            let Some(old) = table.and_then(|t| t.column(column)) else {
                return Work::Rewrite;
            };
            if *collate || !converts_in_place(old, type_text, using.as_deref()) {
                return Work::Rewrite;
            }
            // The CHECKs of the column are made anew, and so checked.
            let checked = table.is_some_and(|t| {
                t.constraints
                    .iter()
                    .any(|c| c.kind == ConstraintKind::Check && c.columns.contains(column))
            });
            if checked { Work::Scan } else { Work::None }
        }
        AlterOpKind::AddConstraint(constraint) => add_constraint(constraint, table),
        AlterOpKind::ValidateConstraint { name } => {
            let validated = table
                .and_then(|t| t.constraint(name))
                .is_some_and(|c| c.validated);
            if validated { Work::None } else { Work::Scan }
        }
        AlterOpKind::AttachPartition { partition, .. } => attach(partition, catalog),
        AlterOpKind::SetExpression { .. }
        | AlterOpKind::SetTablespace
        | AlterOpKind::SetAccessMethod
        | AlterOpKind::SetLogged { .. }
        | AlterOpKind::Other { .. } => Work::Rewrite,
        _ => Work::None,
    }
}

/// ATTACH PARTITION reads the table that it attaches unless a valid CHECK implies the bound.
/// Whether one does is the server's to prove; here any valid CHECK is taken to.
fn attach(partition: &RelName, catalog: &Catalog) -> Work {
    let proven = table(catalog, partition).is_some_and(|t| {
        t.rows == 0
            || t.constraints
                .iter()
                .any(|c| c.kind == ConstraintKind::Check && c.validated)
    });
    if proven { Work::None } else { Work::Scan }
}

fn not_null(table: Option<&Table>, column: &str) -> Work {
    if table.is_some_and(|t| proven_not_null(t, column)) {
        Work::None
    } else {
        Work::Scan
    }
}

fn add_column(column: &ColumnDef, table: Option<&Table>) -> Work {
    if column.if_not_exists && table.is_some_and(|t| t.column(&column.name).is_some()) {
        return Work::None;
    }
    let stored = matches!(column.generated, Some((Generated::Stored, _)));
    let default = column.default.as_deref();
    if stored
        || column.identity
        || column.is_serial()
        || default.is_some_and(|d| volatility(d) != Volatility::Safe)
    {
        return Work::Rewrite;
    }
    if column.has(ConstraintKind::Unique) || column.has(ConstraintKind::PrimaryKey) {
        return Work::IndexBuild;
    }
    // A foreign key of a column that is null in every row is not checked.
    let checks = column.has(ConstraintKind::Check)
        || column.has(ConstraintKind::ForeignKey) && default.is_some()
        || column.not_null && default.is_none() && column.generated.is_none();
    if checks { Work::Scan } else { Work::None }
}

fn add_constraint(constraint: &ConstraintDef, table: Option<&Table>) -> Work {
    if constraint.not_valid || constraint.not_enforced {
        return Work::None;
    }
    match (constraint.kind, &constraint.using_index) {
        (ConstraintKind::PrimaryKey, Some(index)) => {
            // Its columns become NOT NULL.
            let proven = table.is_some_and(|t| {
                t.index(index)
                    .is_some_and(|i| i.columns.iter().all(|c| proven_not_null(t, c)))
            });
            if proven { Work::None } else { Work::Scan }
        }
        (ConstraintKind::Unique, Some(_)) => Work::None,
        (ConstraintKind::NotNull, _) => constraint
            .columns
            .first()
            .map_or(Work::Scan, |column| not_null(table, column)),
        (ConstraintKind::Check | ConstraintKind::ForeignKey, _) => Work::Scan,
        _ => Work::IndexBuild,
    }
}

/// Whether an expression may give another value for every row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Volatility {
    /// Constants, casts, and functions that are known to be stable or immutable.
    Safe,
    /// Calls this function, which is known to be volatile.
    Volatile(String),
    /// Calls this function, which is not known.
    Unknown(String),
}

/// Functions of PostgreSQL, and of the extensions that come with it, that are volatile and seen
/// in defaults.
const VOLATILE: &[&str] = &[
    "clock_timestamp",
    "currval",
    "gen_random_bytes",
    "gen_random_uuid",
    "gen_salt",
    "lastval",
    "nextval",
    "random",
    "random_normal",
    "setval",
    "timeofday",
    "uuid_generate_v1",
    "uuid_generate_v1mc",
    "uuid_generate_v4",
    "uuidv4",
    "uuidv7",
];

/// Functions of PostgreSQL that are not volatile and seen in defaults, and words that may stand
/// before a parenthesis without being a call.
const SAFE: &str = "\
    abs age and array array_append array_fill ascii any all between btrim case cast ceil \
    char_length chr coalesce concat concat_ws convert_from convert_to current_database \
    current_date current_schema current_setting current_time current_timestamp current_user \
    date date_part date_trunc daterange decode distinct else encode end extract floor format from \
    greatest hashtext hstore in initcap int4range int8range interval is json_array \
    json_build_array json_build_object json_object jsonb_build_array jsonb_build_object \
    jsonb_object least left length localtime localtimestamp lower lpad ltrim make_date \
    make_interval make_time make_timestamp make_timestamptz md5 mod not now nullif numrange \
    octet_length or point power quote_ident quote_literal regexp_replace repeat replace reverse \
    right round row rpad rtrim session_user sha224 sha256 sha384 sha512 split_part sqrt \
    statement_timestamp string_to_array substr substring symmetric then timezone to_char to_date \
    to_hex to_json to_jsonb to_number to_timestamp to_tsvector transaction_timestamp translate \
    trim trunc tsrange tstzrange txid_current upper uuid_generate_v3 uuid_generate_v5 uuid_nil \
    when xmlelement";

/// Judges an expression by the functions that it calls. An unknown function is not taken for
/// safe: one of PL/pgSQL is volatile unless it says otherwise.
pub fn volatility(expression: &str) -> Volatility {
    let tokens = lex_code(expression);
    let mut unknown = None;
    for (i, pair) in tokens.windows(2).enumerate() {
        let [token, next] = pair else { continue };
        if next.kind != TokenKind::LParen {
            continue;
        }
        let Some(name) = ident_value(*token, expression) else {
            continue;
        };
        // `x::numeric(10, 2)` and `CAST(x AS numeric(10, 2))` name types; so does the schema
        // before a type.
        let mut before = i;
        while before >= 2 && tokens[before - 1].kind == TokenKind::Dot {
            before -= 2;
        }
        let is_type = before.checked_sub(1).is_some_and(|b| {
            tokens[b].text(expression) == "::" || is_keyword(tokens[b], expression, "as")
        });
        if is_type || SAFE.split_ascii_whitespace().any(|safe| safe == name) {
            continue;
        }
        if VOLATILE.contains(&name.as_str()) {
            return Volatility::Volatile(name);
        }
        // `timestamp(3) with time zone '…'`, `varchar(3) '…'`: a constant with its type.
        if is_builtin_type(&name) {
            continue;
        }
        unknown = unknown.or(Some(name));
    }
    unknown.map_or(Volatility::Safe, Volatility::Unknown)
}

/// Names of types that take a modifier or are used like a function.
fn is_builtin_type(name: &str) -> bool {
    matches!(
        base_type(name),
        "bit"
            | "bpchar"
            | "char"
            | "character"
            | "numeric"
            | "time"
            | "timestamp"
            | "timestamptz"
            | "timetz"
            | "varbit"
            | "varchar"
            | "bool"
            | "boolean"
            | "bytea"
            | "float4"
            | "float8"
            | "bigint"
            | "integer"
            | "smallint"
            | "text"
            | "uuid"
            | "json"
            | "jsonb"
            | "varying"
    )
}

/// A type as its name, modifiers and whether it is an array.
#[derive(Debug, PartialEq, Eq)]
struct TypeParts {
    name: String,
    modifiers: Option<Vec<u32>>,
    array: bool,
}

/// The usual name of a type that has several.
fn base_type(name: &str) -> &str {
    match name {
        "varchar" | "character varying" | "char varying" => "varchar",
        "char" | "character" | "bpchar" => "bpchar",
        "decimal" | "numeric" | "dec" => "numeric",
        "int" | "int4" | "integer" => "integer",
        "int8" | "bigint" => "bigint",
        "int2" | "smallint" => "smallint",
        "bool" | "boolean" => "boolean",
        "timestamptz" | "timestamp with time zone" => "timestamptz",
        "timestamp" | "timestamp without time zone" => "timestamp",
        "timetz" | "time with time zone" => "timetz",
        "time" | "time without time zone" => "time",
        "varbit" | "bit varying" => "varbit",
        "float8" | "double precision" | "float" => "float8",
        "float4" | "real" => "float4",
        other => other,
    }
}

/// Reads `timestamp(3) with time zone` as `timestamptz` with 3. `pg_catalog.` is left out.
fn type_parts(text: &str) -> Option<TypeParts> {
    let tokens = lex_code(text);
    let mut words: Vec<String> = Vec::new();
    let mut modifiers = None;
    let mut array = false;
    let mut i = 0;
    while let Some(&token) = tokens.get(i) {
        match token.kind {
            TokenKind::Word | TokenKind::QuotedIdent => {
                let word = ident_value(token, text)?;
                if word == "pg_catalog" && tokens.get(i + 1)?.kind == TokenKind::Dot {
                    i += 2;
                    continue;
                }
                array |= word == "array";
                words.push(word);
            }
            TokenKind::LParen => {
                let mut numbers = Vec::new();
                loop {
                    i += 1;
                    let token = tokens.get(i)?;
                    match token.kind {
                        TokenKind::RParen => break,
                        TokenKind::Comma => {}
                        TokenKind::Number => numbers.push(token.text(text).parse().ok()?),
                        _ => return None,
                    }
                }
                modifiers = Some(numbers);
            }
            TokenKind::LBracket => array = true,
            TokenKind::RBracket | TokenKind::Number => {}
            TokenKind::Dot => {
                let schema = words.pop()?;
                i += 1;
                words.push(format!("{schema}.{}", ident_value(*tokens.get(i)?, text)?));
            }
            _ => return None,
        }
        i += 1;
    }
    let joined = words.join(" ");
    Some(TypeParts {
        name: base_type(&joined).to_owned(),
        modifiers,
        array,
    })
}

/// True where ALTER COLUMN … TYPE changes only the catalog: the types are binary coercible and no
/// value can be cut (varchar to longer or text, numeric to more digits of the same scale, a
/// greater precision of times, varbit to longer, cidr to inet), and USING only names the column.
pub(crate) fn converts_in_place(old: &Column, new: &str, using: Option<&str>) -> bool {
    let (Some(from), Some(to)) = (type_parts(&old.type_name), type_parts(new)) else {
        return false;
    };
    if using.is_some_and(|using| !names_only(using, &old.name, &to)) {
        return false;
    }
    if from == to {
        return true;
    }
    if from.array || to.array {
        return false;
    }
    let first = |parts: &TypeParts| parts.modifiers.as_ref().and_then(|m| m.first().copied());
    let no_shorter = || match (first(&from), first(&to)) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(from), Some(to)) => from <= to,
    };
    match (from.name.as_str(), to.name.as_str()) {
        ("text", "varchar") => to.modifiers.is_none(),
        ("varchar", "text") | ("cidr", "inet") | ("xml", "text") => true,
        ("varchar", "varchar") | ("varbit", "varbit") => no_shorter(),
        ("numeric", "numeric") => match (&from.modifiers, &to.modifiers) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(from), Some(to)) => {
                let scale = |m: &[u32]| m.get(1).copied().unwrap_or(0);
                from.first() <= to.first() && scale(from) == scale(to)
            }
        },
        ("timestamp", "timestamp")
        | ("timestamptz", "timestamptz")
        | ("time", "time")
        | ("timetz", "timetz")
        | ("interval", "interval") => {
            // No modifier means 6.
            first(&from).unwrap_or(6) <= first(&to).unwrap_or(6)
        }
        _ => false,
    }
}

/// The expression is the column, at most with a cast to the new type, which says nothing more.
fn names_only(expression: &str, column: &str, new: &TypeParts) -> bool {
    let tokens = lex_code(expression);
    let Some(first) = tokens.first() else {
        return false;
    };
    ident_value(*first, expression).is_some_and(|name| name == column)
        && match tokens.get(1) {
            None => true,
            Some(cast) => {
                cast.text(expression) == "::"
                    && type_parts(&expression[cast.span.end..]).as_ref() == Some(new)
            }
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{catalog, column};
    use crate::sql::ddl::understand;

    #[test]
    fn volatility_is_judged_by_the_functions() {
        for safe in [
            "0",
            "'x'::app.mood",
            "now() + interval '1 day'",
            "CURRENT_TIMESTAMP(3)",
            "(now() at time zone 'utc')",
            "1.5::numeric(10, 2)",
            "CAST('1' AS pg_catalog.numeric(10,2))",
            "ARRAY[]::text[]",
            "'random()'",
            "timestamp(3) '2020-01-01'",
            "'{}'::jsonb -- random()",
        ] {
            assert_eq!(volatility(safe), Volatility::Safe, "{safe}");
        }
        assert_eq!(
            volatility("lower(md5(random()::text))"),
            Volatility::Volatile("random".into())
        );
        assert_eq!(
            volatility("public.uuid_generate_v4()"),
            Volatility::Volatile("uuid_generate_v4".into())
        );
        assert_eq!(
            volatility("app.next_code(1)"),
            Volatility::Unknown("next_code".into())
        );
        assert_eq!(
            volatility("f(1) + random()"),
            Volatility::Volatile("random".into())
        );
    }

    #[test]
    fn types_that_convert_in_place() {
        for (from, to, in_place) in [
            ("character varying(10)", "varchar(20)", true),
            ("character varying(10)", "varchar(5)", false),
            ("character varying(10)", "text", true),
            ("text", "varchar", true),
            ("text", "varchar(10)", false),
            ("character(3)", "text", false),
            ("integer", "bigint", false),
            ("integer", "int4", true),
            ("numeric(10,2)", "numeric(12, 2)", true),
            ("numeric(10,2)", "numeric", true),
            ("numeric(10,2)", "numeric(12,3)", false),
            ("timestamp(3) with time zone", "timestamptz", true),
            (
                "timestamp with time zone",
                "timestamp(3) with time zone",
                false,
            ),
            ("timestamp without time zone", "timestamptz", false),
            ("text[]", "varchar[]", false),
            ("text", "TEXT", true),
            ("app.mood", "app.mood", true),
            ("cidr", "inet", true),
        ] {
            let old = column("a", from);
            assert_eq!(
                converts_in_place(&old, to, None),
                in_place,
                "{from} to {to}"
            );
        }
        let old = column("a", "character varying(10)");
        assert!(converts_in_place(&old, "text", Some("a::text")));
        assert!(converts_in_place(&old, "text", Some("a")));
        assert!(!converts_in_place(&old, "text", Some("a::varchar(3)")));
        assert!(!converts_in_place(&old, "text", Some("b")));
        assert!(!converts_in_place(&old, "text", Some("a || 'x'")));
        assert!(!converts_in_place(&old, "text", Some("lower(a)")));
    }

    #[test]
    fn work_of_statements() {
        let catalog = catalog(15);
        for (text, work) in [
            ("ALTER TABLE orders ADD COLUMN n text", Work::None),
            (
                "ALTER TABLE orders ADD COLUMN n int NOT NULL DEFAULT 0",
                Work::None,
            ),
            ("ALTER TABLE orders ADD COLUMN n int NOT NULL", Work::Scan),
            (
                "ALTER TABLE orders ADD COLUMN n uuid DEFAULT gen_random_uuid()",
                Work::Rewrite,
            ),
            (
                "ALTER TABLE orders ADD COLUMN n int DEFAULT app.f()",
                Work::Rewrite,
            ),
            ("ALTER TABLE orders ADD COLUMN n bigserial", Work::Rewrite),
            (
                "ALTER TABLE orders ADD COLUMN n int GENERATED ALWAYS AS IDENTITY",
                Work::Rewrite,
            ),
            (
                "ALTER TABLE orders ADD COLUMN n int GENERATED ALWAYS AS (1) STORED",
                Work::Rewrite,
            ),
            (
                "ALTER TABLE orders ADD COLUMN n int GENERATED ALWAYS AS (1) VIRTUAL",
                Work::None,
            ),
            (
                "ALTER TABLE orders ADD COLUMN n int REFERENCES users",
                Work::None,
            ),
            (
                "ALTER TABLE orders ADD COLUMN n int DEFAULT 1 REFERENCES users",
                Work::Scan,
            ),
            (
                "ALTER TABLE orders ADD COLUMN n int CHECK (n > 0)",
                Work::Scan,
            ),
            (
                "ALTER TABLE orders ADD COLUMN n int UNIQUE",
                Work::IndexBuild,
            ),
            (
                "ALTER TABLE orders ADD COLUMN IF NOT EXISTS total bigserial",
                Work::None,
            ),
            ("ALTER TABLE orders ALTER total SET NOT NULL", Work::Scan),
            ("ALTER TABLE orders ALTER user_id SET NOT NULL", Work::None),
            ("ALTER TABLE orders ALTER email SET NOT NULL", Work::None),
            ("ALTER TABLE orders ALTER email TYPE text", Work::Scan),
            ("ALTER TABLE orders ALTER note TYPE text", Work::None),
            ("ALTER TABLE orders ALTER id TYPE numeric", Work::Rewrite),
            ("ALTER TABLE orders ADD CHECK (total > 0)", Work::Scan),
            (
                "ALTER TABLE orders ADD CHECK (total > 0) NOT VALID",
                Work::None,
            ),
            ("ALTER TABLE orders ADD UNIQUE (total)", Work::IndexBuild),
            (
                "ALTER TABLE orders ADD CONSTRAINT u UNIQUE USING INDEX orders_email_idx",
                Work::None,
            ),
            (
                "ALTER TABLE orders ADD PRIMARY KEY USING INDEX orders_total_idx",
                Work::Scan,
            ),
            (
                "ALTER TABLE orders VALIDATE CONSTRAINT orders_total_check",
                Work::Scan,
            ),
            (
                "ALTER TABLE orders VALIDATE CONSTRAINT orders_email_check",
                Work::None,
            ),
            (
                "ALTER TABLE orders DROP COLUMN total, SET UNLOGGED",
                Work::Rewrite,
            ),
            ("ALTER TABLE orders FROBNICATE", Work::Rewrite),
            (
                "ALTER TABLE orders ALTER total SET STATISTICS 100",
                Work::None,
            ),
            ("CREATE INDEX i ON orders (total)", Work::IndexBuild),
            ("FROBNICATE orders", Work::Rewrite),
            ("VACUUM FULL orders", Work::Rewrite),
            ("VACUUM orders", Work::None),
            ("DROP TABLE orders", Work::None),
        ] {
            assert_eq!(
                rewrites_or_scans(&understand(text), &catalog),
                work,
                "{text}"
            );
        }
    }
}
