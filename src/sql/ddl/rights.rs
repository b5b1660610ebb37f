//! GRANT, REVOKE and ALTER DEFAULT PRIVILEGES.

use super::{Action, Cursor, RelName};
use crate::sql::lex::TokenKind;

/// Who gets rights or loses them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grantee {
    /// PUBLIC.
    Public,
    /// `CURRENT_ROLE`, `CURRENT_USER`.
    Current,
    /// `SESSION_USER`.
    Session,
    /// A role by its name.
    Role(String),
}

/// What rights are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RightsOn {
    /// Tables, views, materialized views, foreign tables; sequences too.
    Table,
    /// Sequences.
    Sequence,
    /// Functions, procedures and aggregates.
    Function,
    /// Types and domains.
    Type,
    /// Schemas.
    Schema,
    /// Databases.
    Database,
    /// Tablespaces.
    Tablespace,
    /// Languages.
    Language,
    /// Foreign data wrappers.
    ForeignDataWrapper,
    /// Foreign servers.
    ForeignServer,
}

/// An object as a statement names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName {
    /// Name.
    pub name: RelName,
    /// The author's text of a function's arguments, in parentheses.
    pub signature: Option<String>,
}

/// What a GRANT or REVOKE gives or takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// Each with its columns: `SELECT (a, b)`. `ALL` is all that there are.
    pub privileges: Vec<(String, Vec<String>)>,
    /// On what.
    pub on: RightsOn,
    /// The objects; the schemas where `in_schema`; none in ALTER DEFAULT PRIVILEGES.
    pub names: Vec<ObjectName>,
    /// ALL … IN SCHEMA.
    pub in_schema: bool,
    /// Who.
    pub grantees: Vec<Grantee>,
    /// WITH GRANT OPTION, or GRANT OPTION FOR.
    pub grant_option: bool,
    /// GRANTED BY.
    pub granted_by: bool,
    /// CASCADE.
    pub cascade: bool,
}

/// The kinds that a GRANT names. ALL … IN SCHEMA and default privileges have the plural.
const KINDS: [(&str, &str, RightsOn); 12] = [
    ("table", "tables", RightsOn::Table),
    ("sequence", "sequences", RightsOn::Sequence),
    ("function", "functions", RightsOn::Function),
    ("procedure", "procedures", RightsOn::Function),
    ("routine", "routines", RightsOn::Function),
    ("type", "types", RightsOn::Type),
    ("domain", "", RightsOn::Type),
    ("schema", "schemas", RightsOn::Schema),
    ("database", "", RightsOn::Database),
    ("tablespace", "", RightsOn::Tablespace),
    ("language", "", RightsOn::Language),
    ("foreign data wrapper", "", RightsOn::ForeignDataWrapper),
];

/// After the word GRANT or REVOKE.
pub(super) fn rights(c: &mut Cursor<'_>, grant: bool) -> Option<Rights> {
    let mut rights = what(c, grant)?;
    if !c.eat("on") {
        return None;
    }
    if c.eat("all") {
        let (_, _, on) = KINDS
            .into_iter()
            .find(|(_, plural, _)| !plural.is_empty() && c.eat(plural))?;
        if !c.eat("in schema") {
            return None;
        }
        (rights.on, rights.in_schema) = (on, true);
    } else if c.eat("foreign server") {
        rights.on = RightsOn::ForeignServer;
    } else if let Some((_, _, on)) = KINDS.into_iter().find(|(word, _, _)| c.eat(word)) {
        rights.on = on;
    } else if c.is_any(&["parameter", "large"]) {
        return None;
    }
    loop {
        rights.names.push(object_name(c)?);
        if !c.eat_kind(TokenKind::Comma) {
            break;
        }
    }
    who(c, grant, rights)
}

/// `name` or `name (arguments)`.
pub(super) fn object_name(c: &mut Cursor<'_>) -> Option<ObjectName> {
    let name = c.rel()?;
    let signature = c.parens().map(|span| c.text_of(span).to_owned());
    Some(ObjectName { name, signature })
}

/// The privileges, up to ON.
fn what(c: &mut Cursor<'_>, grant: bool) -> Option<Rights> {
    let grant_option = !grant && c.eat("grant option for");
    let mut privileges = Vec::new();
    loop {
        let word = c.ident()?.to_ascii_uppercase();
        if word == "ALL" {
            let _ = c.eat("privileges");
        }
        let columns = match c.kind() {
            Some(TokenKind::LParen) => c.ident_list()?.0,
            _ => Vec::new(),
        };
        privileges.push((word, columns));
        if !c.eat_kind(TokenKind::Comma) {
            break;
        }
    }
    Some(Rights {
        privileges,
        on: RightsOn::Table,
        names: Vec::new(),
        in_schema: false,
        grantees: Vec::new(),
        grant_option,
        granted_by: false,
        cascade: false,
    })
}

/// TO or FROM, and the rest.
fn who(c: &mut Cursor<'_>, grant: bool, mut rights: Rights) -> Option<Rights> {
    if !c.eat(if grant { "to" } else { "from" }) {
        return None;
    }
    loop {
        rights.grantees.push(grantee(c)?);
        if !c.eat_kind(TokenKind::Comma) {
            break;
        }
    }
    if grant {
        rights.grant_option = c.eat("with grant option");
    }
    if c.eat("granted by") {
        rights.granted_by = true;
        grantee(c)?;
    }
    if !grant {
        rights.cascade = c.eat("cascade");
        let _ = c.eat("restrict");
    }
    c.done().then_some(rights)
}

/// A role, as GRANT and OWNER TO take it.
pub(super) fn grantee(c: &mut Cursor<'_>) -> Option<Grantee> {
    // `GROUP name` is the old form.
    if c.is("group") && !c.is_at(1, "with") {
        let mut after = *c;
        after.bump();
        if !after.done() && after.kind() != Some(TokenKind::Comma) {
            *c = after;
        }
    }
    if c.eat("current_role") || c.eat("current_user") {
        return Some(Grantee::Current);
    }
    if c.eat("session_user") {
        return Some(Grantee::Session);
    }
    if c.eat("public") {
        return Some(Grantee::Public);
    }
    c.ident().map(Grantee::Role)
}

/// After ALTER DEFAULT PRIVILEGES.
pub(super) fn default_privileges(c: &mut Cursor<'_>) -> Action {
    let mut roles = Vec::new();
    let mut schemas = Vec::new();
    let mut grant = false;
    let mut read = || {
        loop {
            if c.eat("for role") || c.eat("for user") {
                loop {
                    roles.push(grantee(c)?);
                    if !c.eat_kind(TokenKind::Comma) {
                        break;
                    }
                }
            } else if c.eat("in schema") {
                loop {
                    schemas.push(c.ident()?);
                    if !c.eat_kind(TokenKind::Comma) {
                        break;
                    }
                }
            } else {
                break;
            }
        }
        grant = c.eat("grant");
        if !grant && !c.eat("revoke") {
            return None;
        }
        let mut rights = what(c, grant)?;
        if !c.eat("on") {
            return None;
        }
        let (_, _, on) = KINDS
            .into_iter()
            .find(|(_, plural, _)| !plural.is_empty() && c.eat(plural))?;
        rights.on = on;
        who(c, grant, rights)
    };
    let rights = read().map(Box::new);
    Action::DefaultPrivileges {
        roles,
        schemas,
        grant,
        rights,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::ddl::understand;

    fn granted(text: &str) -> Rights {
        match understand(text) {
            Action::Grant {
                rights: Some(rights),
            }
            | Action::Revoke {
                rights: Some(rights),
            } => *rights,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn rights_of_every_shape() {
        let rights = granted("GRANT SELECT, UPDATE (a, \"B\") ON s.t, u TO r, PUBLIC, GROUP g");
        assert_eq!(
            rights.privileges,
            [
                ("SELECT".to_owned(), vec![]),
                ("UPDATE".to_owned(), vec!["a".to_owned(), "B".to_owned()])
            ]
        );
        assert_eq!(rights.names.len(), 2);
        assert_eq!(
            rights.grantees,
            [
                Grantee::Role("r".into()),
                Grantee::Public,
                Grantee::Role("g".into())
            ]
        );
        let rights =
            granted("GRANT ALL PRIVILEGES ON ALL TABLES IN SCHEMA s TO r WITH GRANT OPTION");
        assert!(rights.in_schema && rights.grant_option && rights.on == RightsOn::Table);
        let rights =
            granted("REVOKE GRANT OPTION FOR EXECUTE ON FUNCTION f(int, text) FROM r CASCADE");
        assert!(rights.grant_option && rights.cascade && rights.on == RightsOn::Function);
        assert_eq!(rights.names[0].signature.as_deref(), Some("(int, text)"));
        let rights = granted("GRANT USAGE ON SCHEMA a, b TO CURRENT_USER");
        assert!(rights.on == RightsOn::Schema && rights.grantees == [Grantee::Current]);
    }

    #[test]
    fn membership_is_not_understood() {
        for text in ["GRANT a TO b", "GRANT a, b TO c WITH ADMIN OPTION"] {
            assert_eq!(understand(text), Action::Grant { rights: None }, "{text}");
        }
        assert_eq!(
            understand("REVOKE a FROM b"),
            Action::Revoke { rights: None }
        );
    }

    #[test]
    fn default_privileges_of_a_role_and_schema() {
        let text = "ALTER DEFAULT PRIVILEGES FOR ROLE a IN SCHEMA s GRANT SELECT ON TABLES TO r";
        let Action::DefaultPrivileges {
            roles,
            schemas,
            grant: true,
            rights: Some(rights),
        } = understand(text)
        else {
            panic!("not understood");
        };
        assert_eq!(roles, [Grantee::Role("a".into())]);
        assert_eq!(schemas, ["s"]);
        assert_eq!(rights.on, RightsOn::Table);
    }
}
