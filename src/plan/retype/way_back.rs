//! How a value of the new type maps back to the old one.

use super::Retype;
use super::question::Answer;
use crate::catalog::{Column, QName};
use crate::error::Result;
use crate::plan::draft::Draft;
use crate::plan::sync::{Mapping, Target};
use crate::sql::lex::{TokenKind, ident_value, lex_code};
use crate::sql::quote::ident;

/// The least and the greatest value of an integer type.
fn range(type_name: &str) -> Option<(&'static str, &'static str)> {
    match type_name {
        "smallint" => Some(("-32768", "32767")),
        "integer" => Some(("-2147483648", "2147483647")),
        "bigint" => Some(("-9223372036854775808", "9223372036854775807")),
        _ => None,
    }
}

/// Every value of the old type is the same one after a way there and back.
fn is_exact(old: &str, new: &str) -> bool {
    let integer = |name: &str| range(name).is_some();
    let scale = |name: &str| {
        let (kind, rest) = name.split_once('(')?;
        let scale = rest.trim_end_matches(')').split_once(',')?.1;
        (kind == "numeric").then(|| scale.to_owned())
    };
    integer(old) && integer(new)
        || is_text(old) && is_text(new)
        || scale(old).is_some() && scale(old) == scale(new)
        || matches!((old, new), ("json", "jsonb") | ("numeric", "text"))
        || is_text(new)
}

/// Every value of the new type that the old type can hold is the same one after a way back and
/// there.
pub(super) fn comes_back(old: &str, new: &str) -> bool {
    is_exact(old, new)
        && !matches!((old, new), ("json", "jsonb") | ("numeric", "text"))
        && (!is_text(new) || is_text(old))
}

fn is_text(name: &str) -> bool {
    name == "text" || name.starts_with("character varying")
}

/// Not every value of the old type is one of the new type, as far as is known.
fn may_not_fit(old: &str, new: &str) -> bool {
    let size = |name: &str| {
        ["smallint", "integer", "bigint", "numeric"]
            .iter()
            .position(|t| *t == name)
    };
    let wider = matches!((size(old), size(new)), (Some(old), Some(new)) if old <= new);
    let scaled = old.starts_with("numeric") && new == "numeric";
    !(wider || scaled || matches!(new, "text" | "character varying"))
}

/// What is said where a value of the old application version may not be one of the new type.
pub(in crate::plan) fn narrows(
    draft: &Draft<'_>,
    table: &QName,
    retypes: &[Retype],
    answer: &Answer,
) -> Vec<String> {
    let old = |column: &str| draft.catalog.tables[table].column(column);
    retypes
        .iter()
        .filter_map(|r| Some((r, &old(&r.column)?.type_name, answer.types.get(&r.column)?)))
        .filter(|(_, old, new)| may_not_fit(old, new))
        .map(|(r, _, new)| {
            format!(
                "a value that does not become {new} fails: in the backfill, and from the sync \
                 trigger on in what the old application version writes to {} of {table}",
                r.column
            )
        })
        .collect()
}

/// What is said where USING may give one value for the backfill and another for a write of the
/// application.
pub(in crate::plan) fn unsteady(table: &QName, retypes: &[Retype], answer: &Answer) -> Vec<String> {
    retypes
        .iter()
        .filter(|r| answer.unsteady.contains(&r.column))
        .map(|r| {
            format!(
                "USING for {} of {table} depends on more than the row: where that is a setting of \
                 the session, such as TimeZone, an application that sets another one than pgshift's \
                 sessions have writes other values, which verify finds; say it in the expression \
                 (AT TIME ZONE, to_char) or by a function with SET",
                r.column
            )
        })
        .collect()
}

/// What a person should know of the way back of a column.
pub(super) fn lost(old: &Column, new: &str, authors: bool) -> Option<String> {
    (!authors && !is_exact(&old.type_name, new)).then(|| {
        format!(
            "values that the new application version writes to {} come back as {} keeps them, \
             which may be rounded",
            old.name, old.type_name
        )
    })
}

/// The reverse section maps this column back.
pub(super) fn is_authors(draft: &Draft<'_>, table: &QName, column: &str) -> bool {
    draft
        .reverses
        .iter()
        .any(|r| r.table == *table && r.assignments.iter().any(|a| a.column == column))
}

/// The mappings back of the columns that the reverse section does not map.
///
/// # Errors
/// Where nothing says how a new value maps back.
pub(in crate::plan) fn mappings(
    draft: &Draft<'_>,
    table: &QName,
    retypes: &[Retype],
    answer: &Answer,
) -> Result<Vec<Mapping>> {
    let mut all = Vec::new();
    for retype in retypes {
        let conversion = answer
            .conversions
            .get(&retype.column)
            .cloned()
            .unwrap_or_default();
        let plain = retype.using.is_none() || casts_only(retype);
        if plain && conversion.depends {
            return Err(draft.refused(
                retype.span,
                format!(
                    "what {} becomes as {} depends on settings of the session that writes, such as \
                     TimeZone",
                    retype.column, retype.type_text
                ),
                "say it in USING, for example USING c AT TIME ZONE 'UTC'; what is more than that \
                 needs a reverse section for the way back",
            ));
        }
        if is_authors(draft, table, &retype.column) {
            continue;
        }
        let Some(old) = draft.catalog.tables[table].column(&retype.column) else {
            continue;
        };
        let zone = zone(retype).filter(|_| {
            let new = answer.types.get(&retype.column);
            new.is_some_and(|new| is_other_time(&old.type_name, new))
        });
        let way = conversion.same || conversion.back || conversion.text;
        if zone.is_none() && (!plain || !way || conversion.back_depends) {
            let why = if !plain {
                format!(
                    "nothing says how {} follows from what USING gives",
                    retype.column
                )
            } else if way {
                format!(
                    "the way back of {} from {} depends on settings of the session that writes",
                    retype.column, retype.type_text
                )
            } else {
                format!("no cast leads back from {}", retype.type_text)
            };
            return Err(draft.refused(
                retype.span,
                why,
                &format!(
                    "write it into sections: `-- pgshift: expand` with this statement, and \
                     `-- pgshift: reverse` with UPDATE {} SET {column} = …, where {column} is the \
                     new value on the right of the sign, and the old one on the left",
                    table.name,
                    column = retype.column,
                ),
            ));
        }
        let shadow = ident(&retype.shadow);
        let expr = match (zone, range(&old.type_name)) {
            (Some(zone), _) => format!("{shadow} AT TIME ZONE {zone}"),
            (None, Some((least, most))) if !conversion.text => {
                format!("CASE WHEN {shadow} BETWEEN {least} AND {most} THEN {shadow} END")
            }
            _ => shadow,
        };
        all.push(Mapping {
            alias: table.name.clone(),
            from: None,
            condition: None,
            targets: vec![Target {
                column: old.name.clone(),
                type_name: old.type_name.clone(),
                has_equality: old.has_equality,
                expr,
                volatile: false,
            }],
            rest: false,
            reads: vec![retype.shadow.clone()],
            or_null: conversion.text || range(&old.type_name).is_none(),
        });
    }
    Ok(all)
}

/// The words of an expression, names by their values.
fn words(text: &str) -> Vec<String> {
    lex_code(text)
        .into_iter()
        .map(|token| ident_value(token, text).unwrap_or_else(|| token.text(text).to_owned()))
        .collect()
}

/// The time zone of a USING that is nothing but the column AT TIME ZONE a constant, as the author
/// wrote it: the same leads back (documentation, "Date/Time Functions and Operators").
fn zone(retype: &Retype) -> Option<&str> {
    let text = &retype.using.as_ref()?.text;
    let (zone, before) = lex_code(text).split_last().map(|(zone, _)| {
        let zone = *zone;
        (zone, words(&text[..zone.span.start]))
    })?;
    let of_column = before == words(&format!("{} AT TIME ZONE", ident(&retype.column)));
    (of_column && zone.kind == TokenKind::String).then(|| zone.text(text))
}

/// One is a time with its zone, the other one without.
fn is_other_time(old: &str, new: &str) -> bool {
    let with_zone = |name: &str| {
        let timestamp = name.starts_with("timestamp");
        timestamp.then(|| name.ends_with("with time zone"))
    };
    matches!((with_zone(old), with_zone(new)), (Some(old), Some(new)) if old != new)
}

/// USING is the column with a cast to the new type, which says nothing more.
pub(super) fn casts_only(retype: &Retype) -> bool {
    let (column, new) = (ident(&retype.column), &retype.type_text);
    let Some(using) = retype.using.as_ref().map(|using| words(&using.text)) else {
        return true;
    };
    [
        column.clone(),
        format!("{column}::{new}"),
        format!("({column})::{new}"),
        format!("({column}::{new})"),
        format!("CAST({column} AS {new})"),
    ]
    .iter()
    .any(|plain| words(plain) == using)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Span;
    use crate::sql::dml::Piece;

    fn of(using: Option<&str>) -> Retype {
        Retype {
            column: "N".into(),
            shadow: "s".into(),
            old: "o".into(),
            definition: "bigint".into(),
            type_text: "bigint".into(),
            using: using.map(|text| Piece {
                text: text.into(),
                span: Span::default(),
            }),
            default: crate::plan::retype::NewDefault::default(),
            span: Span::default(),
        }
    }

    #[test]
    fn a_time_zone_leads_back() {
        for (using, is) in [
            ("\"N\" AT TIME ZONE 'UTC'", Some("'UTC'")),
            (
                "\"N\" at time zone 'Europe/Berlin'",
                Some("'Europe/Berlin'"),
            ),
            ("n AT TIME ZONE 'UTC'", None),
            ("\"N\" AT TIME ZONE zone", None),
            ("\"N\" AT TIME ZONE 'UTC' + interval '1 h'", None),
            ("date_trunc('day', \"N\" AT TIME ZONE 'UTC')", None),
        ] {
            assert_eq!(zone(&of(Some(using))), is, "{using}");
        }
        assert_eq!(zone(&of(None)), None);
        let (with, without) = ("timestamp(3) with time zone", "timestamp without time zone");
        assert!(is_other_time(with, without) && is_other_time(without, with));
        assert!(!is_other_time(with, with) && !is_other_time(with, "text"));
    }

    #[test]
    fn a_cast_of_the_column_says_nothing_more() {
        for (using, plain) in [
            (None, true),
            (Some("\"N\"::bigint"), true),
            (Some("(\"N\")::BIGINT"), true),
            (Some("CAST(\"N\" AS bigint)"), true),
            (Some("cast (\"N\" as bigint)"), true),
            (Some("\"N\""), true),
            (Some("n::bigint"), false),
            (Some("\"N\"::text::bigint"), false),
            (Some("\"N\"::bigint + 1"), false),
            (Some("-\"N\"::bigint"), false),
        ] {
            assert_eq!(casts_only(&of(using)), plain, "{using:?}");
        }
    }

    #[test]
    fn what_fits_and_what_comes_back() {
        for (old, new, fits, exact) in [
            ("integer", "bigint", true, true),
            ("bigint", "integer", false, true),
            ("integer", "numeric", true, false),
            ("numeric(10,2)", "numeric(12,2)", false, true),
            ("numeric(10,2)", "numeric(12,4)", false, false),
            ("integer", "text", true, true),
            ("text", "integer", false, false),
            ("character varying(9)", "text", true, true),
            ("timestamp without time zone", "date", false, false),
        ] {
            assert_eq!(!may_not_fit(old, new), fits, "{old} to {new}");
            assert_eq!(is_exact(old, new), exact, "{old} to {new}");
        }
        for (old, new, back) in [
            ("integer", "bigint", true),
            ("character varying(9)", "text", true),
            ("numeric(10,2)", "numeric(12,2)", true),
            ("numeric(10,2)", "numeric(12,4)", false),
            ("integer", "text", false), // '007'
            ("json", "jsonb", false),
            ("real", "double precision", false),
        ] {
            assert_eq!(comes_back(old, new), back, "{old} from {new}");
        }
    }
}
