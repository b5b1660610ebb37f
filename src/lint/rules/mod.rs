//! The rules: one table, one file per family.

mod column;
mod column_type;
mod constraint;
mod data;
mod index;
mod object;
mod partition;
pub(crate) mod reading;
mod table;
mod transaction;

use std::borrow::Cow;

use super::Rule;
use super::context::Cx;
use crate::migration::{Allow, Migration};
use crate::sql::Diagnostic;

/// A family of rules.
pub struct Family {
    /// For people.
    pub title: &'static str,
    /// In order of id.
    pub rules: &'static [&'static Rule],
}

/// All families, in the order of documentation.
pub const FAMILIES: [Family; 8] = [
    Family {
        title: "Indexes",
        rules: &index::RULES,
    },
    Family {
        title: "Constraints",
        rules: &constraint::RULES,
    },
    Family {
        title: "Columns",
        rules: &column::RULES,
    },
    Family {
        title: "Tables and other objects",
        rules: &table::RULES,
    },
    Family {
        title: "Partitions",
        rules: &partition::RULES,
    },
    Family {
        title: "Data",
        rules: &data::RULES,
    },
    Family {
        title: "Transactions and locks",
        rules: &transaction::RULES,
    },
    Family {
        title: "The file",
        rules: &reading::RULES,
    },
];

/// All rules, in order of id.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    FAMILIES.iter().flat_map(|f| f.rules.iter().copied())
}

/// The rule of this name or id.
pub fn named(name: &str) -> Option<&'static Rule> {
    all().find(|r| r.slug == name || r.id.eq_ignore_ascii_case(name))
}

/// What may have been meant by a name that is no rule's.
pub fn suggestion(name: &str) -> String {
    let near = all()
        .map(|r| (strsim::jaro_winkler(name, r.slug), r.slug))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(score, _)| *score > 0.8);
    match near {
        Some((_, slug)) => format!("did you mean `{slug}`? `pgshift explain` lists all"),
        None => "`pgshift explain` lists all rules".to_owned(),
    }
}

/// A migration whose `allow` directives name rules by their slugs, as planning asks for them.
///
/// # Errors
/// The directives that name no rule.
pub fn resolve_allows(migration: &Migration) -> Result<Cow<'_, Migration>, Vec<Diagnostic>> {
    let mut resolved = Cow::Borrowed(migration);
    let mut unknown = Vec::new();
    for (i, section) in migration.sections.iter().enumerate() {
        for (j, statement) in section.statements.iter().enumerate() {
            for (k, allow) in statement.allows.iter().enumerate() {
                match named(&allow.rule) {
                    None => unknown.push(unknown_rule(allow)),
                    Some(rule) if rule.slug != allow.rule => {
                        let allow = &mut resolved.to_mut().sections[i].statements[j].allows[k];
                        allow.rule = rule.slug.into();
                    }
                    Some(_) => {}
                }
            }
        }
    }
    if unknown.is_empty() {
        Ok(resolved)
    } else {
        Err(unknown)
    }
}

/// What is wrong with an `allow` of a rule that does not exist.
pub(super) fn unknown_rule(allow: &Allow) -> Diagnostic {
    Diagnostic::new(allow.span, format!("there is no rule `{}`", allow.rule))
        .help(suggestion(&allow.rule))
}

/// Runs every rule on a statement.
pub(super) fn check(cx: &mut Cx<'_>) {
    index::check(cx);
    constraint::check(cx);
    column::check(cx);
    column_type::check(cx);
    table::check(cx);
    object::check(cx);
    partition::check(cx);
    data::check(cx);
    reading::check(cx);
    // Last: they look at what the others said of the same statement.
    transaction::check(cx);
}
