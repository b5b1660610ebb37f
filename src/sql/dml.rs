//! The anatomy of an UPDATE or DELETE: its parts as the author wrote them.
//!
//! Batches are assembled from these pieces, so no piece is ever re-rendered. The statement is
//! read token by token, and where `sqlparser` can parse it too, the two must agree.

mod check;
mod names;
mod reader;

use serde::{Deserialize, Serialize};

use super::lex::{TokenKind, ident_value, is_keyword, lex_code};
use super::source::{Diagnostic, Span};
pub use names::{function_names, identifiers, is_reserved, is_syntax};
use names::{is_column_word, unwrap_parentheses};
use reader::{Reader, refuse};

/// A part of a statement, verbatim. It begins and ends with a token that is not a comment, and
/// parentheses in it match, so it may be put between parentheses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// The author's text.
    pub text: String,
    /// Where it is in the statement.
    pub span: Span,
}

/// The table of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRef {
    /// Schema as in the catalog, if written.
    pub schema: Option<String>,
    /// Name as in the catalog.
    pub name: String,
    /// Where it is in the statement.
    pub span: Span,
}

/// `column = expr` of an UPDATE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Column as in the catalog.
    pub column: String,
    /// Where the column is in the statement.
    pub column_span: Span,
    /// The new value.
    pub expr: Piece,
}

/// An UPDATE of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// The table.
    pub table: TableRef,
    /// `ONLY`: not its descendants.
    pub only: bool,
    /// Alias of the table.
    pub alias: Option<String>,
    /// What is set, at least one, each column once.
    pub assignments: Vec<Assignment>,
    /// What follows FROM.
    pub from: Option<Piece>,
    /// What follows WHERE.
    pub where_: Option<Piece>,
    /// The operands of the outermost ANDs of `where_`; the whole of it where an OR is outermost.
    pub conjuncts: Vec<Piece>,
}

/// A DELETE from one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delete {
    /// The table.
    pub table: TableRef,
    /// `ONLY`: not its descendants.
    pub only: bool,
    /// Alias of the table.
    pub alias: Option<String>,
    /// What follows USING.
    pub using: Option<Piece>,
    /// What follows WHERE.
    pub where_: Option<Piece>,
    /// As in [`Update::conjuncts`].
    pub conjuncts: Vec<Piece>,
}

impl Update {
    /// The name by which expressions call the table.
    pub fn range_name(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.table.name)
    }
}

impl Delete {
    /// The name by which expressions call the table.
    pub fn range_name(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.table.name)
    }
}

/// Reads one UPDATE, without `;`. Spans are relative to `text`.
///
/// # Errors
/// Text that is not one UPDATE, and forms that cannot be run in batches: WITH, RETURNING,
/// WHERE CURRENT OF, `SET (a, b) = …`, array elements and fields as targets, DEFAULT as a value,
/// `table *`, one column twice.
pub fn parse_update(text: &str) -> Result<Update, Diagnostic> {
    let mut reader = Reader::new(text, "UPDATE")?;
    reader.expect_keyword("UPDATE")?;
    let (table, only) = table(&mut reader)?;
    let alias = alias(&mut reader, "SET")?;
    reader.expect_keyword("SET")?;
    let assignments = assignments(&mut reader)?;
    let from = if reader.eat_keyword("FROM") {
        Some(reader.piece_until(&["WHERE"], "FROM")?)
    } else {
        None
    };
    let (where_, conjuncts) = condition(&mut reader)?;
    let update = Update {
        table,
        only,
        alias,
        assignments,
        from,
        where_,
        conjuncts,
    };
    check::update(text, &update)?;
    Ok(update)
}

/// Reads one DELETE, without `;`. Spans are relative to `text`.
///
/// # Errors
/// Text that is not one DELETE, and forms that cannot be run in batches, as [`parse_update`].
pub fn parse_delete(text: &str) -> Result<Delete, Diagnostic> {
    let mut reader = Reader::new(text, "DELETE")?;
    reader.expect_keyword("DELETE")?;
    reader.expect_keyword("FROM")?;
    let (table, only) = table(&mut reader)?;
    let alias = alias(&mut reader, "USING")?;
    let using = if reader.eat_keyword("USING") {
        Some(reader.piece_until(&["WHERE"], "USING")?)
    } else {
        None
    };
    let (where_, conjuncts) = condition(&mut reader)?;
    let delete = Delete {
        table,
        only,
        alias,
        using,
        where_,
        conjuncts,
    };
    check::delete(text, &delete)?;
    Ok(delete)
}

/// `[ONLY] [schema.]name` or `ONLY ([schema.]name)`; true for ONLY.
fn table(reader: &mut Reader<'_>) -> Result<(TableRef, bool), Diagnostic> {
    let only = reader.eat_keyword("ONLY");
    let parenthesis = only && reader.eat(TokenKind::LParen);
    let (first, mut span) = reader.ident("the name of a table")?;
    let mut table = TableRef {
        schema: None,
        name: first,
        span,
    };
    if reader.eat(TokenKind::Dot) {
        let (name, name_span) = reader.ident("the name of a table")?;
        span = span.to(name_span);
        table = TableRef {
            schema: Some(table.name),
            name,
            span,
        };
    }
    if reader.at_kind(TokenKind::Dot) {
        return Err(refuse(
            reader.here(),
            "a table of another database cannot be written here",
            "write `schema.table`",
        ));
    }
    if parenthesis && !reader.eat(TokenKind::RParen) {
        return Err(reader.expected("`)`"));
    }
    if reader.at_text("*") {
        return Err(refuse(
            reader.here(),
            "`*` after the table is not taken",
            "remove it: descendant tables are included unless ONLY is written",
        ));
    }
    Ok((table, only))
}

/// `[AS] alias`, unless `next` or a clause comes first.
fn alias(reader: &mut Reader<'_>, next: &str) -> Result<Option<String>, Diagnostic> {
    if reader.eat_keyword("AS") {
        return Ok(Some(reader.ident("an alias")?.0));
    }
    if reader.at_end()
        || [next, "WHERE", "RETURNING", "FROM"]
            .iter()
            .any(|k| reader.at_keyword(k))
        || !reader.at_ident()
    {
        return Ok(None);
    }
    Ok(Some(reader.ident("an alias")?.0))
}

fn assignments(reader: &mut Reader<'_>) -> Result<Vec<Assignment>, Diagnostic> {
    let mut assignments: Vec<Assignment> = Vec::new();
    loop {
        let (column, column_span) = target(reader)?;
        if let Some(first) = assignments.iter().find(|a| a.column == column) {
            return Err(refuse(
                column_span,
                format!("column {column} is set twice"),
                "keep one of the assignments",
            )
            .also(first.column_span, "first set here"));
        }
        let expr = reader.piece_until(&["FROM", "WHERE", ","], "`=`")?;
        if expr.text.eq_ignore_ascii_case("default") {
            return Err(refuse(
                expr.span,
                "DEFAULT as a value is not taken",
                "write the expression of the default itself",
            ));
        }
        assignments.push(Assignment {
            column,
            column_span,
            expr,
        });
        if !reader.eat(TokenKind::Comma) {
            return Ok(assignments);
        }
    }
}

/// `column =`
fn target(reader: &mut Reader<'_>) -> Result<(String, Span), Diagnostic> {
    if reader.at_kind(TokenKind::LParen) {
        return Err(refuse(
            reader.here(),
            "a list of columns on the left of `=` is not taken",
            "assign each column on its own: `SET a = …, b = …`",
        ));
    }
    let (column, span) = reader.ident("the name of a column")?;
    if reader.at_kind(TokenKind::Dot) {
        return Err(refuse(
            span.to(reader.here()),
            "only a whole column can be assigned",
            "write the column without the table's name; for a field of a composite column, \
             assign the whole value with ROW(…)",
        ));
    }
    if reader.at_kind(TokenKind::LBracket) {
        return Err(refuse(
            span.to(reader.here()),
            "only a whole column can be assigned",
            "assign the whole array: `SET a = …`",
        ));
    }
    if !reader.at_text("=") {
        return Err(reader.expected("`=`"));
    }
    reader.advance();
    Ok((column, span))
}

/// The WHERE clause, which is the last one.
fn condition(reader: &mut Reader<'_>) -> Result<(Option<Piece>, Vec<Piece>), Diagnostic> {
    if reader.at_end() {
        return Ok((None, Vec::new()));
    }
    if !reader.eat_keyword("WHERE") {
        return Err(reader.expected("WHERE or the end of the statement"));
    }
    if reader.at_keyword("CURRENT") && reader.next_is_keyword("OF") {
        return Err(refuse(
            reader.here(),
            "WHERE CURRENT OF needs a cursor, and there is none",
            "write a condition on columns",
        ));
    }
    let conjuncts = reader.conjuncts()?;
    let where_ = reader.piece_until(&[], "WHERE")?;
    Ok((Some(where_), conjuncts))
}

/// The column that is tested in `col IS NULL`, `col ISNULL`, `range_name.col IS NULL`, with any
/// parentheses around.
pub fn is_null_test(piece: &Piece, range_name: &str) -> Option<String> {
    let text = piece.text.as_str();
    let tokens = lex_code(text);
    let tokens = unwrap_parentheses(&tokens);
    let column = match tokens {
        [column @ .., is, null]
            if is_keyword(*is, text, "IS") && is_keyword(*null, text, "NULL") =>
        {
            column
        }
        [column @ .., isnull] if is_keyword(*isnull, text, "ISNULL") => column,
        _ => return None,
    };
    match unwrap_parentheses(column) {
        [column] if is_column_word(*column, text) => ident_value(*column, text),
        [table, dot, column]
            if dot.kind == TokenKind::Dot
                && ident_value(*table, text).as_deref() == Some(range_name) =>
        {
            ident_value(*column, text)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
