//! An expression for a value of a type, from the row's number `g`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Type, TypeKind};
use crate::sql::quote::literal;

/// A number from 0 to `below` - 1 that is always the same for a row and a `salt`.
pub(super) fn pick(salt: u32, below: u64) -> String {
    format!("abs(hashint8extended(g, {salt}) % {})", below.max(1))
}

/// One of several expressions, by row.
fn one_of(salt: u32, choices: &[String]) -> String {
    let mut text = format!("CASE {}", pick(salt, choices.len() as u64));
    for (n, choice) in choices.iter().enumerate() {
        let _ = write!(text, " WHEN {n} THEN {choice}");
    }
    text.push_str(" END");
    text
}

/// The value of a column; `None` where there is no generator for the type. Different rows get
/// different values where the type has enough. A column that is `judged` by conditions, which
/// mention these constants, gets values of several kinds.
pub(super) fn value(
    of: &Type,
    salt: u32,
    judged: bool,
    constants: &BTreeSet<String>,
) -> Option<String> {
    let plain = plain(of, salt, 0)?;
    if !judged {
        return Some(plain);
    }
    let choices = match of.name.as_str() {
        "text" | "varchar" | "bpchar" | "name" | "citext" => texts(of, constants, &plain),
        "int2" | "int4" | "int8" | "numeric" | "float4" | "float8" | "money" => {
            numbers(of, salt, constants, plain)
        }
        "date" | "timestamp" | "timestamptz" => times(of, salt, constants, plain),
        _ => vec![plain],
    };
    Some(if choices.len() == 1 {
        choices[0].clone()
    } else {
        one_of(salt + 1, &choices)
    })
}

/// Constants, and texts of the shapes that conditions on texts usually ask for.
fn texts(of: &Type, constants: &BTreeSet<String>, plain: &str) -> Vec<String> {
    let shapes = [
        "'user' || g || '@example.com'",
        "'https://example.com/' || g",
        "'+49301' || lpad(g::text, 7, '0')",
        "lpad((g % 100000)::text, 5, '0')",
        "'slug-' || g",
        "'name_' || g",
        "chr(65 + (g / 676 % 26)::int) || chr(65 + (g / 26 % 26)::int) || chr(65 + (g % 26)::int)",
        "chr(65 + (g / 26 % 26)::int) || chr(65 + (g % 26)::int)",
        "chr(97 + (g / 26 % 26)::int) || chr(97 + (g % 26)::int)",
        "md5(g::text)",
        "'#' || substr(md5(g::text), 1, 6)",
        "(g % 10)::text",
        "'A' || lpad(g::text, 8, '0')",
        "upper(substr(md5(g::text), 1, 8))",
    ];
    let strings = constants
        .iter()
        .map(|c| format!("CAST({} AS {})", literal(c), of.sql));
    std::iter::once(plain.to_owned())
        .chain(strings)
        .chain(shapes.iter().map(|s| format!("CAST({s} AS {})", of.sql)))
        .collect()
}

/// Around each constant, and small ones.
fn numbers(of: &Type, salt: u32, constants: &BTreeSet<String>, plain: String) -> Vec<String> {
    let cast = |e: String| format!("CAST({e} AS {})", of.sql);
    let mut all = vec![
        plain,
        cast(format!("1 + {}", pick(salt + 2, 10))),
        cast(format!("{} / 100.0", pick(salt + 3, 100))),
        cast(format!("1 + {}", pick(salt + 6, 1000))),
    ];
    for constant in constants {
        let Ok(number) = constant.parse::<f64>() else {
            continue;
        };
        // Beyond these the types themselves end.
        let most = match of.name.as_str() {
            "int2" => 32_000.0,
            "int4" => 2.1e9,
            _ => 9e15,
        };
        if number.abs() > most {
            continue;
        }
        all.push(cast(format!("({constant})")));
        let span = (number.abs() as u64).clamp(1, 1000);
        all.push(cast(format!("({constant}) + 1 + {}", pick(salt + 4, span))));
        all.push(cast(format!("({constant}) - 1 - {}", pick(salt + 5, span))));
    }
    all
}

/// Days after and before each constant.
fn times(of: &Type, salt: u32, constants: &BTreeSet<String>, plain: String) -> Vec<String> {
    let some_day = format!(
        "CAST(timestamptz '2024-01-01 00:00:00+00' + {} * interval '1 day' AS {})",
        pick(salt + 4, 1000),
        of.sql
    );
    let mut all = vec![plain, some_day];
    for constant in constants.iter().filter(|c| is_date(c)) {
        let at = format!("CAST({} AS timestamptz)", literal(constant));
        for step in [
            pick(salt + 2, 28),
            format!("-{}", pick(salt + 3, 28)),
            "0".to_owned(),
        ] {
            all.push(format!(
                "CAST({at} + {step} * interval '1 day' AS {})",
                of.sql
            ));
        }
    }
    all
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 10
        && (0..10).all(|i| match i {
            4 | 7 => bytes[i] == b'-',
            _ => bytes[i].is_ascii_digit(),
        })
}

/// Composites in composites end here.
const DEPTH: u8 = 5;

fn plain(of: &Type, salt: u32, depth: u8) -> Option<String> {
    if depth > DEPTH {
        return None;
    }
    let bare = match &of.kind {
        TypeKind::Enum(labels) if labels.is_empty() => return None,
        TypeKind::Enum(labels) => {
            let labels: Vec<String> = labels.iter().map(|l| literal(l)).collect();
            format!("(ARRAY[{}])[1 + g % {}]", labels.join(", "), labels.len())
        }
        TypeKind::Array(element) => {
            let element = plain(element, salt, depth + 1)?;
            format!("ARRAY[{element}]")
        }
        TypeKind::Composite(fields) => {
            let fields: Option<Vec<String>> =
                fields.iter().map(|f| plain(f, salt, depth + 1)).collect();
            format!("ROW({})", fields?.join(", "))
        }
        TypeKind::Range(bound) => range(of, bound)?,
        TypeKind::Multirange(of_range) => {
            let TypeKind::Range(bound) = &of_range.kind else {
                return None;
            };
            format!("{}({})", of.sql, range(of_range, bound)?)
        }
        TypeKind::Base => base(of, salt)?,
    };
    Some(format!("CAST({bare} AS {})", of.sql))
}

/// Ranges that do not overlap: exclusion constraints are mostly about that.
fn range(of: &Type, bound: &Type) -> Option<String> {
    let (low, high) = (ordered(bound, "g * 2")?, ordered(bound, "g * 2 + 1")?);
    Some(format!("{}({low}, {high})", of.sql))
}

/// A value that grows with the number `n`.
fn ordered(of: &Type, n: &str) -> Option<String> {
    let bare = match of.name.as_str() {
        "int4" | "int8" | "numeric" | "float8" => n.to_owned(),
        "date" => format!("date '2024-01-01' + ({n})::int"),
        "timestamp" | "timestamptz" => {
            format!("timestamptz '2024-01-01 00:00:00+00' + ({n}) * interval '1 hour'")
        }
        "time" => format!("time '00:00' + ({n}) * interval '1 millisecond'"),
        _ => return None,
    };
    Some(format!("CAST({bare} AS {})", of.sql))
}

/// The numbers in the parentheses of a type: `numeric(10,2)` → 10, 2.
fn modifiers(sql: &str) -> Vec<u32> {
    let Some((_, rest)) = sql.split_once('(') else {
        return Vec::new();
    };
    let inner = rest.split(')').next().unwrap_or_default();
    inner
        .split(',')
        .filter_map(|n| n.trim().parse().ok())
        .collect()
}

fn base(of: &Type, salt: u32) -> Option<String> {
    let n = modifiers(&of.sql);
    let text = |longest: Option<u32>| match longest {
        Some(most) if most < 12 => {
            let digits = most.clamp(1, 7);
            format!("lpad(to_hex(g % {}), {most}, '0')", 16_u64.pow(digits))
        }
        _ => "'text ' || g".to_owned(),
    };
    let point = format!("point({}, {})", pick(salt, 180), pick(salt + 1, 90));
    Some(match of.name.as_str() {
        "int2" => "g % 32768".to_owned(),
        "int4" => "g % 2147483648".to_owned(),
        "int8" => "g".to_owned(),
        "numeric" => {
            let (precision, scale) = match n.as_slice() {
                [p, s, ..] => (*p, *s),
                [p] => (*p, 0),
                [] => (18, 2),
            };
            let most = 10_u64.pow(precision.clamp(1, 15));
            format!("(g % {most})::numeric / {}", 10_u64.pow(scale.min(15)))
        }
        "float4" | "float8" => "g / 100.0".to_owned(),
        "money" => "(g % 1000000)::numeric / 100".to_owned(),
        "bool" => "g % 2 = 0".to_owned(),
        "bpchar" => text(n.first().copied().or(Some(1))),
        "text" | "varchar" | "name" | "citext" => text(n.first().copied()),
        "char" => "chr(65 + (g % 26)::int)".to_owned(),
        "bytea" => "decode(md5(g::text), 'hex')".to_owned(),
        "uuid" => format!("md5(g || '/{salt}')"),
        "json" | "jsonb" => r#"'{"n": ' || g || ', "name": "name ' || g || '"}'"#.to_owned(),
        "xml" => "'<n>' || g || '</n>'".to_owned(),
        "date" => "date '2024-01-01' + (g % 100000)::int".to_owned(),
        "timestamp" | "timestamptz" => {
            "timestamptz '2024-01-01 00:00:00+00' + g * interval '1 minute'".to_owned()
        }
        "time" | "timetz" => "time '00:00' + g * interval '1 second'".to_owned(),
        "interval" => "g * interval '1 minute'".to_owned(),
        "inet" | "cidr" => {
            "'10.' || g / 65536 % 256 || '.' || g / 256 % 256 || '.' || g % 256".to_owned()
        }
        "macaddr" => "substr(md5(g::text), 1, 12)".to_owned(),
        "macaddr8" => "substr(md5(g::text), 1, 16)".to_owned(),
        "bit" | "varbit" => "g::bit(64)".to_owned(),
        "oid" => "g % 4294967296".to_owned(),
        "pg_lsn" => "'0/' || to_hex(g)".to_owned(),
        "point" => point,
        "line" => format!("line({point}, point(200, 200))"),
        "lseg" => format!("lseg({point}, point(200, 200))"),
        "box" => format!("box({point}, point(200, 200))"),
        "path" => "'[(0,0),(' || g || ',1)]'".to_owned(),
        "polygon" => format!("polygon(box({point}, point(200, 200)))"),
        "circle" => format!("circle({point}, 1 + g)"),
        "tsvector" => "to_tsvector('simple', 'word' || g)".to_owned(),
        "tsquery" => "to_tsquery('simple', 'word' || g)".to_owned(),
        "jsonpath" => "'$.n' || g".to_owned(),
        // Of extensions that are met often.
        "hstore" => r#"'"n"=>"' || g || '"'"#.to_owned(),
        "ltree" => "'top.n' || g".to_owned(),
        "vector" | "halfvec" => format!(
            "'[' || repeat('0.5,', {}) || g % 97 || ']'",
            n.first().copied().unwrap_or(3).saturating_sub(1)
        ),
        "geometry" | "geography" => {
            let srid = n.last().map_or(String::new(), |s| format!("SRID={s};"));
            format!("'{srid}POINT(' || g % 180 || ' ' || g % 90 || ')'")
        }
        _ => return None,
    })
}
