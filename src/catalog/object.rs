//! Things that rights, comments and options belong to.

use serde::{Deserialize, Serialize};

use super::{Catalog, QName, RelKind};

/// What an object is, as far as its name is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectClass {
    /// Table, view, sequence, index ….
    Relation,
    /// Function or procedure.
    Function,
    /// Type or domain.
    Type,
    /// Schema.
    Schema,
    /// Constraint of a table or domain.
    Constraint,
    /// Trigger.
    Trigger,
    /// Policy.
    Policy,
    /// Rule.
    Rule,
    /// Extended statistics.
    Statistics,
    /// Collation.
    Collation,
    /// Database.
    Database,
    /// Role.
    Role,
    /// Tablespace.
    Tablespace,
    /// Language.
    Language,
    /// Extension.
    Extension,
    /// Publication.
    Publication,
    /// Event trigger.
    EventTrigger,
    /// Access method.
    AccessMethod,
    /// Foreign data wrapper.
    ForeignDataWrapper,
    /// Foreign server.
    ForeignServer,
}

/// Each with its name in a catalog query and in a fact.
pub const OBJECT_CLASSES: [(ObjectClass, &str); 20] = [
    (ObjectClass::Relation, "relation"),
    (ObjectClass::Function, "function"),
    (ObjectClass::Type, "type"),
    (ObjectClass::Schema, "schema"),
    (ObjectClass::Constraint, "constraint"),
    (ObjectClass::Trigger, "trigger"),
    (ObjectClass::Policy, "policy"),
    (ObjectClass::Rule, "rule"),
    (ObjectClass::Statistics, "statistics"),
    (ObjectClass::Collation, "collation"),
    (ObjectClass::Database, "database"),
    (ObjectClass::Role, "role"),
    (ObjectClass::Tablespace, "tablespace"),
    (ObjectClass::Language, "language"),
    (ObjectClass::Extension, "extension"),
    (ObjectClass::Publication, "publication"),
    (ObjectClass::EventTrigger, "event trigger"),
    (ObjectClass::AccessMethod, "access method"),
    (ObjectClass::ForeignDataWrapper, "foreign data wrapper"),
    (ObjectClass::ForeignServer, "server"),
];

impl ObjectClass {
    /// For people, and in facts.
    pub fn as_str(self) -> &'static str {
        OBJECT_CLASSES
            .iter()
            .find(|(class, _)| *class == self)
            .map_or("object", |(_, name)| name)
    }
}

/// One right of one role (`aclexplode`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Granted {
    /// Role; `None` for PUBLIC.
    pub grantee: Option<String>,
    /// `SELECT`, ….
    pub privilege: String,
    /// The column that it is limited to.
    pub column: Option<String>,
    /// With grant option.
    pub grantable: bool,
    /// Given by the owner, not by a role with a grant option.
    pub by_owner: bool,
}

/// An object with what GRANT, COMMENT and ALTER change of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// What it is.
    pub class: ObjectClass,
    /// Of a relation: what it is.
    pub kind: Option<RelKind>,
    /// Schema, where it is in one; of a part, that of its table or domain.
    pub schema: Option<String>,
    /// Name.
    pub name: String,
    /// Of a constraint, trigger, policy or rule: the table or domain that it is on.
    pub on: Option<String>,
    /// SQL that names it after the word of its kind: `public.f(integer)`, `c ON public.t`.
    pub identity: String,
    /// Of a function: `pg_get_function_identity_arguments`, and the types alone.
    pub arguments: Option<(String, String)>,
    /// Owner; empty where it has none of its own.
    pub owner: String,
    /// The current role has the owner's rights.
    pub owned: bool,
    /// Comment.
    pub comment: Option<String>,
    /// Of a relation: comments of its columns.
    pub column_comments: Vec<(String, String)>,
    /// Rights, the default ones too where none were ever granted.
    pub grants: Vec<Granted>,
    /// Storage parameters of a relation, `name=value`.
    pub options: Vec<String>,
    /// What makes its options as they are: `AS bigint INCREMENT BY 1 …` of a sequence, the whole
    /// definition of a function.
    pub definition: Option<String>,
    /// Made by a statement before: it was not there.
    pub made: bool,
}

impl Object {
    /// One that a statement makes.
    pub(crate) fn made(class: ObjectClass, schema: Option<&str>, name: &str) -> Self {
        Self {
            class,
            kind: None,
            schema: schema.map(str::to_owned),
            name: name.to_owned(),
            on: None,
            identity: String::new(),
            arguments: None,
            owner: String::new(),
            owned: true,
            comment: None,
            column_comments: Vec::new(),
            grants: Vec::new(),
            options: Vec::new(),
            definition: None,
            made: true,
        }
    }
}

/// Rights that objects get when they are made (`pg_default_acl`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultRights {
    /// The role that makes them.
    pub role: String,
    /// The schema that they are made in; `None` for any.
    pub schema: Option<String>,
    /// `defaclobjtype`: `r`, `S`, `f`, `T` or `n`.
    pub kind: String,
    /// Rights.
    pub grants: Vec<Granted>,
}

impl Catalog {
    /// Objects of a class and a possibly unqualified name: those in the first schema of the search
    /// path that has any, all overloads of a function.
    pub(crate) fn objects_of(
        &self,
        class: ObjectClass,
        schema: Option<&str>,
        name: &str,
        on: Option<&str>,
    ) -> Vec<&Object> {
        let named = |object: &&Object| {
            object.class == class && object.name == name && object.on.as_deref() == on
        };
        let inside = |schema: Option<&str>| -> Vec<&Object> {
            let there = |o: &&Object| named(o) && o.schema.as_deref() == schema;
            self.objects.iter().filter(there).collect()
        };
        if let Some(schema) = schema {
            return inside(Some(schema));
        }
        let outside = inside(None);
        if !outside.is_empty() {
            return outside;
        }
        self.search_path
            .iter()
            .map(|schema| inside(Some(schema)))
            .find(|found| !found.is_empty())
            .unwrap_or_default()
    }

    /// The relation of this name among the objects.
    pub(crate) fn relation_object(&self, name: &QName) -> Option<&Object> {
        self.objects_of(ObjectClass::Relation, Some(&name.schema), &name.name, None)
            .into_iter()
            .next()
    }
}
