//! Tables as statements make and change them.

use std::collections::BTreeMap;

use super::MOST;
use crate::catalog::{
    Catalog, Column, Constraint, ConstraintKind, Index, Leaf, QName, RelKind, Table,
};
use crate::plan::forms::{constraint_name, created};
use crate::sql::RelName;
use crate::sql::ddl::{AlterOpKind, ColumnDef, ConstraintDef, Generated};
use crate::sql::lex::{TokenKind, ident_value, lex_code};

/// A table of which only the name is known.
pub(super) fn blank(name: QName, rows: i64) -> Table {
    Table {
        oid: 0,
        kind: RelKind::Table,
        owner: String::new(),
        owned: true,
        rows,
        bytes: 0,
        row_security: false,
        inherited: false,
        partition_of: None,
        partitioning: crate::catalog::Partitioning::default(),
        settings: crate::catalog::TableSettings::default(),
        comment: None,
        columns: Vec::new(),
        indexes: Vec::new(),
        constraints: Vec::new(),
        referenced_by: Vec::new(),
        triggers: Vec::new(),
        leaves: vec![Leaf {
            oid: 0,
            name: name.clone(),
            kind: RelKind::Table,
            access_method: "heap".to_owned(),
            blocks: 0,
            rows,
        }],
        dependents: BTreeMap::new(),
        grants: Vec::new(),
        mentions: Vec::new(),
        name,
    }
}

/// The key of CREATE INDEX: columns by name, an expression as an empty text.
pub(super) fn key_columns(sql: &str) -> Vec<String> {
    let tokens = lex_code(sql);
    let open = tokens
        .iter()
        .position(|t| t.kind == TokenKind::LParen)
        .unwrap_or(tokens.len());
    let mut columns = Vec::new();
    let mut depth = 0_usize;
    let mut starts = true;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            TokenKind::LParen => depth += 1,
            TokenKind::RParen => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && token.kind == TokenKind::Comma {
            starts = true;
        } else if starts && i > open {
            starts = false;
            let calls = tokens
                .get(i + 1)
                .is_some_and(|t| t.kind == TokenKind::LParen);
            let name = if calls {
                None
            } else {
                ident_value(*token, sql)
            };
            columns.push(name.unwrap_or_default());
        }
    }
    columns
}

pub(super) fn index(name: String, definition: &str, columns: Vec<String>, unique: bool) -> Index {
    Index {
        name,
        definition: definition.to_owned(),
        unique,
        primary: false,
        valid: true,
        columns,
        constraint: false,
        bytes: 0,
    }
}

pub(super) fn add_column(table: &mut Table, def: &ColumnDef, catalog: &Catalog) {
    if table.columns.len() >= 4 * MOST || table.column(&def.name).is_some() {
        return;
    }
    let serial = match def.type_text.to_ascii_lowercase().as_str() {
        "serial" | "serial4" => Some("integer"),
        "bigserial" | "serial8" => Some("bigint"),
        "smallserial" | "serial2" => Some("smallint"),
        _ => None,
    };
    let primary = def.has(ConstraintKind::PrimaryKey);
    table.columns.push(Column {
        name: def.name.clone(),
        type_name: serial.map_or_else(|| def.type_text.clone(), str::to_owned),
        not_null: def.not_null || primary || serial.is_some() || def.identity,
        default: def.default.clone(),
        generated: def.generated.is_some(),
        is_virtual: matches!(def.generated, Some((Generated::Virtual, _))),
        identity: def.identity.then(|| "ALWAYS".to_owned()),
        has_equality: true,
        comment: None,
        settings: crate::catalog::ColumnSettings::default(),
    });
    let columns = vec![def.name.clone()];
    for inline in &def.constraints {
        if table.constraints.len() >= MOST {
            break;
        }
        let suffix = match inline.kind {
            ConstraintKind::PrimaryKey => "pkey",
            ConstraintKind::Unique => "key",
            ConstraintKind::ForeignKey => "fkey",
            _ => "check",
        };
        let of: &[String] = if primary && inline.kind == ConstraintKind::PrimaryKey {
            &[]
        } else {
            &columns
        };
        let name = inline
            .name
            .clone()
            .unwrap_or_else(|| constraint_name(table, of, suffix));
        push_constraint(
            table,
            Constraint {
                name,
                kind: inline.kind,
                definition: String::new(),
                validated: true,
                columns: columns.clone(),
                references: inline.references.as_ref().map(|r| resolve(catalog, r)),
            },
        );
    }
}

/// Adds a constraint, and the index of a key.
fn push_constraint(table: &mut Table, constraint: Constraint) {
    if table.constraints.len() >= MOST {
        return;
    }
    if matches!(
        constraint.kind,
        ConstraintKind::PrimaryKey | ConstraintKind::Unique
    ) && table.index(&constraint.name).is_none()
    {
        table.indexes.push(Index {
            primary: constraint.kind == ConstraintKind::PrimaryKey,
            constraint: true,
            ..index(
                constraint.name.clone(),
                "",
                constraint.columns.clone(),
                true,
            )
        });
    }
    table.constraints.push(constraint);
}

fn resolve(catalog: &Catalog, name: &RelName) -> QName {
    if let Some(table) = catalog.table(name.schema.as_deref(), &name.name) {
        return table.name.clone();
    }
    let created = created(catalog, name);
    QName::new(
        created.schema.unwrap_or_else(|| "public".to_owned()),
        created.name,
    )
}

pub(super) fn add_constraint(table: &mut Table, def: &ConstraintDef, sql: &str, catalog: &Catalog) {
    let suffix = match def.kind {
        ConstraintKind::PrimaryKey => "pkey",
        ConstraintKind::Unique => "key",
        ConstraintKind::ForeignKey => "fkey",
        ConstraintKind::NotNull => "not_null",
        ConstraintKind::Exclusion => "excl",
        _ => "check",
    };
    let columns = match &def.using_index {
        Some(index) => table
            .index(index)
            .map_or_else(Vec::new, |i| i.columns.clone()),
        None => def.columns.clone(),
    };
    let named: &[String] = if def.kind == ConstraintKind::PrimaryKey {
        &[]
    } else {
        &columns
    };
    let full = table.constraints.len() >= MOST;
    let name = match &def.name {
        Some(name) => name.clone(),
        // It is not kept.
        None if full => String::new(),
        None => constraint_name(table, named, suffix),
    };
    if def.kind == ConstraintKind::PrimaryKey
        || def.kind == ConstraintKind::NotNull && !def.not_valid
    {
        for column in &mut table.columns {
            if columns.contains(&column.name) {
                column.not_null = true;
            }
        }
    }
    let definition = sql
        .get(def.body.start..def.body.end)
        .unwrap_or_default()
        .to_owned();
    push_constraint(
        table,
        Constraint {
            name,
            kind: def.kind,
            // As the catalog has it: what says NOT VALID is not in what is compared.
            definition: definition
                .trim_end_matches(|c: char| c.is_whitespace())
                .trim_end_matches("NOT VALID")
                .trim_end_matches("not valid")
                .to_owned(),
            validated: !def.not_valid,
            columns,
            references: def.references.as_ref().map(|r| resolve(catalog, r)),
        },
    );
}

/// What a sub-command changes in its own table.
pub(super) fn alter(table: &mut Table, op: &AlterOpKind, sql: &str, catalog: &Catalog) {
    match op {
        AlterOpKind::AddColumn(def) => add_column(table, def, catalog),
        AlterOpKind::DropColumn { name, .. } => {
            table.columns.retain(|c| c.name != *name);
            table.indexes.retain(|i| !i.columns.contains(name));
            table.constraints.retain(|c| !c.columns.contains(name));
        }
        AlterOpKind::SetNotNull { column } => set_column(table, column, |c| c.not_null = true),
        AlterOpKind::DropNotNull { column } => set_column(table, column, |c| c.not_null = false),
        AlterOpKind::SetDefault { column, expr } => {
            set_column(table, column, |c| c.default = Some(expr.clone()));
        }
        AlterOpKind::DropDefault { column } => set_column(table, column, |c| c.default = None),
        AlterOpKind::SetType {
            column, type_text, ..
        } => {
            // Of a column that was not known, from here on the type is.
            if table.column(column).is_none() {
                table.columns.push(Column {
                    name: column.clone(),
                    type_name: type_text.clone(),
                    not_null: false,
                    default: None,
                    generated: false,
                    is_virtual: false,
                    identity: None,
                    has_equality: true,
                    comment: None,
                    settings: crate::catalog::ColumnSettings::default(),
                });
            }
            set_column(table, column, |c| c.type_name.clone_from(type_text));
        }
        AlterOpKind::AddConstraint(def) => add_constraint(table, def, sql, catalog),
        AlterOpKind::DropConstraint { name, .. } => {
            table.constraints.retain(|c| c.name != *name);
            table.indexes.retain(|i| !(i.constraint && i.name == *name));
        }
        AlterOpKind::ValidateConstraint { name } => {
            let mut not_null = None;
            for constraint in table.constraints.iter_mut().filter(|c| c.name == *name) {
                constraint.validated = true;
                if constraint.kind == ConstraintKind::NotNull {
                    not_null = constraint.columns.first().cloned();
                }
            }
            if let Some(column) = not_null {
                set_column(table, &column, |c| c.not_null = true);
            }
        }
        AlterOpKind::RenameColumn { from, to } => {
            set_column(table, from, |c| c.name.clone_from(to));
            let lists = table
                .indexes
                .iter_mut()
                .map(|i| &mut i.columns)
                .chain(table.constraints.iter_mut().map(|c| &mut c.columns));
            for name in lists.flatten().filter(|c| *c == from) {
                name.clone_from(to);
            }
        }
        AlterOpKind::RenameConstraint { from, to } => {
            for constraint in table.constraints.iter_mut().filter(|c| c.name == *from) {
                constraint.name.clone_from(to);
            }
            for index in table.indexes.iter_mut().filter(|i| i.name == *from) {
                index.name.clone_from(to);
            }
        }
        _ => {}
    }
}

fn set_column(table: &mut Table, name: &str, change: impl FnOnce(&mut Column)) {
    if let Some(column) = table.columns.iter_mut().find(|c| c.name == name) {
        change(column);
    }
}
