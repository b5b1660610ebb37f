//! The dispatch by leading words, and the statements that have no module of their own.

use super::create::{create, on_table};
use super::maintenance::{
    cluster, lock_table, reindex, relations_with_columns, table_list, vacuum,
};
use super::query::{copy, dml, explain, select, with};
use super::rights::{default_privileges, grantee, object_name, rights};
use super::{Action, CommentTarget, Cursor, FunctionChange, NameChange, RelName, alter};
use crate::catalog::RelKind;
use crate::sql::lex::TokenKind;
use crate::sql::quote;

/// What the statement does; `None` where it is not recognised.
pub(super) fn statement(mut c: Cursor<'_>) -> Option<Action> {
    let c = &mut c;
    let whole = *c;
    if c.eat("create") {
        return create(c);
    }
    if c.eat("alter") {
        return alter(c);
    }
    if c.eat("drop") {
        return drop(c);
    }
    if c.eat("comment on") {
        return comment(c);
    }
    if c.eat("reindex") {
        return reindex(c);
    }
    if c.eat("refresh materialized view") {
        let concurrently = c.eat("concurrently");
        return Some(Action::Refresh {
            name: c.rel()?,
            concurrently,
        });
    }
    if c.eat("vacuum") {
        return vacuum(c);
    }
    if c.eat("analyze") || c.eat("analyse") {
        let _ = c.parens().is_some() || c.eat("verbose");
        return Some(Action::Analyze {
            tables: relations_with_columns(c)?,
        });
    }
    if c.eat("cluster") {
        return cluster(c);
    }
    if c.eat("truncate") {
        let _ = c.eat("table");
        let tables = table_list(c)?;
        let restart_identity = c.eat("restart identity");
        c.skip_to(|c| c.is("cascade"));
        return Some(Action::Truncate {
            tables,
            cascade: c.is("cascade"),
            restart_identity,
        });
    }
    if c.eat("lock") {
        return lock_table(c);
    }
    if c.eat("security label") {
        return Some(Action::SecurityLabel);
    }
    if c.eat("grant") {
        return Some(Action::Grant {
            rights: rights(c, true).map(Box::new),
        });
    }
    if c.eat("revoke") {
        return Some(Action::Revoke {
            rights: rights(c, false).map(Box::new),
        });
    }
    if c.eat("do") {
        return Some(Action::Do);
    }
    if c.eat("call") {
        return Some(Action::Call);
    }
    if c.eat("copy") {
        return copy(c);
    }
    if c.is_any(&["insert", "update", "delete", "merge"]) {
        return dml(c);
    }
    if c.eat("with") {
        return with(c, whole);
    }
    if c.is_any(&["select", "values", "table"]) || c.kind() == Some(TokenKind::LParen) {
        return Some(select(whole));
    }
    if c.is("show") {
        return Some(Action::Select {
            functions: Vec::new(),
        });
    }
    if c.eat("explain") {
        return explain(c);
    }
    if c.is("set") && c.is_at(1, "transaction") {
        return Some(Action::Transaction);
    }
    if c.is_any(&["set", "reset"]) {
        return Some(Action::Set);
    }
    if c.is_any(&[
        "begin",
        "start",
        "commit",
        "end",
        "rollback",
        "abort",
        "savepoint",
        "release",
    ]) || (c.is("prepare") && c.is_at(1, "transaction"))
    {
        return Some(Action::Transaction);
    }
    None
}

/// After the word ALTER.
fn alter(c: &mut Cursor<'_>) -> Option<Action> {
    if c.eat("table") || c.eat("foreign table") {
        return alter_table(c);
    }
    for (words, kind) in [
        ("index", RelKind::Index),
        ("view", RelKind::View),
        ("materialized view", RelKind::MaterializedView),
        ("sequence", RelKind::Sequence),
    ] {
        if c.eat(words) {
            if c.is("all") && c.is_at(1, "in") {
                return None;
            }
            let if_exists = c.eat("if exists");
            let name = c.rel()?;
            return Some(Action::AlterRelation {
                kind,
                name,
                if_exists,
                ops: if kind == RelKind::Sequence {
                    alter::sequence_op(*c)
                } else {
                    alter::ops(*c)
                },
            });
        }
    }
    if c.eat("type") {
        let name = c.rel()?;
        if c.eat("add value") {
            return Some(Action::AlterTypeAddValue {
                name,
                if_not_exists: c.eat("if not exists"),
            });
        }
        let mut end = *c;
        end.skip_to(|c| c.is("cascade"));
        let attributes = c.is_at(1, "attribute")
            && (c.is_any(&["add", "drop", "alter"]) || (c.is("rename") && !end.done()));
        return Some(Action::AlterType {
            name,
            change: name_change(c),
            attributes,
        });
    }
    if c.eat("domain") {
        let name = c.rel()?;
        let mut rest = *c;
        rest.skip_to(|c| c.is("not") && c.is_at(1, "valid"));
        let scans =
            c.is("validate") || (c.is("set") && c.is_at(1, "not")) || (c.is("add") && rest.done());
        let mut named = *c;
        let change = if named.eat("add constraint")
            && let Some(constraint) = named.ident()
        {
            NameChange::AddConstraint { name: constraint }
        } else {
            name_change(c)
        };
        return Some(Action::AlterDomain {
            name,
            change,
            scans,
        });
    }
    for (word, object) in ON_TABLE {
        if c.eat(word) {
            let name = c.ident()?;
            let table = on_table(c)?;
            let rename_to = if c.eat("rename to") { c.ident() } else { None };
            return Some(Action::AlterOnTable {
                object,
                name,
                table,
                rename_to,
            });
        }
    }
    if c.eat("default privileges") {
        return Some(default_privileges(c));
    }
    for (word, object) in [
        ("function", "FUNCTION"),
        ("procedure", "PROCEDURE"),
        ("routine", "ROUTINE"),
    ] {
        let mut named = *c;
        if named.eat(word)
            && let Some(function) = object_name(&mut named)
        {
            let change = function_change(&mut named)?;
            return Some(Action::AlterFunction {
                object,
                function,
                change,
            });
        }
    }
    if c.is("system") {
        return Some(Action::OutsideTransaction {
            leading: "ALTER SYSTEM".to_owned(),
        });
    }
    if c.kind() != Some(TokenKind::Word) {
        return None;
    }
    let mut members = *c;
    if let Some(members) = publication(&mut members, "ALTER").or_else(|| extension(c)) {
        return Some(members);
    }
    let object = object_words(c);
    Some(Action::Other {
        verb: "ALTER",
        object,
    })
}

/// CREATE or ALTER PUBLICATION that names tables; `None` for any other.
pub(super) fn publication(c: &mut Cursor<'_>, verb: &'static str) -> Option<Action> {
    if !c.eat("publication") {
        return None;
    }
    let name = c.ident()?;
    let replaces = c.is("set");
    if !(c.eat("for") || c.eat("add") || c.eat("drop") || c.eat("set")) || !c.is("table") {
        return None;
    }
    let mut tables = Vec::new();
    let _ = c.eat("table");
    loop {
        if c.eat("tables") {
            // IN SCHEMA: of those nothing is locked.
        } else {
            let _ = c.eat("table");
            let _ = c.eat("only");
            tables.push(c.rel()?);
        }
        // A column list, and WHERE.
        c.skip_to(|c| c.kind() == Some(TokenKind::Comma));
        if !c.eat_kind(TokenKind::Comma) {
            break;
        }
    }
    Some(Action::Members {
        verb,
        object: "PUBLICATION",
        name,
        tables,
        replaces,
    })
}

/// ALTER EXTENSION … ADD or DROP of a relation; `None` for any other.
fn extension(c: &Cursor<'_>) -> Option<Action> {
    let mut c = *c;
    if !c.eat("extension") {
        return None;
    }
    let name = c.ident()?;
    if !c.eat("add") && !c.eat("drop") {
        return None;
    }
    let relation = c.eat("table")
        || c.eat("view")
        || c.eat("materialized view")
        || c.eat("sequence")
        || c.eat("foreign table");
    Some(Action::Members {
        verb: "ALTER",
        object: "EXTENSION",
        name,
        tables: if relation { vec![c.rel()?] } else { Vec::new() },
        replaces: false,
    })
}

/// Things that have a name of their own within a table.
const ON_TABLE: [(&str, &str); 3] = [
    ("trigger", "TRIGGER"),
    ("policy", "POLICY"),
    ("rule", "RULE"),
];

fn function_change(c: &mut Cursor<'_>) -> Option<FunctionChange> {
    Some(if c.eat("rename to") {
        FunctionChange::Rename { to: c.ident()? }
    } else if c.is("set") && c.is_at(1, "schema") && !c.is_at(2, "to") {
        let _ = c.eat("set schema");
        FunctionChange::Schema { to: c.ident()? }
    } else if c.eat("owner to") {
        FunctionChange::Owner { to: grantee(c)? }
    } else if c.is("depends") || (c.is("no") && c.is_at(1, "depends")) {
        FunctionChange::Depends
    } else {
        FunctionChange::Options
    })
}

/// RENAME, SET SCHEMA and OWNER TO of a type or domain.
fn name_change(c: &mut Cursor<'_>) -> NameChange {
    let mut try_change = || {
        if c.eat("rename to") {
            return Some(NameChange::Rename { to: c.ident()? });
        }
        if c.eat("set schema") {
            return Some(NameChange::Schema { to: c.ident()? });
        }
        if c.eat("owner to") {
            return Some(NameChange::Owner { to: grantee(c)? });
        }
        if c.eat("rename value") {
            let mut value = || {
                let text = (c.kind() == Some(TokenKind::String)).then(|| c.here().to_owned());
                c.bump();
                text
            };
            let (from, _to, to) = (value()?, value(), value()?);
            return Some(NameChange::Part {
                part: "VALUE",
                from,
                to,
            });
        }
        for (words, part) in [
            ("rename attribute", "ATTRIBUTE"),
            ("rename constraint", "CONSTRAINT"),
        ] {
            if c.eat(words) {
                let from = quote::ident(&c.ident()?);
                if !c.eat("to") {
                    return None;
                }
                let to = quote::ident(&c.ident()?);
                return c.done().then_some(NameChange::Part { part, from, to });
            }
        }
        None
    };
    try_change().unwrap_or(NameChange::None)
}

fn alter_table(c: &mut Cursor<'_>) -> Option<Action> {
    if c.is("all") && c.is_at(1, "in") {
        return None;
    }
    let if_exists = c.eat("if exists");
    let only = c.eat("only");
    let name = c.rel()?;
    let _ = c.eat_operator("*");
    Some(Action::AlterTable {
        name,
        only,
        if_exists,
        head: c.span_from(c.start_of_all()),
        ops: alter::ops(*c),
    })
}

/// After the word DROP.
fn drop(c: &mut Cursor<'_>) -> Option<Action> {
    if c.eat("index") {
        return drop_index(c);
    }
    for (word, leading) in [
        ("database", "DROP DATABASE"),
        ("tablespace", "DROP TABLESPACE"),
        ("subscription", "DROP SUBSCRIPTION"),
    ] {
        if c.is(word) {
            return Some(Action::OutsideTransaction {
                leading: leading.to_owned(),
            });
        }
    }
    for (word, object) in ON_TABLE {
        if c.eat(word) {
            let if_exists = c.eat("if exists");
            let name = c.ident()?;
            let table = on_table(c)?;
            return Some(Action::DropOnTable {
                object,
                name,
                table,
                if_exists,
                cascade: c.is("cascade"),
            });
        }
    }
    let relation = [
        "table",
        "foreign table",
        "view",
        "materialized view",
        "sequence",
    ]
    .into_iter()
    .find(|words| c.eat(words));
    if let Some(relation) = relation {
        let if_exists = c.eat("if exists");
        let names = c.rels()?;
        let cascade = c.is("cascade");
        return Some(match relation {
            "table" | "foreign table" => Action::DropTable {
                names,
                if_exists,
                cascade,
            },
            "sequence" => Action::DropSequence {
                names,
                if_exists,
                cascade,
            },
            _ => Action::DropView {
                names,
                materialized: relation == "materialized view",
                if_exists,
                cascade,
            },
        });
    }
    if c.kind() != Some(TokenKind::Word) {
        return None;
    }
    let object = object_words(c);
    let if_exists = c.eat("if exists");
    let start = c.offset();
    c.finish();
    let end = c.behind();
    let names = c.text_of(c.span_from(start)).to_owned();
    let ends_with = |word: &str| {
        end.is_some_and(|t| t.kind == TokenKind::Word)
            && names.len() >= word.len()
            && names.as_bytes()[names.len() - word.len()..].eq_ignore_ascii_case(word.as_bytes())
    };
    Some(Action::Drop {
        object,
        cascade: ends_with("cascade"),
        names,
        if_exists,
    })
}

/// `FUNCTION`, `EVENT TRIGGER`, `FOREIGN DATA WRAPPER`: the words that name a kind of object,
/// upper case; steps over them. One word where it is not known.
fn object_words(c: &mut Cursor<'_>) -> String {
    const LONG: [&str; 16] = [
        "foreign data wrapper",
        "text search configuration",
        "text search dictionary",
        "text search parser",
        "text search template",
        "event trigger",
        "foreign table",
        "materialized view",
        "operator class",
        "operator family",
        "user mapping",
        "access method",
        "large object",
        "procedural language",
        "owned by",
        "constraint trigger",
    ];
    for words in LONG {
        if c.eat(words) {
            return words.to_ascii_uppercase();
        }
    }
    let word = c.here().to_ascii_uppercase();
    c.bump();
    word
}

fn drop_index(c: &mut Cursor<'_>) -> Option<Action> {
    let after_index = c.end_behind();
    let concurrently = c.eat("concurrently");
    let if_exists = c.eat("if exists");
    let (mut names, mut spans) = (Vec::new(), Vec::new());
    loop {
        let start = c.offset();
        names.push(c.rel()?);
        spans.push(c.span_from(start));
        if !c.eat_kind(TokenKind::Comma) {
            break;
        }
    }
    Some(Action::DropIndex {
        names,
        if_exists,
        concurrently,
        cascade: c.is("cascade"),
        after_index,
        spans,
    })
}

fn comment(c: &mut Cursor<'_>) -> Option<Action> {
    let target = if c.eat("table") {
        CommentTarget::Table(c.rel()?)
    } else if c.eat("column") {
        let mut parts = vec![c.ident()?];
        while c.eat_kind(TokenKind::Dot) {
            parts.push(c.ident()?);
        }
        let column = parts.pop()?;
        let name = parts.pop()?;
        CommentTarget::Column {
            table: RelName {
                schema: parts.pop(),
                name,
            },
            column,
        }
    } else if c.kind() == Some(TokenKind::Word) {
        let object = object_words(c);
        let (mut table, mut domain) = (None, None);
        let mut at = *c;
        let name = object_name(&mut at);
        if matches!(
            object.as_str(),
            "CONSTRAINT" | "TRIGGER" | "POLICY" | "RULE"
        ) {
            c.bump();
            if c.eat("on") {
                if c.eat("domain") {
                    domain = c.rel();
                } else {
                    table = c.rel();
                }
            }
        } else if is_relation(&object) {
            table = c.rel();
        }
        CommentTarget::Other {
            object,
            table,
            name,
            domain,
        }
    } else {
        return None;
    };
    Some(Action::Comment { target })
}

/// COMMENT ON these locks the object itself.
fn is_relation(object: &str) -> bool {
    matches!(
        object,
        "VIEW" | "MATERIALIZED VIEW" | "SEQUENCE" | "INDEX" | "FOREIGN TABLE"
    )
}
