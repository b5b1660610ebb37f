//! CREATE.

use super::column::{column_def, table_constraint};
use super::{Action, ColumnDef, ConstraintDef, Cursor, PartitionDef, RelName};
use crate::sql::lex::{TokenKind, lex_code};

/// What a CREATE TABLE says of its columns and constraints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableElements {
    /// Columns, in order.
    pub columns: Vec<ColumnDef>,
    /// Table constraints, in order.
    pub constraints: Vec<ConstraintDef>,
    /// PARTITION BY.
    pub partitioned: bool,
    /// `PARTITION OF … DEFAULT`.
    pub default_partition: bool,
}

/// The columns and constraints of a CREATE TABLE; an element that is not understood is left out.
/// Empty for any other statement. Spans are of `text`.
pub fn table_elements(text: &str) -> TableElements {
    let tokens = lex_code(text);
    let mut c = Cursor::new(text, &tokens);
    let mut found = TableElements::default();
    c.skip_to(|c| c.is("table"));
    c.bump();
    let _ = c.eat("if not exists");
    if c.rel().is_none() {
        return found;
    }
    if c.eat("partition of") || c.eat("of") {
        let _ = c.rel();
    }
    if let Some(group) = c.group() {
        for mut element in group.split_commas() {
            if element.is("like") {
                continue;
            }
            let mut constraint = element;
            let is_constraint = constraint.is_any(&[
                "constraint",
                "check",
                "unique",
                "primary",
                "foreign",
                "exclude",
            ]);
            if is_constraint && let Some(def) = table_constraint(&mut constraint) {
                found.constraints.push(def);
            } else if let Some(def) = column_def(&mut element, false) {
                found.columns.push(def);
            }
        }
    }
    found.default_partition = c.eat("default");
    c.skip_to(|c| c.is("partition") && c.is_at(1, "by"));
    found.partitioned = !c.done();
    found
}

/// After the word CREATE.
pub(super) fn create(c: &mut Cursor<'_>) -> Option<Action> {
    let or_replace = c.eat("or replace");
    let temporary = {
        let _ = c.eat("global") || c.eat("local");
        c.eat("temporary") || c.eat("temp")
    };
    let _ = c.eat("unlogged");
    if c.eat("foreign table") {
        return table(c, temporary, true);
    }
    if c.eat("table") {
        return table(c, temporary, false);
    }
    if c.is("unique") && c.is_at(1, "index") {
        let _ = c.eat("unique");
        return index(c, true);
    }
    if c.is("index") {
        return index(c, false);
    }
    let materialized = c.eat("materialized view");
    if materialized || c.eat("recursive view") || c.eat("view") {
        let if_not_exists = c.eat("if not exists");
        return Some(Action::CreateView {
            name: c.rel()?,
            or_replace,
            materialized,
            if_not_exists,
            temporary,
        });
    }
    if c.eat("sequence") {
        let if_not_exists = c.eat("if not exists");
        return Some(Action::CreateSequence {
            name: c.rel()?,
            if_not_exists,
        });
    }
    if c.eat("type") {
        return Some(Action::CreateType { name: c.rel()? });
    }
    if c.eat("domain") {
        return Some(Action::CreateDomain { name: c.rel()? });
    }
    if c.eat("schema") {
        return schema(c);
    }
    if c.eat("extension") {
        let if_not_exists = c.eat("if not exists");
        return Some(Action::CreateExtension {
            name: c.ident()?,
            if_not_exists,
        });
    }
    for (word, object) in [
        ("function", "FUNCTION"),
        ("procedure", "PROCEDURE"),
        ("aggregate", "AGGREGATE"),
    ] {
        if c.eat(word) {
            return Some(Action::CreateFunction {
                object,
                name: c.rel()?,
                or_replace,
                signature: signature(c),
            });
        }
    }
    if c.eat("trigger") || c.eat("constraint trigger") {
        let name = c.ident()?;
        let table = on_table(c)?;
        c.skip_to(|c| c.is("for") && !c.is_at(1, "referencing"));
        return Some(Action::CreateTrigger {
            name,
            table,
            or_replace,
            row: c.eat("for each row") || c.eat("for row"),
        });
    }
    if c.eat("policy") {
        let name = c.ident()?;
        return Some(Action::CreatePolicy {
            name,
            table: on_table(c)?,
        });
    }
    if c.eat("rule") {
        let name = c.ident()?;
        c.skip_to(|c| c.is("to"));
        c.bump();
        return Some(Action::CreateRule {
            name,
            table: c.rel()?,
            or_replace,
        });
    }
    if c.eat("statistics") {
        return Some(statistics(c));
    }
    if c.is("publication")
        && let Some(members) = super::other::publication(&mut c.clone(), "CREATE")
    {
        return Some(members);
    }
    for (words, object) in [
        ("event trigger", "EVENT TRIGGER"),
        ("role", "ROLE"),
        ("user mapping", "USER MAPPING"),
        ("user", "USER"),
        ("group", "GROUP"),
        ("collation", "COLLATION"),
        ("cast", "CAST"),
        ("operator class", "OPERATOR CLASS"),
        ("operator family", "OPERATOR FAMILY"),
        ("operator", "OPERATOR"),
        ("text search", "TEXT SEARCH"),
        ("publication", "PUBLICATION"),
        ("server", "SERVER"),
        ("foreign data wrapper", "FOREIGN DATA WRAPPER"),
        ("language", "LANGUAGE"),
        ("trusted language", "LANGUAGE"),
        ("access method", "ACCESS METHOD"),
        ("conversion", "CONVERSION"),
        ("transform", "TRANSFORM"),
    ] {
        if c.eat(words) {
            return Some(Action::Other {
                verb: "CREATE",
                object: object.to_owned(),
            });
        }
    }
    for (word, leading) in [
        ("database", "CREATE DATABASE"),
        ("tablespace", "CREATE TABLESPACE"),
        ("subscription", "CREATE SUBSCRIPTION"),
    ] {
        if c.eat(word) {
            return Some(Action::OutsideTransaction {
                leading: leading.to_owned(),
            });
        }
    }
    None
}

fn table(c: &mut Cursor<'_>, temporary: bool, foreign: bool) -> Option<Action> {
    let if_not_exists = c.eat("if not exists");
    let name = c.rel()?;
    let mut partition_of = None;
    if c.eat("partition of") {
        partition_of = Some(c.rel()?);
    }
    let mut like = Vec::new();
    let mut references = Vec::new();
    let elements = c.kind() == Some(TokenKind::LParen);
    if elements && let Some(group) = c.group() {
        for mut element in group.split_commas() {
            if element.eat("like") {
                like.extend(element.rel());
                continue;
            }
            // REFERENCES is reserved: outside a group it can only be the constraint.
            element.skip_to(|e| e.is("references"));
            while element.eat("references") {
                references.extend(element.rel());
                element.skip_to(|e| e.is("references"));
            }
        }
    }
    let mut inherits = Vec::new();
    if c.eat("inherits")
        && let Some(mut group) = c.group()
    {
        inherits = group.rels()?;
    }
    let partition = if partition_of.is_some() {
        partition(c, elements)
    } else {
        None
    };
    c.skip_to(|c| c.is("as"));
    Some(Action::CreateTable {
        partition,
        name,
        if_not_exists,
        partition_of,
        inherits,
        like,
        references,
        as_select: c.is("as"),
        temporary,
        foreign,
    })
}

/// The bound of a partition and what follows it.
fn partition(c: &mut Cursor<'_>, elements: bool) -> Option<PartitionDef> {
    let start = c.offset();
    if c.eat("for values") {
        if c.eat("from") {
            c.parens()?;
            if !c.eat("to") {
                return None;
            }
        } else if !c.eat("in") && !c.eat("with") {
            return None;
        }
        c.parens()?;
    } else if !c.eat("default") {
        return None;
    }
    let bound = c.span_from(start);
    let start = c.end_behind();
    c.finish();
    Some(PartitionDef {
        elements,
        bound,
        rest: c.span_from(start),
    })
}

fn index(c: &mut Cursor<'_>, unique: bool) -> Option<Action> {
    c.bump();
    let after_index = c.end_behind();
    let concurrently = c.eat("concurrently");
    let if_not_exists = c.eat("if not exists");
    // ON is reserved: an index cannot have that name unless quoted.
    let name = if c.is("on") { None } else { Some(c.rel()?) };
    if !c.eat("on") {
        return None;
    }
    let only = c.eat("only");
    let table = c.rel()?;
    Some(Action::CreateIndex {
        name,
        table,
        only,
        unique,
        concurrently,
        if_not_exists,
        after_index,
        after_table: c.end_behind(),
    })
}

fn schema(c: &mut Cursor<'_>) -> Option<Action> {
    let if_not_exists = c.eat("if not exists");
    let name = if c.is("authorization") {
        None
    } else {
        Some(c.ident()?)
    };
    if c.eat("authorization") {
        c.ident()?;
    }
    Some(Action::CreateSchema {
        name,
        if_not_exists,
        elements: !c.done(),
    })
}

/// `ON table` somewhere ahead. In CREATE TRIGGER the events come first: `UPDATE OF a, b ON t`.
pub(super) fn on_table(c: &mut Cursor<'_>) -> Option<RelName> {
    c.skip_to(|c| c.is("on"));
    c.bump();
    c.rel()
}

/// The parameters of a function without their defaults, which DROP FUNCTION does not take.
fn signature(c: &mut Cursor<'_>) -> Option<String> {
    let group = c.group()?;
    if group.done() {
        return Some("()".to_owned());
    }
    let parameters: Vec<&str> = group
        .split_commas()
        .into_iter()
        .map(|mut parameter| {
            let start = parameter.offset();
            parameter.skip_to(|p| {
                p.is("default")
                    || (p.kind() == Some(TokenKind::Operator) && matches!(p.here(), "=" | ":="))
            });
            parameter.text_of(parameter.span_from(start))
        })
        .collect();
    Some(format!("({})", parameters.join(", ")))
}

fn statistics(c: &mut Cursor<'_>) -> Action {
    let if_not_exists = c.eat("if not exists");
    let name = if c.is("on") || c.kind() == Some(TokenKind::LParen) {
        None
    } else {
        c.rel()
    };
    c.skip_to(|c| c.is("from"));
    c.bump();
    Action::CreateStatistics {
        name,
        table: c.rel(),
        if_not_exists,
    }
}
