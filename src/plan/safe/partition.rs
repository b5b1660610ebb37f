//! CREATE TABLE … PARTITION OF a table that is in use.
//!
//! It takes ACCESS EXCLUSIVE on the parent; ATTACH PARTITION takes SHARE UPDATE EXCLUSIVE, so the
//! application goes on (docs, "Partition Maintenance"). Where there is a default partition, both
//! read it to see that no row of it belongs to the new one, unless a CHECK proves it.

use super::{Safe, SafeStep, costly, sql_name};
use crate::catalog::{Catalog, QName, Table};
use crate::plan::forms::{created, kind, table};
use crate::sql::ddl::PartitionDef;
use crate::sql::lex::{TokenKind, ident_value, lex_code};
use crate::sql::{RelName, quote};

const WHY: &str = "CREATE TABLE … PARTITION OF blocks reads and writes of the whole parent; a \
                   table of its own, attached, does not";

/// The safe form of CREATE TABLE `name` PARTITION OF `parent`.
pub(super) fn safe_form(
    text: &str,
    name: &RelName,
    parent: &RelName,
    partition: &PartitionDef,
    catalog: &Catalog,
) -> Safe {
    let Some(on) = table(catalog, parent) else {
        return Safe::AsIs;
    };
    // One that is there already is left as it is by IF NOT EXISTS.
    if kind(catalog, &created(catalog, name)).is_some() {
        return Safe::AsIs;
    }
    let bound = partition.bound.of(text);
    let default = on.partitioning.default.as_ref().filter(|d| rows(on, d) > 0);
    if partition.elements {
        return match default {
            // For a moment only.
            None => Safe::AsIs,
            Some(default) => costly(
                "create-partition",
                format!(
                    "this reads every row of the default partition {default} while it blocks \
                     reads and writes of {parent}"
                ),
                "leave the columns and constraints in parentheses out, and add them to the new \
                 partition afterwards",
            ),
        };
    }
    let aid = match default {
        None => None,
        Some(default) => {
            let Some(condition) = condition(on, bound) else {
                return costly(
                    "create-partition",
                    format!(
                        "a new partition makes the server read every row of the default partition \
                         {default} under a lock that blocks reads and writes"
                    ),
                    format!(
                        "in a migration before this one, add to {default} a CHECK (NOT (…)) with \
                         the condition of the new partition, as pg_get_partition_constraintdef \
                         writes it for the others (it is made NOT VALID and then validated); then \
                         CREATE TABLE {name} (LIKE {parent} INCLUDING ALL), ALTER TABLE {parent} \
                         ATTACH PARTITION, and drop the CHECK"
                    ),
                );
            };
            let aid = quote::ident(&quote::derived_name(
                "pgshift_",
                &format!("{}_not_{}", default.name, name.name),
                &format!("{default} without {name}"),
            ));
            Some((quote::qname(default), aid, condition))
        }
    };
    let made = created(catalog, name).sql();
    let head = sql_name(catalog, parent);
    let mut steps = Vec::new();
    if let Some((default, aid, condition)) = &aid {
        steps.push(SafeStep::plain(format!(
            "ALTER TABLE {default} ADD CONSTRAINT {aid} CHECK (NOT ({condition})) NOT VALID"
        )));
        // Not in the phase that validates: the partition is to be there when expand is done.
        steps.push(SafeStep::plain(format!(
            "ALTER TABLE {default} VALIDATE CONSTRAINT {aid}"
        )));
    }
    steps.push(SafeStep::plain(format!(
        "CREATE TABLE {made} (LIKE {head} INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING \
         CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION){}",
        placed(partition.rest.of(text), on)
    )));
    steps.push(SafeStep::plain(format!(
        "ALTER TABLE {head} ATTACH PARTITION {made} {bound}"
    )));
    if let Some((default, aid, _)) = &aid {
        steps.push(SafeStep::plain(format!(
            "ALTER TABLE {default} DROP CONSTRAINT {aid}"
        )));
    }
    Safe::Rewritten {
        steps,
        why: WHY.to_owned(),
    }
}

/// What follows the bound, with the tablespace and the access method (17) that PARTITION OF takes
/// over from the parent (documentation, CREATE TABLE). Storage parameters a parent has none.
fn placed(rest: &str, parent: &Table) -> String {
    let tokens = lex_code(rest);
    let (mut depth, mut said) = (0_usize, Vec::new());
    for token in &tokens {
        match token.kind {
            TokenKind::LParen => depth += 1,
            TokenKind::RParen => depth = depth.saturating_sub(1),
            TokenKind::Word if depth == 0 => {
                said.push((token.text(rest).to_ascii_lowercase(), token.span.start));
            }
            _ => {}
        }
    }
    let at = |words: &[&str]| {
        said.iter()
            .find(|(word, _)| words.contains(&word.as_str()))
            .map(|(_, at)| *at)
    };
    let mut out = rest.trim_end().to_owned();
    if let Some(tablespace) = &parent.settings.tablespace
        && at(&["tablespace"]).is_none()
    {
        out = format!("{out} TABLESPACE {}", quote::ident(tablespace));
    }
    if let Some(method) = &parent.settings.access_method
        && at(&["using"]).is_none()
    {
        // USING stands after PARTITION BY and before all else.
        let place = at(&["with", "without", "on", "tablespace"]).unwrap_or(rest.trim_end().len());
        let (before, after) = out.split_at(place);
        out = format!(
            "{} USING {}{}{after}",
            before.trim_end(),
            quote::ident(method),
            if after.starts_with(' ') || after.is_empty() {
                ""
            } else {
                " "
            }
        );
    }
    out
}

fn rows(parent: &Table, partition: &QName) -> i64 {
    let leaf = parent.leaves.iter().find(|l| l.name == *partition);
    // One that is itself partitioned is none of the leaves.
    leaf.map_or(1, |l| l.rows.max(l.blocks))
}

/// The condition of a partition, in the shape that the server gives it, for a key of one plain
/// column; `None` for what is not that simple.
fn condition(parent: &Table, bound: &str) -> Option<String> {
    let key = parent.partitioning.key.as_deref()?;
    let tokens = lex_code(key);
    let (method, column) = match tokens.as_slice() {
        [method, open, column, close]
            if open.kind == TokenKind::LParen && close.kind == TokenKind::RParen =>
        {
            (method.text(key), ident_value(*column, key)?)
        }
        _ => return None,
    };
    let known = parent.column(&column)?;
    let column = quote::ident(&column);
    let value = |text: &str| format!("CAST({text} AS {})", known.type_name);
    let mut conditions = vec![format!("{column} IS NOT NULL")];
    let groups = groups(bound)?;
    match (method.to_ascii_uppercase().as_str(), groups.as_slice()) {
        ("RANGE", [from, to]) => {
            for (operator, values, open) in [(">=", from, "MINVALUE"), ("<", to, "MAXVALUE")] {
                let [one] = values.as_slice() else {
                    return None;
                };
                if one.eq_ignore_ascii_case(open) {
                    continue;
                }
                if one.eq_ignore_ascii_case("minvalue") || one.eq_ignore_ascii_case("maxvalue") {
                    return None;
                }
                conditions.push(format!("{column} {operator} {}", value(one)));
            }
        }
        ("LIST", [values]) => {
            if values.iter().any(|v| v.eq_ignore_ascii_case("null")) {
                return None;
            }
            conditions.push(match values.as_slice() {
                [one] => format!("{column} = {}", value(one)),
                many => {
                    let many: Vec<_> = many.iter().map(|v| value(v)).collect();
                    format!("{column} = ANY (ARRAY[{}])", many.join(", "))
                }
            });
        }
        _ => return None,
    }
    Some(
        conditions
            .iter()
            .map(|c| format!("({c})"))
            .collect::<Vec<_>>()
            .join(" AND "),
    )
}

/// The values in each pair of outermost parentheses.
fn groups(bound: &str) -> Option<Vec<Vec<&str>>> {
    let (mut groups, mut depth, mut start): (Vec<Vec<&str>>, usize, usize) = (Vec::new(), 0, 0);
    for token in lex_code(bound) {
        match token.kind {
            TokenKind::LParen => {
                if depth == 0 {
                    groups.push(Vec::new());
                    start = token.span.end;
                }
                depth += 1;
            }
            TokenKind::RParen => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    groups
                        .last_mut()?
                        .push(bound[start..token.span.start].trim());
                }
            }
            TokenKind::Comma if depth == 1 => {
                groups
                    .last_mut()?
                    .push(bound[start..token.span.start].trim());
                start = token.span.end;
            }
            _ => {}
        }
    }
    Some(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::catalog;

    #[test]
    fn a_partition_goes_where_its_parent_is() {
        let catalog = catalog(17);
        let mut parent = catalog.table(None, "events").expect("events").clone();
        let placed_in = |rest: &str, parent: &Table| placed(rest, parent);
        assert_eq!(placed_in("", &parent), "");
        assert_eq!(
            placed_in(" WITH (fillfactor = 50)", &parent),
            " WITH (fillfactor = 50)"
        );
        parent.settings.tablespace = Some("Fast".into());
        parent.settings.access_method = Some("heap2".into());
        for (rest, expected) in [
            ("", " USING \"heap2\" TABLESPACE \"Fast\""),
            (
                " PARTITION BY LIST (using) WITH (a = 1)",
                " PARTITION BY LIST (using) USING \"heap2\" WITH (a = 1) TABLESPACE \"Fast\"",
            ),
            (" USING heap TABLESPACE slow", " USING heap TABLESPACE slow"),
            (" TABLESPACE slow", " USING \"heap2\" TABLESPACE slow"),
        ] {
            assert_eq!(placed_in(rest, &parent), expected, "{rest}");
        }
    }
}
