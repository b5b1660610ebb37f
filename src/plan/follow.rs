//! What a statement leaves for those after it: the columns, constraints and indexes that it makes
//! or drops, as far as the safe form and the way back of a later statement ask.

use crate::catalog::{Catalog, Column, Constraint, ConstraintKind, Index, QName, Table};
use crate::sql::ddl::{Action, AlterOpKind, ColumnDef, ConstraintDef, RelName, understand};
use crate::sql::lex::{TokenKind, ident_value, lex_code};

/// Follows one statement, in the form in which it runs. `column` makes the catalog's column of a
/// definition.
pub(super) fn follow(
    catalog: &mut Catalog,
    sql: &str,
    column: impl Fn(&QName, &ColumnDef) -> Column,
) {
    let action = understand(sql);
    super::objects::follow(catalog, &action);
    match action {
        Action::AlterTable { name, ops, .. } => {
            let Some(found) = found(catalog, &name) else {
                return;
            };
            for op in ops {
                let Some(table) = catalog.tables.get_mut(&found) else {
                    return;
                };
                match op.kind {
                    AlterOpKind::AddColumn(def) if table.column(&def.name).is_none() => {
                        table.columns.push(column(&found, &def));
                    }
                    AlterOpKind::SetNotNull { column } => set_not_null(table, &column),
                    AlterOpKind::AddConstraint(def) => {
                        add_constraint(catalog, &found, &def, sql);
                        catalog.note_places(&found);
                    }
                    AlterOpKind::DropDefault { column } => {
                        for column in table.columns.iter_mut().filter(|c| c.name == column) {
                            column.default = None;
                        }
                    }
                    AlterOpKind::ValidateConstraint { name } => validate(table, &name),
                    AlterOpKind::DropConstraint { name, .. } => {
                        table.constraints.retain(|c| c.name != name);
                        table.indexes.retain(|i| !i.constraint || i.name != name);
                    }
                    AlterOpKind::RenameColumn { from, to } => rename_column(table, &from, &to),
                    // What the statement says of the table by another name does not follow it.
                    AlterOpKind::RenameTable { to } => {
                        let to = QName::new(found.schema.as_str(), to);
                        if let Some(mut table) = catalog.tables.remove(&found) {
                            table.name = to.clone();
                            catalog.tables.insert(to.clone(), table);
                            catalog.note_places(&to);
                        }
                        return;
                    }
                    _ => {}
                }
            }
        }
        Action::CreateIndex {
            name: Some(name),
            table,
            unique,
            ..
        } => {
            let Some(found) = found(catalog, &table) else {
                return;
            };
            let maybe = catalog.may_have_index(&found, &name.name);
            let Some(table) = catalog.tables.get_mut(&found) else {
                return;
            };
            if !maybe || table.index(&name.name).is_none() {
                table.indexes.push(Index {
                    name: name.name.clone(),
                    // Not one to build again where a constraint takes it over: it goes as well.
                    definition: String::new(),
                    unique,
                    primary: false,
                    valid: true,
                    columns: index_columns(sql),
                    constraint: false,
                    bytes: 0,
                });
                catalog.note_index(&found, &name.name);
            }
        }
        _ => {}
    }
}

fn found(catalog: &Catalog, name: &RelName) -> Option<QName> {
    catalog
        .table(name.schema.as_deref(), &name.name)
        .map(|t| t.name.clone())
}

fn rename_column(table: &mut Table, from: &str, to: &str) {
    let put = |name: &mut String| {
        if name == from {
            to.clone_into(name);
        }
    };
    table.columns.iter_mut().for_each(|c| put(&mut c.name));
    let indexes = table.indexes.iter_mut().flat_map(|i| &mut i.columns);
    let constraints = table.constraints.iter_mut().flat_map(|c| &mut c.columns);
    indexes.chain(constraints).for_each(put);
}

fn set_not_null(table: &mut Table, column: &str) {
    for column in table.columns.iter_mut().filter(|c| c.name == column) {
        column.not_null = true;
    }
}

fn validate(table: &mut Table, name: &str) {
    let mut columns = Vec::new();
    for constraint in table.constraints.iter_mut().filter(|c| c.name == name) {
        constraint.validated = true;
        if constraint.kind == ConstraintKind::NotNull {
            columns.clone_from(&constraint.columns);
        }
    }
    for column in columns {
        set_not_null(table, &column);
    }
}

fn add_constraint(catalog: &mut Catalog, on: &QName, def: &ConstraintDef, sql: &str) {
    let references = def
        .references
        .as_ref()
        .and_then(|name| found(catalog, name));
    let Some(table) = catalog.tables.get_mut(on) else {
        return;
    };
    let Some(name) = &def.name else {
        return;
    };
    let body = def.body.of(sql);
    let columns = match def.kind {
        ConstraintKind::Check => {
            let named = |column: &&Column| {
                lex_code(body)
                    .into_iter()
                    .any(|t| ident_value(t, body).is_some_and(|n| n == column.name))
            };
            let columns = table.columns.iter().filter(named);
            columns.map(|c| c.name.clone()).collect()
        }
        _ => match &def.using_index {
            Some(index) => table
                .index(index)
                .map_or_else(Vec::new, |i| i.columns.clone()),
            None => def.columns.clone(),
        },
    };
    if let Some(index) = &def.using_index {
        for index in table.indexes.iter_mut().filter(|i| i.name == *index) {
            index.name.clone_from(name);
            index.constraint = true;
            index.primary = def.kind == ConstraintKind::PrimaryKey;
        }
    }
    let validated = !def.not_valid && !def.not_enforced;
    if def.kind == ConstraintKind::PrimaryKey || (def.kind == ConstraintKind::NotNull && validated)
    {
        for column in &columns {
            set_not_null(table, column);
        }
    }
    if table.constraint(name).is_none() {
        table.constraints.push(Constraint {
            name: name.clone(),
            kind: def.kind,
            definition: without_not_valid(body),
            validated,
            columns,
            references,
        });
    }
}

/// As `pg_get_constraintdef` gives it once it is validated.
fn without_not_valid(body: &str) -> String {
    let tokens = lex_code(body);
    match tokens.as_slice() {
        [.., not, valid]
            if not.text(body).eq_ignore_ascii_case("not")
                && valid.text(body).eq_ignore_ascii_case("valid") =>
        {
            body[..not.span.start].trim_end().to_owned()
        }
        _ => body.to_owned(),
    }
}

/// The plain key columns of CREATE INDEX, in order; empty for an expression.
fn index_columns(sql: &str) -> Vec<String> {
    let tokens = lex_code(sql);
    let Some(open) = tokens.iter().position(|t| t.kind == TokenKind::LParen) else {
        return Vec::new();
    };
    let (mut depth, mut columns, mut first) = (0_usize, Vec::new(), true);
    for token in &tokens[open..] {
        match token.kind {
            TokenKind::LParen => {
                if depth == 1 {
                    // `lower(a)`, `(a + b)`
                    if !first {
                        columns.pop();
                    }
                    columns.push(String::new());
                    first = false;
                }
                depth += 1;
            }
            TokenKind::RParen => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            TokenKind::Comma if depth == 1 => first = true,
            _ if depth == 1 && first => {
                columns.push(ident_value(*token, sql).unwrap_or_default());
                first = false;
            }
            _ => {}
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::safe::{Safe, safe_form};
    use crate::plan::testing::{catalog, column};

    fn after(major: u32, statements: &[&str]) -> Catalog {
        let mut catalog = catalog(major);
        for sql in statements {
            follow(&mut catalog, sql, |_, def| {
                column(&def.name, &def.type_text)
            });
        }
        catalog
    }

    #[test]
    fn what_is_proven_by_hand_is_not_proven_again() {
        let catalog = after(
            15,
            &[
                "ALTER TABLE orders ADD CONSTRAINT c CHECK (total IS NOT NULL) NOT VALID",
                "ALTER TABLE orders VALIDATE CONSTRAINT c",
            ],
        );
        for (text, as_is) in [
            ("ALTER TABLE orders ALTER total SET NOT NULL", true),
            ("ALTER TABLE orders ALTER note SET NOT NULL", false),
        ] {
            let form = safe_form(text, &understand(text), &catalog);
            assert_eq!(form == Safe::AsIs, as_is, "{text}: {form:?}");
        }
    }

    #[test]
    fn an_index_and_what_takes_it_over() {
        let catalog = after(
            15,
            &[
                "ALTER TABLE orders ADD COLUMN n int",
                "CREATE UNIQUE INDEX CONCURRENTLY i ON orders (n, lower(email), (total + 1) DESC, id)",
                "ALTER TABLE orders ADD CONSTRAINT k UNIQUE USING INDEX i",
            ],
        );
        let table = catalog.table(None, "orders").expect("orders");
        let index = table.index("k").expect("renamed to the constraint");
        assert_eq!(index.columns, ["n", "", "", "id"]);
        assert!(index.constraint && table.index("i").is_none());
        assert_eq!(table.constraint("k").expect("k").columns, index.columns);
    }

    #[test]
    fn the_definition_is_the_validated_one() {
        assert_eq!(
            without_not_valid("CHECK (a > 0) NOT VALID"),
            "CHECK (a > 0)"
        );
        assert_eq!(without_not_valid("CHECK (a > 0)"), "CHECK (a > 0)");
    }
}
