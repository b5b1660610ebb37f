//! One line for people about a statement.

use crate::sql::ddl::{Action, AlterOpKind, RelName};
use crate::sql::lex::{TokenKind, ident_value, lex_code};

/// `view a depends on`, `view a, view b depend on`.
pub(super) fn depend_on(what: &[impl AsRef<str>]) -> String {
    let names: Vec<&str> = what.iter().map(AsRef::as_ref).collect();
    let verb = if names.len() == 1 {
        "depends"
    } else {
        "depend"
    };
    format!("{} {verb} on", names.join(", "))
}

/// True where the server's description (`view a`, `materialized view s.a`) is of the view that a
/// name means. It leaves the schema out where the search path finds the view.
pub(super) fn describes(description: &str, view: &RelName) -> bool {
    let of = ["view ", "materialized view "];
    let Some(name) = of.iter().find_map(|kind| description.strip_prefix(kind)) else {
        return false;
    };
    let words: Vec<String> = lex_code(name)
        .into_iter()
        .filter(|token| token.kind != TokenKind::Dot)
        .filter_map(|token| ident_value(token, name))
        .collect();
    match (words.as_slice(), &view.schema) {
        ([name], _) => *name == view.name,
        ([schema, name], Some(of)) => schema == of && *name == view.name,
        _ => false,
    }
}

/// What a statement does, or its beginning where that says more.
pub(super) fn title(action: &Action, sql: &str) -> String {
    match action {
        Action::CreateTable { name, .. } => format!("create table {name}"),
        Action::AlterTable { name, ops, .. } => {
            let all: Option<Vec<String>> = ops.iter().map(|op| op_title(&op.kind)).collect();
            all.map_or_else(
                || beginning(sql),
                |all| format!("{name}: {}", all.join(", ")),
            )
        }
        Action::CreateIndex {
            name,
            table,
            unique,
            ..
        } => {
            let unique = if *unique { "unique " } else { "" };
            match name {
                Some(name) => format!("create {unique}index {} on {table}", name.name),
                None => format!("create {unique}index on {table}"),
            }
        }
        Action::DropIndex { names, .. } => {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            format!("drop index {}", names.join(", "))
        }
        _ => beginning(sql),
    }
}

fn op_title(op: &AlterOpKind) -> Option<String> {
    Some(match op {
        AlterOpKind::AddColumn(def) => format!("add column {} {}", def.name, def.type_text),
        AlterOpKind::DropColumn { name, .. } => format!("drop column {name}"),
        AlterOpKind::SetNotNull { column } => format!("set {column} not null"),
        AlterOpKind::DropNotNull { column } => format!("let {column} be null"),
        AlterOpKind::SetDefault { column, expr } => format!("set default of {column} to {expr}"),
        AlterOpKind::DropDefault { column } => format!("drop default of {column}"),
        AlterOpKind::AddConstraint(def) => {
            format!(
                "add constraint {}",
                def.name.as_deref().unwrap_or("(unnamed)")
            )
        }
        AlterOpKind::DropConstraint { name, .. } => format!("drop constraint {name}"),
        AlterOpKind::ValidateConstraint { name } => format!("validate constraint {name}"),
        AlterOpKind::RenameColumn { from, to } => format!("rename column {from} to {to}"),
        AlterOpKind::RenameTable { to } => format!("rename to {to}"),
        _ => return None,
    })
}

/// The first words of a statement, white space folded, comments left out.
fn beginning(sql: &str) -> String {
    const MOST: usize = 70;
    let mut text = String::new();
    let mut end = 0;
    for token in lex_code(sql) {
        if token.span.start > end && !text.is_empty() {
            text.push(' ');
        }
        end = token.span.end;
        text.push_str(token.span.of(sql));
        if text.chars().count() > MOST {
            let cut: String = text.chars().take(MOST).collect();
            return format!("{cut}…").replace('\n', " ");
        }
    }
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::ddl::understand;

    #[test]
    fn a_description_of_the_server_is_of_a_view() {
        let view = |schema, name: &str| RelName::new(schema, name);
        for (description, view, is) in [
            ("view seen", view(None, "seen"), true),
            ("view seen", view(Some("public"), "seen"), true),
            (
                "materialized view \"S.a\".\"Seen\"",
                view(Some("S.a"), "Seen"),
                true,
            ),
            ("view other.seen", view(None, "seen"), false),
            ("view other.seen", view(Some("public"), "seen"), false),
            ("policy seen on table t", view(None, "seen"), false),
        ] {
            assert_eq!(describes(description, &view), is, "{description}");
        }
        assert_eq!(depend_on(&["view a"]), "view a depends on");
        assert_eq!(depend_on(&["view a", "view b"]), "view a, view b depend on");
    }

    fn of(sql: &str) -> String {
        title(&understand(sql), sql)
    }

    #[test]
    fn says_what_a_statement_does() {
        assert_eq!(
            of("ALTER TABLE a.b ADD c bigint, DROP COLUMN d"),
            "a.b: add column c bigint, drop column d"
        );
        assert_eq!(
            of("create unique index concurrently i on t (a)"),
            "create unique index i on t"
        );
        assert_eq!(
            of("COMMENT -- x\n  ON TABLE t\n IS 'y'"),
            "COMMENT ON TABLE t IS 'y'"
        );
        assert!(of(&format!("SELECT '{}'", "x".repeat(100))).ends_with('…'));
    }
}
