//! Holds the reading of statements against `sqlparser`, where that can parse them.

use sqlparser::ast::{
    AlterColumnOperation, AlterTableOperation, ColumnOption, Ident, ObjectName, Statement,
    TableConstraint,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::tests::CORPUS;
use super::*;
use crate::catalog::ConstraintKind;

fn object(name: &ObjectName) -> String {
    let parts: Vec<String> = name
        .0
        .iter()
        .filter_map(|p| p.as_ident())
        .map(ident)
        .collect();
    parts[parts.len().saturating_sub(2)..].join(".")
}

fn ident(ident: &Ident) -> String {
    if ident.quote_style.is_some() {
        ident.value.clone()
    } else {
        ident.value.to_lowercase()
    }
}

/// What the parser library's tree says of a sub-command, in words.
fn theirs(op: &AlterTableOperation) -> String {
    match op {
        AlterTableOperation::AddColumn {
            if_not_exists,
            column_def,
            ..
        } => {
            let mut words = vec![format!(
                "add column {} {if_not_exists}",
                ident(&column_def.name)
            )];
            for option in &column_def.options {
                match &option.option {
                    ColumnOption::NotNull => words.push("not null".into()),
                    ColumnOption::Default(_) => words.push("default".into()),
                    ColumnOption::Check(_) => words.push("check".into()),
                    ColumnOption::Unique(_) => words.push("unique".into()),
                    ColumnOption::PrimaryKey(_) => words.push("primary key".into()),
                    ColumnOption::ForeignKey(key) => {
                        words.push(format!("references {}", object(&key.foreign_table)));
                    }
                    ColumnOption::Generated {
                        generation_expr, ..
                    } => words.push(
                        if generation_expr.is_some() {
                            "generated"
                        } else {
                            "identity"
                        }
                        .into(),
                    ),
                    _ => {}
                }
            }
            words.sort();
            words.join(", ")
        }
        AlterTableOperation::DropColumn {
            column_names,
            if_exists,
            drop_behavior,
            ..
        } => format!(
            "drop column {} {if_exists} {}",
            ident(&column_names[0]),
            drop_behavior
                .as_ref()
                .is_some_and(|b| b.to_string() == "CASCADE")
        ),
        AlterTableOperation::AlterColumn { column_name, op } => {
            let what = match op {
                AlterColumnOperation::SetNotNull => "set not null",
                AlterColumnOperation::DropNotNull => "drop not null",
                AlterColumnOperation::SetDefault { .. } => "set default",
                AlterColumnOperation::DropDefault => "drop default",
                AlterColumnOperation::SetDataType { using, .. } if using.is_some() => "type using",
                AlterColumnOperation::SetDataType { .. } => "type",
                AlterColumnOperation::AddGenerated { .. } => "add identity",
            };
            format!("{what} {}", ident(column_name))
        }
        AlterTableOperation::AddConstraint {
            constraint,
            not_valid,
        } => {
            let (what, name) = match constraint {
                TableConstraint::Check(c) => ("Check".to_owned(), &c.name),
                TableConstraint::ForeignKey(c) => (
                    format!(
                        "ForeignKey {} {}",
                        object(&c.foreign_table),
                        c.columns.len()
                    ),
                    &c.name,
                ),
                TableConstraint::Unique(c) => (format!("Unique {}", c.columns.len()), &c.name),
                TableConstraint::PrimaryKey(c) => {
                    (format!("PrimaryKey {}", c.columns.len()), &c.name)
                }
                TableConstraint::PrimaryKeyUsingIndex(c) => ("PrimaryKey 0".to_owned(), &c.name),
                other => panic!("{other}"),
            };
            format!("add {what} {:?} {not_valid}", name.as_ref().map(ident))
        }
        AlterTableOperation::DropConstraint {
            if_exists, name, ..
        } => format!("drop constraint {} {if_exists}", ident(name)),
        AlterTableOperation::ValidateConstraint { name } => format!("validate {}", ident(name)),
        AlterTableOperation::RenameColumn {
            old_column_name,
            new_column_name,
        } => format!(
            "rename column {} {}",
            ident(old_column_name),
            ident(new_column_name)
        ),
        AlterTableOperation::RenameConstraint { old_name, new_name } => {
            format!("rename constraint {} {}", ident(old_name), ident(new_name))
        }
        AlterTableOperation::RenameTable { .. } => "rename table".into(),
        other => format!("{other}").to_lowercase(),
    }
}

/// The same of ours.
fn ours(text: &str, op: &AlterOp) -> String {
    match &op.kind {
        AlterOpKind::AddColumn(c) => {
            let mut words = vec![format!("add column {} {}", c.name, c.if_not_exists)];
            words.extend(c.not_null.then(|| "not null".to_owned()));
            words.extend(c.default.is_some().then(|| "default".to_owned()));
            words.extend(c.generated.is_some().then(|| "generated".to_owned()));
            words.extend(c.identity.then(|| "identity".to_owned()));
            words.extend(c.constraints.iter().map(|c| match c.kind {
                ConstraintKind::Check => "check".to_owned(),
                ConstraintKind::Unique => "unique".to_owned(),
                ConstraintKind::PrimaryKey => "primary key".to_owned(),
                ConstraintKind::ForeignKey => {
                    format!("references {}", c.references.as_ref().unwrap())
                }
                other => panic!("{other:?}"),
            }));
            words.sort();
            words.join(", ")
        }
        AlterOpKind::DropColumn {
            name,
            if_exists,
            cascade,
        } => format!("drop column {name} {if_exists} {cascade}"),
        AlterOpKind::SetNotNull { column } => format!("set not null {column}"),
        AlterOpKind::DropNotNull { column } => format!("drop not null {column}"),
        AlterOpKind::SetDefault { column, .. } => format!("set default {column}"),
        AlterOpKind::DropDefault { column } => format!("drop default {column}"),
        AlterOpKind::SetType { column, using, .. } if using.is_some() => {
            format!("type using {column}")
        }
        AlterOpKind::SetType { column, .. } => format!("type {column}"),
        AlterOpKind::AddIdentity { column } => format!("add identity {column}"),
        AlterOpKind::AddConstraint(c) => {
            let what = match c.kind {
                ConstraintKind::Check => "Check".to_owned(),
                ConstraintKind::ForeignKey => format!(
                    "ForeignKey {} {}",
                    c.references.as_ref().unwrap(),
                    c.columns.len()
                ),
                kind => format!("{kind:?} {}", c.columns.len()),
            };
            format!("add {what} {:?} {}", c.name, c.not_valid)
        }
        AlterOpKind::DropConstraint {
            name, if_exists, ..
        } => format!("drop constraint {name} {if_exists}"),
        AlterOpKind::ValidateConstraint { name } => format!("validate {name}"),
        AlterOpKind::RenameColumn { from, to } => format!("rename column {from} {to}"),
        AlterOpKind::RenameConstraint { from, to } => format!("rename constraint {from} {to}"),
        AlterOpKind::RenameTable { .. } => "rename table".into(),
        _ => op.span.of(text).to_lowercase(),
    }
}

#[test]
fn agrees_with_the_parser_library() {
    let mut compared = 0;
    for text in CORPUS {
        let Ok(statements) = Parser::parse_sql(&PostgreSqlDialect {}, text) else {
            continue;
        };
        let action = understand(text);
        compared += 1;
        match (&statements[0], &action) {
            (
                Statement::AlterTable(t),
                Action::AlterTable {
                    name,
                    only,
                    if_exists,
                    ops,
                    ..
                },
            ) => {
                assert_eq!(object(&t.name), name.to_string(), "{text}");
                assert_eq!((t.only, t.if_exists), (*only, *if_exists), "{text}");
                let theirs: Vec<_> = t.operations.iter().map(theirs).collect();
                let ours: Vec<_> = ops.iter().map(|op| ours(text, op)).collect();
                assert_eq!(theirs, ours, "{text}");
            }
            (
                Statement::CreateIndex(i),
                Action::CreateIndex {
                    name,
                    table,
                    unique,
                    concurrently,
                    if_not_exists,
                    ..
                },
            ) => {
                assert_eq!(
                    i.name.as_ref().map(object),
                    name.as_ref().map(ToString::to_string)
                );
                assert_eq!(object(&i.table_name), table.to_string());
                assert_eq!(
                    (i.unique, i.concurrently, i.if_not_exists),
                    (*unique, *concurrently, *if_not_exists)
                );
            }
            (
                Statement::CreateTable(t),
                Action::CreateTable {
                    name,
                    if_not_exists,
                    as_select,
                    temporary,
                    partition_of,
                    ..
                },
            ) => {
                assert_eq!(object(&t.name), name.to_string());
                assert_eq!(
                    (
                        t.if_not_exists,
                        t.query.is_some(),
                        t.temporary,
                        t.partition_of.is_some()
                    ),
                    (
                        *if_not_exists,
                        *as_select,
                        *temporary,
                        partition_of.is_some()
                    )
                );
            }
            (
                Statement::Drop {
                    names, cascade: c, ..
                },
                Action::DropTable {
                    names: n, cascade, ..
                }
                | Action::DropIndex {
                    names: n, cascade, ..
                },
            ) => {
                let names: Vec<_> = names.iter().map(object).collect();
                assert_eq!(names, n.iter().map(ToString::to_string).collect::<Vec<_>>());
                assert_eq!(c, cascade);
            }
            (
                Statement::AlterTable(_) | Statement::CreateIndex(_) | Statement::CreateTable(_),
                a,
            ) => {
                panic!("{text}\n{a:?}")
            }
            _ => {}
        }
    }
    assert!(
        compared >= CORPUS.len(),
        "only {compared} could be compared"
    );
}
