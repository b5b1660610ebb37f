//! The way back of new names, schemas and owners.

use super::{Context, Inverse, give_revert, sql};
use crate::catalog::ObjectClass;
use crate::sql::ddl::{Grantee, NameChange, ObjectName};
use crate::sql::{RelName, quote};

impl Context<'_> {
    pub(super) fn name_change(self, object: &str, name: &RelName, change: &NameChange) -> Inverse {
        let ident = quote::ident(&name.name);
        match change {
            NameChange::Rename { to } => {
                let now = RelName {
                    name: to.clone(),
                    ..name.clone()
                };
                sql(format!("ALTER {object} {} RENAME TO {ident}", now.sql()))
            }
            NameChange::Schema { to } => {
                let Some(schema) = &name.schema else {
                    return give_revert(format!(
                        "the schema that {name} was in is not known; write the name with its schema"
                    ));
                };
                sql(format!(
                    "ALTER {object} {}.{ident} SET SCHEMA {}",
                    quote::ident(to),
                    quote::ident(schema)
                ))
            }
            NameChange::Part { part, from, to } => sql(format!(
                "ALTER {object} {} RENAME {part} {to} TO {from}",
                name.sql()
            )),
            NameChange::Owner { to } => self.type_owner(object, name, to),
            NameChange::AddConstraint { name: constraint } => sql(format!(
                "ALTER {object} {} DROP CONSTRAINT {}",
                name.sql(),
                quote::ident(constraint)
            )),
            NameChange::None => give_revert(format!("what {name} was before is not kept")),
        }
    }

    pub(super) fn type_owner(self, words: &str, name: &RelName, to: &Grantee) -> Inverse {
        let named = ObjectName {
            name: name.clone(),
            signature: None,
        };
        match self.object(ObjectClass::Type, &named, None) {
            Ok(object) => self.owner_back(words, object, Some(to)),
            Err(reason) => give_revert(reason),
        }
    }
}

pub(super) fn renamed_back(object: &str, was: &RelName, to: &str) -> String {
    let now = RelName {
        schema: was.schema.clone(),
        name: to.to_owned(),
    };
    format!(
        "ALTER {object} {} RENAME TO {}",
        now.sql(),
        quote::ident(&was.name)
    )
}

pub(super) fn moved_back(object: &str, was: &RelName, to: &str) -> Inverse {
    match &was.schema {
        Some(schema) => sql(format!(
            "ALTER {object} {}.{} SET SCHEMA {}",
            quote::ident(to),
            quote::ident(&was.name),
            quote::ident(schema)
        )),
        None => give_revert(format!("the schema that {was} was in is not known")),
    }
}
