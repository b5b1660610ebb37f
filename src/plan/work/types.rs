//! Which changes of a column's type leave its values as they are.

use crate::catalog::{Catalog, Column};
use crate::sql::lex::{TokenKind, ident_value, lex_code};

/// A type as its name, modifiers and whether it is an array.
#[derive(Debug, PartialEq, Eq)]
struct TypeParts {
    name: String,
    modifiers: Option<Vec<u32>>,
    array: bool,
}

/// True for the name of a domain with constraints: where a column of one is added, the server
/// (`ATExecAddColumn` in `tablecmds.c`, up to 18) checks them by writing every row anew. An array
/// of them is not concerned.
pub(crate) fn constrained_domain(type_text: &str, catalog: &Catalog) -> bool {
    let mut words = Vec::new();
    for token in lex_code(type_text) {
        match token.kind {
            TokenKind::Word | TokenKind::QuotedIdent => words.push(ident_value(token, type_text)),
            TokenKind::Dot => {}
            _ => return false,
        }
    }
    match words.as_slice() {
        [Some(name)] => catalog.is_constrained_domain(None, name),
        [Some(schema), Some(name)] => catalog.is_constrained_domain(Some(schema), name),
        _ => false,
    }
}

/// The usual name of a type that has several.
pub(super) fn base_type(name: &str) -> &str {
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

/// What ALTER COLUMN … TYPE does to values and their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InPlace {
    /// Every row is written anew.
    No,
    /// Only the catalog is changed, but indexes have another operator class and are built anew.
    OtherOrder,
    /// Only the catalog is changed.
    SameOrder,
}

/// Whether ALTER COLUMN … TYPE changes only the catalog: the types are binary coercible and no
/// value can be cut (varchar to longer or text, numeric to more digits of the same scale, a
/// greater precision of times, varbit to longer, cidr to inet, a domain without constraints to or
/// from what it is over), and USING only names the column.
pub(super) fn converts_in_place(
    old: &Column,
    new: &str,
    using: Option<&str>,
    catalog: &Catalog,
) -> InPlace {
    let (Some(from), Some(to)) = (type_parts(&old.type_name), type_parts(new)) else {
        return InPlace::No;
    };
    if using.is_some_and(|using| !names_only(using, &old.name, &to)) {
        return InPlace::No;
    }
    if from == to {
        return InPlace::SameOrder;
    }
    if constrained_domain(new, catalog) {
        return InPlace::No;
    }
    let base = |text: &str, parts| match base_of_domain(text, catalog) {
        Some(base) => type_parts(&base),
        None => Some(parts),
    };
    let (Some(from), Some(to)) = (base(&old.type_name, from), base(new, to)) else {
        return InPlace::No;
    };
    if from == to || keeps_values(&from, &to) {
        return InPlace::SameOrder;
    }
    if from.array || to.array {
        return InPlace::No;
    }
    let is_text = |parts: &TypeParts| match parts.name.as_str() {
        "text" => true,
        "varchar" => parts.modifiers.is_none(),
        _ => false,
    };
    let citext = |parts: &TypeParts| parts.name.rsplit('.').next() == Some("citext");
    let times = |a: &TypeParts, b: &TypeParts| {
        catalog.utc
            && a.name == "timestamp"
            && b.name == "timestamptz"
            && first(a).unwrap_or(6) <= first(b).unwrap_or(6)
    };
    let coercible = citext(&to) && matches!(from.name.as_str(), "text" | "varchar")
        || citext(&from) && is_text(&to)
        || matches!(
            (from.name.as_str(), to.name.as_str()),
            ("integer", "oid") | ("oid", "integer")
        )
        || (from.name == "bit" && to.name == "varbit" && to.modifiers.is_none())
        || times(&from, &to)
        || (catalog.utc
            && from.name == "timestamptz"
            && to.name == "timestamp"
            && first(&from).unwrap_or(6) <= first(&to).unwrap_or(6));
    if coercible {
        InPlace::OtherOrder
    } else {
        InPlace::No
    }
}

/// What a domain is over, down to a type that is none; `None` for what is no domain.
fn base_of_domain(type_text: &str, catalog: &Catalog) -> Option<String> {
    let mut found: Option<String> = None;
    // No deeper than a person would nest them.
    for _ in 0..32 {
        let text = found.as_deref().unwrap_or(type_text);
        let name = type_parts(text)
            .filter(|t| t.modifiers.is_none() && !t.array)?
            .name;
        let next = catalog
            .domains
            .iter()
            .find(|(domain, _)| match name.rsplit_once('.') {
                Some((schema, name)) => domain.schema == schema && domain.name == name,
                None => domain.name == name && catalog.search_path.contains(&domain.schema),
            });
        match next {
            Some((_, base)) => found = Some(base.clone()),
            None => break,
        }
    }
    found
}

fn first(parts: &TypeParts) -> Option<u32> {
    parts.modifiers.as_ref().and_then(|m| m.first().copied())
}

/// The types are binary coercible, compare alike, and the new one takes every value of the old.
fn keeps_values(from: &TypeParts, to: &TypeParts) -> bool {
    if from.array || to.array {
        return false;
    }
    let no_shorter = || match (first(from), first(to)) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(from), Some(to)) => from <= to,
    };
    match (from.name.as_str(), to.name.as_str()) {
        ("text", "varchar") => to.modifiers.is_none(),
        ("varchar" | "xml", "text") | ("cidr", "inet") => true,
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
        | ("timetz", "timetz") => {
            // No modifier means 6.
            first(from).unwrap_or(6) <= first(to).unwrap_or(6)
        }
        _ => match (least_field(&from.name), least_field(&to.name)) {
            (Some(old), Some(new)) => {
                old >= new && (old > 0 || first(from).unwrap_or(6) <= first(to).unwrap_or(6))
            }
            _ => false,
        },
    }
}

/// The least field that an interval keeps, seconds first (`interval_support` in `timestamp.c`);
/// `None` for any other type.
fn least_field(name: &str) -> Option<usize> {
    let fields = name.strip_prefix("interval")?;
    let last = fields.split_ascii_whitespace().last().unwrap_or("second");
    ["second", "minute", "hour", "day", "month", "year"]
        .iter()
        .position(|field| *field == last)
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

    #[test]
    fn types_that_convert_in_place() {
        let catalog = catalog(15);
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
                converts_in_place(&old, to, None, &catalog) != InPlace::No,
                in_place,
                "{from} to {to}"
            );
        }
        let old = column("a", "character varying(10)");
        let in_place =
            |using| converts_in_place(&old, "text", Some(using), &catalog) == InPlace::SameOrder;
        assert!(in_place("a::text"));
        assert!(in_place("a"));
        assert!(!in_place("a::varchar(3)"));
        assert!(!in_place("b"));
        assert!(!in_place("a || 'x'"));
        assert!(!in_place("lower(a)"));
    }
}
