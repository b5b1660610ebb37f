//! What a statement does, as far as planning needs to know.
//!
//! Everything is read from tokens, not from a syntax tree: a sub-command's text must be the
//! author's, byte for byte, and a syntax that the parser library does not know yet must never be
//! fatal. The tests hold the result against `sqlparser` where that can parse the statement.
//! A text that the server would refuse may be given any meaning; a text that it accepts is either
//! understood or [`Action::Opaque`].

mod action;
#[cfg(test)]
mod agreement;
mod alter;
mod alter_op;
mod column;
mod create;
mod cursor;
mod maintenance;
mod other;
mod query;
mod rights;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::catalog::QName;
use crate::sql::lex::{Token, TokenKind, lex_code};
use crate::sql::quote;

#[cfg(test)]
pub(crate) use tests::CORPUS;

pub use action::{Action, CommentTarget, FunctionChange, NameChange, PartitionDef, ReindexTarget};
pub use alter_op::{AlterOp, AlterOpKind};
pub use column::{ColumnDef, ConstraintDef, Generated, InlineConstraint};
pub use create::{TableElements, table_elements};
use cursor::Cursor;
pub use rights::{Grantee, ObjectName, Rights, RightsOn};

/// A possibly qualified name, folded as the server does and unquoted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RelName {
    /// Schema, where written.
    pub schema: Option<String>,
    /// Name.
    pub name: String,
}

impl RelName {
    /// A name with or without a schema.
    pub fn new(schema: Option<&str>, name: impl Into<String>) -> Self {
        Self {
            schema: schema.map(str::to_owned),
            name: name.into(),
        }
    }

    /// As an identifier of SQL, quoted.
    pub fn sql(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quote::ident(schema), quote::ident(&self.name)),
            None => quote::ident(&self.name),
        }
    }
}

impl From<&QName> for RelName {
    fn from(name: &QName) -> Self {
        Self::new(Some(&name.schema), name.name.as_str())
    }
}

/// For people; [`RelName::sql`] for SQL.
impl fmt::Display for RelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Understands one statement, with or without its semicolon. Never fails: what is not recognised
/// is [`Action::Opaque`], and a sub-command that is not is [`AlterOpKind::Other`].
pub fn understand(text: &str) -> Action {
    let mut tokens = lex_code(text);
    while tokens
        .last()
        .is_some_and(|t| t.kind == TokenKind::Semicolon)
    {
        tokens.pop();
    }
    let cursor = Cursor::new(text, &tokens);
    let opaque = || Action::Opaque {
        leading: cursor.leading(2),
    };
    if !is_well_formed(&tokens) {
        return opaque();
    }
    let action = other::statement(cursor).unwrap_or_else(opaque);
    // Several statements, or a body that is not quoted; only these may have a semicolon inside.
    if tokens.iter().any(|t| t.kind == TokenKind::Semicolon)
        && !matches!(
            action,
            Action::CreateFunction { .. } | Action::CreateRule { .. }
        )
    {
        return opaque();
    }
    action
}

/// The names at the beginning of a list of them, as in [`Action::Drop`]: `a, s.b CASCADE`.
pub fn names(text: &str) -> Vec<RelName> {
    let tokens = lex_code(text);
    Cursor::new(text, &tokens).rels().unwrap_or_default()
}

/// Every token is one of SQL, and parentheses and brackets are balanced.
fn is_well_formed(tokens: &[Token]) -> bool {
    let mut open = Vec::new();
    for token in tokens {
        match token.kind {
            TokenKind::Unterminated | TokenKind::Stray | TokenKind::PsqlCommand => return false,
            kind @ (TokenKind::LParen | TokenKind::LBracket) => open.push(kind),
            TokenKind::RParen if open.pop() != Some(TokenKind::LParen) => return false,
            TokenKind::RBracket if open.pop() != Some(TokenKind::LBracket) => return false,
            _ => {}
        }
    }
    open.is_empty()
}
