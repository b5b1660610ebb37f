//! SQL put together from author text and our own, which remembers where the author's parts are.

use super::dml::Piece;

/// A statement and the way from a place in it back to the author's file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MappedSql {
    sql: String,
    /// (start in `sql`, length, start in the file)
    parts: Vec<(usize, usize, usize)>,
}

impl MappedSql {
    /// Adds text of our own.
    #[must_use]
    pub fn ours(mut self, text: &str) -> Self {
        self.sql.push_str(text);
        self
    }

    /// Adds a piece of a statement that begins at byte `offset` of the file, and a newline that
    /// ends a comment in it.
    #[must_use]
    pub fn author(mut self, piece: &Piece, offset: usize) -> Self {
        self.parts
            .push((self.sql.len(), piece.text.len(), offset + piece.span.start));
        self.sql.push_str(&piece.text);
        self.sql.push('\n');
        self
    }

    /// The text.
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// The byte of the author's file that a byte of [`sql`](Self::sql) comes from; `None` where
    /// it is in our own text.
    pub fn locate(&self, byte: usize) -> Option<usize> {
        self.parts
            .iter()
            .find(|(start, len, _)| (*start..=start + len).contains(&byte))
            .map(|(start, _, file)| file + (byte - start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Span;

    #[test]
    fn a_place_in_the_authors_part_is_found_again() {
        let piece = Piece {
            text: "totl * 100".into(),
            span: Span::new(20, 30),
        };
        let mapped = MappedSql::default()
            .ours("SELECT (")
            .author(&piece, 1000)
            .ours(")");
        let byte = mapped.sql().find("totl").expect("it is there");
        assert_eq!(mapped.locate(byte), Some(1020));
        assert_eq!(mapped.locate(2), None);
    }
}
