//! The way back of COMMENT, ALTER FUNCTION, and ALTER of sequences, views and indexes.

use super::names::{moved_back, renamed_back};
use super::rights::together;
use super::{Context, Inverse, InverseStep, arguments, give_revert, sql};
use crate::catalog::{Object, ObjectClass, RelKind};
use crate::plan::forms::{existing, table};
use crate::plan::objects::{comment_class, is_called};
use crate::sql::ddl::{AlterOpKind, CommentTarget, FunctionChange, ObjectName};
use crate::sql::{RelName, quote};

impl<'c> Context<'c> {
    /// The object that a statement names.
    ///
    /// # Errors
    /// Why it is not known, for people.
    pub(super) fn object(
        self,
        class: ObjectClass,
        name: &ObjectName,
        on: Option<&RelName>,
    ) -> Result<&'c Object, String> {
        let rel = &name.name;
        let schema = match on {
            Some(on) => existing(self.before, on).schema,
            None => rel.schema.clone(),
        };
        let on = on.map(|on| on.name.as_str());
        let found = self
            .before
            .objects_of(class, schema.as_deref(), &rel.name, on);
        let unknown = || format!("{} {rel} is not known before this file", class.as_str());
        match (found.as_slice(), &name.signature) {
            ([], _) => Err(unknown()),
            ([one], _) => Ok(one),
            (many, Some(signature)) => {
                let wanted = arguments(signature);
                let mut same = many.iter().filter(|o| is_called(o, &wanted));
                same.next().copied().ok_or_else(unknown)
            }
            (many, None) => {
                let kept = many.iter().find(|o| !o.made);
                kept.copied().ok_or_else(unknown)
            }
        }
    }

    /// The file itself makes this relation.
    fn is_made(self, name: &RelName) -> bool {
        let named = ObjectName {
            name: name.clone(),
            signature: None,
        };
        self.object(ObjectClass::Relation, &named, None)
            .is_ok_and(|object| object.made)
    }

    pub(super) fn comment(self, target: &CommentTarget) -> Inverse {
        let value = |old: Option<&String>| {
            old.map_or_else(|| "NULL".to_owned(), |text| quote::literal(text))
        };
        match target {
            CommentTarget::Table(name) => match table(self.before, name) {
                Some(table) => sql(format!(
                    "COMMENT ON TABLE {} IS {}",
                    self.existing(name),
                    value(table.comment.as_ref())
                )),
                None if self.is_made(name) => Inverse::Nothing,
                None => give_revert(format!("the comment that {name} had is not known")),
            },
            CommentTarget::Column {
                table: name,
                column,
            } => {
                let at = format!("{}.{}", self.existing(name), quote::ident(column));
                if let Some(table) = table(self.before, name) {
                    return match table.column(column) {
                        Some(found) => sql(format!(
                            "COMMENT ON COLUMN {at} IS {}",
                            value(found.comment.as_ref())
                        )),
                        None => give_revert(format!(
                            "the comment that {name}.{column} had is not known"
                        )),
                    };
                }
                let object = ObjectName {
                    name: name.clone(),
                    signature: None,
                };
                match self.object(ObjectClass::Relation, &object, None) {
                    Ok(object) if object.made => Inverse::Nothing,
                    Ok(object) => {
                        let old = object.column_comments.iter().find(|(c, _)| c == column);
                        sql(format!(
                            "COMMENT ON COLUMN {}.{} IS {}",
                            object.identity,
                            quote::ident(column),
                            value(old.map(|(_, text)| text))
                        ))
                    }
                    Err(reason) => give_revert(reason),
                }
            }
            CommentTarget::Other {
                object: words,
                table,
                name,
                domain,
            } => {
                let (Some(class), Some(name)) = (comment_class(words), name) else {
                    return give_revert(format!(
                        "the comment that the {} had is not known",
                        words.to_lowercase()
                    ));
                };
                let part = matches!(
                    class,
                    ObjectClass::Constraint
                        | ObjectClass::Trigger
                        | ObjectClass::Policy
                        | ObjectClass::Rule
                );
                let on = if part {
                    table.as_ref().or(domain.as_ref())
                } else {
                    None
                };
                // What is on a table of the file's own goes with it.
                if on.is_some_and(|on| self.is_made(on)) {
                    return Inverse::Nothing;
                }
                match self.object(class, name, on) {
                    Ok(object) if object.made => Inverse::Nothing,
                    Ok(object) => sql(format!(
                        "COMMENT ON {words} {} IS {}",
                        object.identity,
                        value(object.comment.as_ref())
                    )),
                    Err(reason) => give_revert(reason),
                }
            }
        }
    }

    pub(super) fn alter_function(self, function: &ObjectName, change: &FunctionChange) -> Inverse {
        let object = match self.object(ObjectClass::Function, function, None) {
            Ok(object) => object,
            Err(reason) => return give_revert(reason),
        };
        if object.made {
            return match change {
                // It is dropped by the name that it was made with.
                FunctionChange::Rename { .. } | FunctionChange::Schema { .. } => give_revert(
                    "a function is renamed that the file itself makes; make it with that name",
                ),
                _ => Inverse::Nothing,
            };
        }
        let schema = object.schema.as_deref().unwrap_or_default();
        let (arguments, _) = object.arguments.clone().unwrap_or_default();
        let called = |schema: &str, name: &str| {
            format!(
                "{}.{}({arguments})",
                quote::ident(schema),
                quote::ident(name)
            )
        };
        match change {
            FunctionChange::Rename { to } => sql(format!(
                "ALTER ROUTINE {} RENAME TO {}",
                called(schema, to),
                quote::ident(&object.name)
            )),
            FunctionChange::Schema { to } => sql(format!(
                "ALTER ROUTINE {} SET SCHEMA {}",
                called(to, &object.name),
                quote::ident(schema)
            )),
            FunctionChange::Owner { to } => self.owner_back("ROUTINE", object, Some(to)),
            FunctionChange::Depends => {
                give_revert("the extensions that the function depended on are not kept")
            }
            FunctionChange::Options => match &object.definition {
                Some(definition) => sql(definition.clone()),
                None => give_revert(format!(
                    "the definition of {} is not known",
                    object.identity
                )),
            },
        }
    }

    pub(super) fn alter_relation(self, kind: RelKind, name: &RelName, op: &AlterOpKind) -> Inverse {
        let words = match kind {
            RelKind::Index => "INDEX",
            RelKind::View => "VIEW",
            RelKind::MaterializedView => "MATERIALIZED VIEW",
            _ => "SEQUENCE",
        };
        let found = existing(self.before, name);
        match op {
            AlterOpKind::RenameTable { to } => return sql(renamed_back(words, &found, to)),
            AlterOpKind::SetSchema { to } => return moved_back(words, &found, to),
            AlterOpKind::RenameColumn { from, to } => {
                return sql(format!(
                    "ALTER {words} {} RENAME COLUMN {} TO {}",
                    found.sql(),
                    quote::ident(to),
                    quote::ident(from)
                ));
            }
            _ => {}
        }
        let named = ObjectName {
            name: name.clone(),
            signature: None,
        };
        let object = match self.object(ObjectClass::Relation, &named, None) {
            Ok(object) if object.made => return Inverse::Nothing,
            Ok(object) => object,
            Err(reason) => return give_revert(reason),
        };
        match (op, &object.definition) {
            (AlterOpKind::Owner { to }, _) => self.owner_back(words, object, to.as_ref()),
            (AlterOpKind::SetOptions { names }, _) => together(
                options_back(names, &object.options)
                    .into_iter()
                    .map(|part| format!("ALTER {words} {} {part}", object.identity))
                    .collect(),
            ),
            (AlterOpKind::SequenceOptions { restart }, Some(definition)) => {
                let mut step =
                    InverseStep::new(format!("ALTER SEQUENCE {} {definition}", object.identity));
                step.lost = restart.then(|| {
                    format!("where {name} stood before RESTART: it goes on from where it is then")
                });
                Inverse::Sql(vec![step])
            }
            _ => give_revert(format!("what {name} was before is not kept")),
        }
    }
}

/// `SET (…)` and `RESET (…)` that bring options back; `old` is `name=value`.
pub(super) fn options_back(names: &[String], old: &[String]) -> Vec<String> {
    let (mut set, mut reset) = (Vec::new(), Vec::new());
    for name in names {
        let is = |o: &&String| {
            o.split_once('=')
                .is_some_and(|(n, _)| n.eq_ignore_ascii_case(name))
        };
        match old.iter().find(is) {
            Some(old) => set.push(old.replacen('=', " = ", 1)),
            None => reset.push(name.clone()),
        }
    }
    [("SET", set), ("RESET", reset)]
        .into_iter()
        .filter(|(_, parts)| !parts.is_empty())
        .map(|(word, parts)| format!("{word} ({})", parts.join(", ")))
        .collect()
}
