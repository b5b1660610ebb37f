//! Whether an expression may give another value for every row.

use super::types::base_type;
use crate::sql::lex::{TokenKind, ident_value, is_keyword, lex_code};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
