//! Objects of which a migration changes rights, comments, owners or options: what of the catalog
//! is read for their ways back, and what of them a statement makes.

use crate::catalog::{Catalog, Object, ObjectClass};
use crate::migration::Migration;
use crate::sql::RelName;
use crate::sql::ddl::{Action, AlterOpKind, CommentTarget, NameChange, Rights, RightsOn};

use super::forms::created;
use super::inverse::arguments;
use super::sections::Sections;

/// What is read of the catalog beside the relations.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct WantedObjects {
    /// Names of objects of any kind.
    pub names: Vec<String>,
    /// Schemas of which every object counts.
    pub schemas: Vec<String>,
    /// The rights that new objects get.
    pub defaults: bool,
}

/// The objects of which a migration changes what GRANT, COMMENT and ALTER change.
pub fn wanted_objects(migration: &Migration) -> WantedObjects {
    let mut wanted = WantedObjects::default();
    for known in Sections::of(migration).statements() {
        wanted.add(&known.action);
    }
    for list in [&mut wanted.names, &mut wanted.schemas] {
        list.sort();
        list.dedup();
    }
    wanted
}

impl WantedObjects {
    fn add(&mut self, action: &Action) {
        match action {
            Action::Grant {
                rights: Some(rights),
            }
            | Action::Revoke {
                rights: Some(rights),
            } => {
                let names = rights.names.iter().map(|n| n.name.name.clone());
                if rights.in_schema {
                    self.schemas.extend(names);
                } else {
                    self.names.extend(names);
                }
            }
            Action::DefaultPrivileges { .. } => self.defaults = true,
            Action::Comment {
                target: CommentTarget::Other { name, .. },
            } => self.names.extend(name.iter().map(|n| n.name.name.clone())),
            Action::Comment {
                target: CommentTarget::Column { table, .. },
            } => self.names.push(table.name.clone()),
            Action::AlterTable { name, ops, .. } => {
                let owner =
                    |op: &crate::sql::ddl::AlterOp| matches!(op.kind, AlterOpKind::Owner { .. });
                if ops.iter().any(owner) {
                    self.names.push(name.name.clone());
                }
            }
            Action::AlterRelation { name, .. }
            | Action::AlterType {
                name,
                change: NameChange::Owner { .. },
                ..
            }
            | Action::AlterDomain {
                name,
                change: NameChange::Owner { .. },
                ..
            } => self.names.push(name.name.clone()),
            Action::AlterFunction { function, .. } => self.names.push(function.name.name.clone()),
            _ => {}
        }
    }
}

/// What rights are on, as a class of objects.
pub(super) fn class_of(rights: &Rights) -> ObjectClass {
    match rights.on {
        RightsOn::Table | RightsOn::Sequence => ObjectClass::Relation,
        RightsOn::Function => ObjectClass::Function,
        RightsOn::Type => ObjectClass::Type,
        RightsOn::Schema => ObjectClass::Schema,
        RightsOn::Database => ObjectClass::Database,
        RightsOn::Tablespace => ObjectClass::Tablespace,
        RightsOn::Language => ObjectClass::Language,
        RightsOn::ForeignDataWrapper => ObjectClass::ForeignDataWrapper,
        RightsOn::ForeignServer => ObjectClass::ForeignServer,
    }
}

/// The class of the words after COMMENT ON; `None` for what is not looked up by a name.
pub(super) fn comment_class(words: &str) -> Option<ObjectClass> {
    Some(match words {
        "VIEW" | "MATERIALIZED VIEW" | "SEQUENCE" | "INDEX" | "FOREIGN TABLE" => {
            ObjectClass::Relation
        }
        "FUNCTION" | "PROCEDURE" | "ROUTINE" => ObjectClass::Function,
        "TYPE" | "DOMAIN" => ObjectClass::Type,
        "SCHEMA" => ObjectClass::Schema,
        "CONSTRAINT" => ObjectClass::Constraint,
        "TRIGGER" => ObjectClass::Trigger,
        "POLICY" => ObjectClass::Policy,
        "RULE" => ObjectClass::Rule,
        "STATISTICS" => ObjectClass::Statistics,
        "COLLATION" => ObjectClass::Collation,
        "DATABASE" => ObjectClass::Database,
        "ROLE" => ObjectClass::Role,
        "TABLESPACE" => ObjectClass::Tablespace,
        "LANGUAGE" | "PROCEDURAL LANGUAGE" => ObjectClass::Language,
        "EXTENSION" => ObjectClass::Extension,
        "PUBLICATION" => ObjectClass::Publication,
        "EVENT TRIGGER" => ObjectClass::EventTrigger,
        "ACCESS METHOD" => ObjectClass::AccessMethod,
        "FOREIGN DATA WRAPPER" => ObjectClass::ForeignDataWrapper,
        "SERVER" => ObjectClass::ForeignServer,
        _ => return None,
    })
}

/// Adds to the catalog what a statement makes, where it was not there.
pub(super) fn follow(catalog: &mut Catalog, action: &Action) {
    let mut made: Vec<Object> = Vec::new();
    {
        let mut add = |class, name: &RelName| {
            let name = created(catalog, name);
            made.push(Object::made(class, name.schema.as_deref(), &name.name));
        };
        match action {
            Action::CreateTable { name, .. } => {
                add(ObjectClass::Relation, name);
                // A table is a type too, and the constraints in it have names.
            }
            Action::CreateView { name, .. } | Action::CreateSequence { name, .. } => {
                add(ObjectClass::Relation, name);
            }
            Action::CreateIndex {
                name: Some(name),
                table,
                ..
            } => {
                let on = super::forms::existing(catalog, table);
                let schema = on.schema.or_else(|| created(catalog, table).schema);
                add(
                    ObjectClass::Relation,
                    &RelName {
                        schema,
                        name: name.name.clone(),
                    },
                );
            }
            Action::CreateType { name } | Action::CreateDomain { name } => {
                add(ObjectClass::Type, name);
            }
            Action::CreateStatistics {
                name: Some(name), ..
            } => add(ObjectClass::Statistics, name),
            Action::CreateFunction {
                name,
                signature: Some(signature),
                ..
            } => {
                add(ObjectClass::Function, name);
                if let Some(function) = made.last_mut() {
                    let text = arguments(signature);
                    function.arguments = Some((text.clone(), text));
                }
            }
            Action::CreateSchema {
                name: Some(name), ..
            } => made.push(Object::made(ObjectClass::Schema, None, name)),
            Action::CreateExtension { name, .. } => {
                made.push(Object::made(ObjectClass::Extension, None, name));
            }
            Action::CreateTrigger { name, table, .. } => {
                made.extend(part(catalog, ObjectClass::Trigger, name, table));
            }
            Action::CreatePolicy { name, table } => {
                made.extend(part(catalog, ObjectClass::Policy, name, table));
            }
            Action::CreateRule { name, table, .. } => {
                made.extend(part(catalog, ObjectClass::Rule, name, table));
            }
            Action::AlterTable { name, ops, .. } => {
                for op in ops {
                    if let AlterOpKind::AddConstraint(def) = &op.kind
                        && let Some(constraint) = &def.name
                    {
                        made.extend(part(catalog, ObjectClass::Constraint, constraint, name));
                    }
                }
            }
            _ => {}
        }
    }
    for object in made {
        let maybe = catalog.note_object(&object.name);
        let same = |o: &Object| {
            let same = o.class == object.class
                && o.schema == object.schema
                && o.name == object.name
                && o.on == object.on;
            same && (o.class != ObjectClass::Function
                || is_called(o, object.arguments.as_ref().map_or("", |(text, _)| text)))
        };
        if !maybe || !catalog.objects.iter().any(same) {
            catalog.objects.push(object);
        }
    }
}

/// Something of its own name on a table.
fn part(catalog: &Catalog, class: ObjectClass, name: &str, table: &RelName) -> Option<Object> {
    let on = super::forms::existing(catalog, table);
    let schema = on.schema.or_else(|| created(catalog, table).schema)?;
    let mut object = Object::made(class, Some(&schema), name);
    object.on = Some(on.name);
    Some(object)
}

/// The function has these arguments, written with names or without, as [`arguments`] gives them.
pub(super) fn is_called(function: &Object, wanted: &str) -> bool {
    function
        .arguments
        .as_ref()
        .is_some_and(|(all, types)| arguments(all) == wanted || arguments(types) == wanted)
}
