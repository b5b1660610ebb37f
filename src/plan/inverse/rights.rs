//! The way back of GRANT, REVOKE and ALTER DEFAULT PRIVILEGES: exactly what the statement changes
//! of the rights that there are.
//!
//! Only what the owner has granted counts: a statement of the owner, of a member of it or of a
//! superuser grants and revokes as the owner (documentation, GRANT, "Notes").

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::{Context, Inverse, InverseStep, give_revert};
use crate::catalog::{Granted, Object, ObjectClass, RelKind};
use crate::plan::objects::class_of;
use crate::sql::ddl::{Grantee, Rights, RightsOn};
use crate::sql::quote;

/// One right: role (`None` is PUBLIC), column (`None` is the whole), privilege.
type Key = (Option<String>, Option<String>, String);

/// Rights, each with whether it can be passed on.
type Held = BTreeMap<Key, bool>;

/// What ALL is on a kind of object.
fn all_of(on: RightsOn, columns: bool, major: u32) -> &'static [&'static str] {
    match on {
        RightsOn::Table if columns => &["INSERT", "REFERENCES", "SELECT", "UPDATE"],
        RightsOn::Table if major >= 17 => &[
            "DELETE",
            "INSERT",
            "MAINTAIN",
            "REFERENCES",
            "SELECT",
            "TRIGGER",
            "TRUNCATE",
            "UPDATE",
        ],
        RightsOn::Table => &[
            "DELETE",
            "INSERT",
            "REFERENCES",
            "SELECT",
            "TRIGGER",
            "TRUNCATE",
            "UPDATE",
        ],
        RightsOn::Sequence => &["SELECT", "UPDATE", "USAGE"],
        RightsOn::Function => &["EXECUTE"],
        RightsOn::Schema => &["CREATE", "USAGE"],
        RightsOn::Database => &["CONNECT", "CREATE", "TEMPORARY"],
        RightsOn::Tablespace => &["CREATE"],
        RightsOn::Type
        | RightsOn::Language
        | RightsOn::ForeignDataWrapper
        | RightsOn::ForeignServer => &["USAGE"],
    }
}

/// The word of GRANT … ON.
fn word(on: RightsOn) -> &'static str {
    match on {
        RightsOn::Table => "TABLE",
        RightsOn::Sequence => "SEQUENCE",
        RightsOn::Function => "ROUTINE",
        RightsOn::Type => "TYPE",
        RightsOn::Schema => "SCHEMA",
        RightsOn::Database => "DATABASE",
        RightsOn::Tablespace => "TABLESPACE",
        RightsOn::Language => "LANGUAGE",
        RightsOn::ForeignDataWrapper => "FOREIGN DATA WRAPPER",
        RightsOn::ForeignServer => "FOREIGN SERVER",
    }
}

/// The rights that are left after a statement.
fn after(
    before: &Held,
    grant: bool,
    rights: &Rights,
    on: RightsOn,
    grantees: &[Option<String>],
    major: u32,
) -> Held {
    let mut held = before.clone();
    for (privilege, columns) in &rights.privileges {
        let known = all_of(on, !columns.is_empty(), major);
        let privilege = match privilege.as_str() {
            "TEMP" => "TEMPORARY",
            other => other,
        };
        let privileges: Vec<&str> = known
            .iter()
            .copied()
            .filter(|p| privilege == "ALL" || *p == privilege)
            .collect();
        let columns: Vec<Option<String>> = if columns.is_empty() {
            vec![None]
        } else {
            columns.iter().cloned().map(Some).collect()
        };
        for grantee in grantees {
            for column in &columns {
                for privilege in &privileges {
                    let key = (grantee.clone(), column.clone(), (*privilege).to_owned());
                    if grant {
                        let option = held.entry(key).or_insert(false);
                        *option |= rights.grant_option;
                        continue;
                    }
                    // What is taken of the whole is taken of each column too.
                    let same = |k: &Key| {
                        k.0 == *grantee && k.2 == *privilege && (column.is_none() || k.1 == *column)
                    };
                    if rights.grant_option {
                        for (_, option) in held.iter_mut().filter(|(k, _)| same(k)) {
                            *option = false;
                        }
                    } else {
                        held.retain(|k, _| !same(k));
                    }
                }
            }
        }
    }
    held
}

/// Statements that make `before` of `after`: `head` is what stands before GRANT, `on` what follows
/// the privileges.
fn back(before: &Held, after: &Held, head: &str, on: &str) -> Vec<String> {
    // (role, with the option only) → privileges
    let mut take: BTreeMap<(Option<String>, bool), BTreeSet<String>> = BTreeMap::new();
    let mut give = take.clone();
    let add = |all: &mut BTreeMap<_, BTreeSet<String>>, key: &Key, option: bool| {
        let mut text = key.2.clone();
        if let Some(column) = &key.1 {
            let _ = write!(text, " ({})", quote::ident(column));
        }
        all.entry((key.0.clone(), option)).or_default().insert(text);
    };
    for (key, option) in after {
        let was = before.get(key);
        if was == Some(option) || (was == Some(&true) && !option) {
            continue;
        }
        let only_option = was.is_some();
        add(&mut take, key, only_option);
        // Taking it of the whole takes it of the columns.
        if key.1.is_none() {
            let columns = before
                .iter()
                .filter(|(k, _)| k.0 == key.0 && k.2 == key.2 && k.1.is_some());
            for (column, option) in columns.filter(|(_, option)| !only_option || **option) {
                add(&mut give, column, *option);
            }
        }
    }
    for (key, option) in before {
        let is = after.get(key);
        if is.is_none() || (*option && is == Some(&false)) {
            add(&mut give, key, *option);
        }
    }
    let role = |role: &Option<String>| {
        role.as_ref()
            .map_or("PUBLIC".to_owned(), |r| quote::ident(r))
    };
    let list = |all: BTreeSet<String>| all.into_iter().collect::<Vec<_>>().join(", ");
    let mut statements = Vec::new();
    for ((grantee, option), privileges) in take {
        statements.push(format!(
            "{head}REVOKE {}{} ON {on} FROM {}",
            if option { "GRANT OPTION FOR " } else { "" },
            list(privileges),
            role(&grantee)
        ));
    }
    for ((grantee, option), privileges) in give {
        statements.push(format!(
            "{head}GRANT {} ON {on} TO {}{}",
            list(privileges),
            role(&grantee),
            if option { " WITH GRANT OPTION" } else { "" }
        ));
    }
    statements
}

/// What the owner has granted.
fn held<'g>(grants: impl IntoIterator<Item = &'g Granted>) -> Held {
    grants
        .into_iter()
        .filter(|g| g.by_owner)
        .map(|g| {
            let key = (g.grantee.clone(), g.column.clone(), g.privilege.clone());
            (key, g.grantable)
        })
        .collect()
}

/// The statements in one transaction.
pub(super) fn together(mut statements: Vec<String>) -> Inverse {
    if statements.is_empty() {
        return Inverse::Nothing;
    }
    let mut step = InverseStep::new(statements.remove(0));
    step.also = statements;
    Inverse::Sql(vec![step])
}

impl<'c> Context<'c> {
    /// The role that a statement names, `None` for PUBLIC.
    ///
    /// # Errors
    /// Why it is not known, for people.
    fn role(self, grantee: &Grantee) -> Result<Option<String>, &'static str> {
        match grantee {
            Grantee::Public => Ok(None),
            Grantee::Current => Ok(Some(self.before.role.clone())),
            Grantee::Role(name) => Ok(Some(name.clone())),
            Grantee::Session => Err("SESSION_USER is not known before it runs"),
        }
    }

    fn roles(self, grantees: &[Grantee]) -> Result<Vec<Option<String>>, &'static str> {
        grantees.iter().map(|g| self.role(g)).collect()
    }

    pub(super) fn rights(self, grant: bool, rights: Option<&Rights>) -> Inverse {
        let Some(rights) = rights else {
            return give_revert("membership in roles, and this kind of right, is not kept");
        };
        if rights.granted_by {
            return give_revert("what GRANTED BY changes is not known");
        }
        let grantees = match self.roles(&rights.grantees) {
            Ok(grantees) => grantees,
            Err(reason) => return give_revert(reason),
        };
        let objects = match self.objects(rights) {
            Ok(objects) => objects,
            Err(reason) => return give_revert(reason),
        };
        let mut statements = Vec::new();
        for object in objects.into_iter().filter(|o| !o.made) {
            if !object.owned {
                return give_revert(format!(
                    "the role {} has not the rights of the owner of {}, so what it changes \
                     depends on its grant options",
                    self.before.role, object.identity
                ));
            }
            if rights.cascade && object.grants.iter().any(|g| !g.by_owner) {
                return give_revert(format!(
                    "CASCADE takes what others have granted on {} too",
                    object.identity
                ));
            }
            let on = match object.kind {
                Some(RelKind::Sequence) => RightsOn::Sequence,
                _ => rights.on,
            };
            let before = held(&object.grants);
            let after = after(&before, grant, rights, on, &grantees, self.before.major());
            let target = format!("{} {}", word(on), object.identity);
            statements.extend(back(&before, &after, "", &target));
        }
        together(statements)
    }

    /// The objects that rights are on.
    fn objects(self, rights: &Rights) -> Result<Vec<&'c Object>, String> {
        let class = class_of(rights);
        let mut all = Vec::new();
        for name in &rights.names {
            if rights.in_schema {
                let sequences = rights.on == RightsOn::Sequence;
                all.extend(self.before.objects.iter().filter(|o| {
                    let kind = match o.kind {
                        None => class != ObjectClass::Relation,
                        Some(RelKind::Index | RelKind::Other) => false,
                        Some(kind) => (kind == RelKind::Sequence) == sequences,
                    };
                    o.class == class && o.schema.as_ref() == Some(&name.name.name) && kind
                }));
            } else {
                all.push(self.object(class, name, None)?);
            }
        }
        Ok(all)
    }

    pub(super) fn default_rights(
        self,
        roles: &[Grantee],
        schemas: &[String],
        grant: bool,
        rights: Option<&Rights>,
    ) -> Inverse {
        let Some(rights) = rights else {
            return give_revert("this form of ALTER DEFAULT PRIVILEGES is not understood");
        };
        let current = [Grantee::Current];
        let roles = if roles.is_empty() {
            &current[..]
        } else {
            roles
        };
        let both = self
            .roles(roles)
            .and_then(|roles| Ok((roles, self.roles(&rights.grantees)?)));
        let (roles, grantees) = match both {
            Ok(both) => both,
            Err(reason) => return give_revert(reason),
        };
        let (kind, plural) = match rights.on {
            RightsOn::Table => ("r", "TABLES"),
            RightsOn::Sequence => ("S", "SEQUENCES"),
            RightsOn::Function => ("f", "ROUTINES"),
            RightsOn::Type => ("T", "TYPES"),
            _ => ("n", "SCHEMAS"),
        };
        let major = self.before.major();
        let mut schemas: Vec<Option<&String>> = schemas.iter().map(Some).collect();
        if schemas.is_empty() {
            schemas.push(None);
        }
        let mut statements = Vec::new();
        for role in roles.iter().flatten() {
            for schema in &schemas {
                let known =
                    self.before.default_rights.iter().find(|d| {
                        d.role == *role && d.schema.as_ref() == *schema && d.kind == kind
                    });
                let before = match (known, schema) {
                    (Some(known), _) => held(&known.grants),
                    // In a schema they only add to those of the role.
                    (None, Some(_)) => Held::new(),
                    (None, None) => usual(role, rights.on, major),
                };
                let after = after(&before, grant, rights, rights.on, &grantees, major);
                let mut head = format!("ALTER DEFAULT PRIVILEGES FOR ROLE {}", quote::ident(role));
                if let Some(schema) = schema {
                    let _ = write!(head, " IN SCHEMA {}", quote::ident(schema));
                }
                head.push(' ');
                statements.extend(back(&before, &after, &head, plural));
            }
        }
        together(statements)
    }

    /// `ALTER … OWNER TO` back, with the rights that the new owner had: they became the owner's.
    pub(super) fn owner_back(self, words: &str, object: &Object, to: Option<&Grantee>) -> Inverse {
        if object.made {
            return Inverse::Nothing;
        }
        let Some(Ok(Some(new))) = to.map(|to| self.role(to)) else {
            return give_revert("who the new owner is is not known before it runs");
        };
        if object.owner.is_empty() {
            return give_revert(format!("the owner of {} is not known", object.identity));
        }
        let mut statements = vec![format!(
            "ALTER {words} {} OWNER TO {}",
            object.identity,
            quote::ident(&object.owner)
        )];
        if new != object.owner {
            let theirs = held(&object.grants)
                .into_iter()
                .filter(|(key, _)| key.0.as_ref() == Some(&new))
                .collect();
            let on = match (object.class, object.kind) {
                (_, Some(RelKind::Sequence)) => RightsOn::Sequence,
                (ObjectClass::Function, _) => RightsOn::Function,
                (ObjectClass::Type, _) => RightsOn::Type,
                _ => RightsOn::Table,
            };
            let target = format!("{} {}", word(on), object.identity);
            statements.extend(back(&theirs, &Held::new(), "", &target));
        }
        together(statements)
    }
}

/// What a role's new objects get where nothing else is said (documentation, "Privileges").
fn usual(role: &str, on: RightsOn, major: u32) -> Held {
    let mut held: Held = all_of(on, false, major)
        .iter()
        .map(|p| ((Some(role.to_owned()), None, (*p).to_owned()), false))
        .collect();
    match on {
        RightsOn::Function => held.insert((None, None, "EXECUTE".to_owned()), false),
        RightsOn::Type => held.insert((None, None, "USAGE".to_owned()), false),
        _ => None,
    };
    held
}
