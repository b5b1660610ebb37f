//! The relations that queries in a statement read.

use std::collections::BTreeMap;

use super::super::forms::{existing, table};
use crate::catalog::{Catalog, LinkKind, QName};
use crate::lock::{LockMode, LockOn};
use crate::sql::RelName;
use crate::sql::ddl::Action;
use crate::sql::lex::{Token, TokenKind, ident_value, is_keyword, lex_code};

/// Names that stand where a query names what it reads: after FROM, JOIN, USING, TABLE, ONLY, or a
/// comma. More than that: also names of columns and of common table expressions, for the catalog
/// to tell.
pub fn reads(text: &str) -> Vec<RelName> {
    let tokens = lex_code(text);
    let mut found = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let starts = ["from", "join", "using", "table", "only", "into"]
            .iter()
            .any(|word| is_keyword(tokens[i], text, word))
            || tokens[i].kind == TokenKind::Comma;
        i += 1;
        if starts && let Some((name, next)) = name_at(&tokens, text, i) {
            // A call.
            if tokens.get(next).is_none_or(|t| t.kind != TokenKind::LParen) {
                found.push(name);
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// `a`, `s.a` or `d.s.a` at a token, and where it ends.
fn name_at(tokens: &[Token], text: &str, mut at: usize) -> Option<(RelName, usize)> {
    let mut name = ident_value(*tokens.get(at)?, text)?;
    let mut schema = None;
    at += 1;
    while tokens.get(at).is_some_and(|t| t.kind == TokenKind::Dot) {
        let part = ident_value(*tokens.get(at + 1)?, text)?;
        schema = Some(std::mem::replace(&mut name, part));
        at += 2;
    }
    Some((RelName { schema, name }, at))
}

/// The locks that the rows of a statement take beside those of [`super::locks`]: of what its queries
/// read, ACCESS SHARE, or ROW SHARE with FOR UPDATE and its kin, on tables, what is below them, and
/// what views read; of what the foreign keys of written rows reference, ROW SHARE; of the sequences
/// of an INSERT's defaults. They stop little (ACCESS EXCLUSIVE most of all), but wait for it.
///
/// Not what only the rows decide: the actions of foreign keys, triggers, functions.
pub fn read_locks(text: &str, action: &Action, catalog: &Catalog) -> Vec<LockOn> {
    let mut found = Found {
        catalog,
        modes: BTreeMap::new(),
    };
    match action {
        Action::Select { .. }
        | Action::Insert { .. }
        | Action::Update { .. }
        | Action::Delete { .. }
        | Action::Merge { .. }
        | Action::Writes { .. }
        | Action::Copy { .. }
        | Action::CreateTable {
            as_select: true, ..
        }
        | Action::CreateView {
            materialized: true, ..
        } => found.queries(text, true),
        // These are only looked up.
        Action::CreateView { .. } | Action::CreatePolicy { .. } | Action::CreateRule { .. } => {
            found.queries(text, false);
        }
        _ => {}
    }
    found.changed(text, action);
    found
        .modes
        .into_iter()
        .map(|(relation, mode)| LockOn {
            relation: Some(relation),
            mode,
        })
        .collect()
}

struct Found<'a> {
    catalog: &'a Catalog,
    modes: BTreeMap<RelName, LockMode>,
}

impl Found<'_> {
    fn put(&mut self, name: &QName, mode: LockMode) {
        let held = self.modes.entry(name.into()).or_insert(mode);
        *held = mode.max(*held);
    }

    fn queries(&mut self, text: &str, run: bool) {
        let tokens = lex_code(text);
        let of_rows = rows_locked(&tokens, text);
        for name in reads(text) {
            let name = existing(self.catalog, &name);
            let Some(schema) = name.schema.clone() else {
                continue;
            };
            let name = QName::new(schema, name.name);
            if !self.catalog.tables.contains_key(&name)
                && !self.catalog.relations.contains_key(&name)
            {
                continue;
            }
            let mode = match &of_rows {
                Some(of) if of.is_empty() || of.contains(&name.name) => LockMode::RowShare,
                _ => LockMode::AccessShare,
            };
            self.put(&name, mode);
            if !run {
                continue;
            }
            let mut all = self.catalog.read_by(&name);
            all.insert(&name);
            for read in all {
                for name in self.catalog.below(read).into_iter().chain([read]) {
                    self.put(name, mode);
                }
            }
        }
    }

    /// What the rows that the statement writes look up.
    fn changed(&mut self, text: &str, action: &Action) {
        match action {
            Action::Insert { table }
            | Action::Merge { table }
            | Action::Copy {
                table: Some(table),
                from: true,
            } => self.written(table, |_| true, true),
            Action::Update { table } => {
                let set = assigned(text);
                self.written(table, |column| set.iter().any(|c| c == column), false);
            }
            Action::Writes { parts } => {
                for (part, span) in parts {
                    self.changed(span.of(text), part);
                }
            }
            _ => {}
        }
    }

    /// What the foreign keys of written columns look up, and what the defaults of new rows count
    /// on.
    fn written(&mut self, on: &RelName, which: impl Fn(&str) -> bool, new: bool) {
        let catalog = self.catalog;
        let Some(table) = table(catalog, on) else {
            return;
        };
        for constraint in &table.constraints {
            if let Some(other) = &constraint.references
                && constraint.columns.iter().any(|c| which(c))
            {
                self.put(other, LockMode::RowShare);
                for below in catalog.below(other) {
                    self.put(below, LockMode::RowShare);
                }
            }
        }
        if !new {
            return;
        }
        for link in catalog.links() {
            match link.kind {
                LinkKind::Default if link.from == table.name => {
                    self.put(&link.to, LockMode::RowExclusive);
                }
                LinkKind::OwnedBy if link.to == table.name => {
                    let identity = link
                        .columns
                        .iter()
                        .filter_map(|c| table.column(c))
                        .any(|c| c.identity.is_some());
                    if identity {
                        self.put(&link.from, LockMode::RowExclusive);
                    }
                }
                _ => {}
            }
        }
    }
}

/// The columns that an UPDATE sets: names before `=` between SET and FROM, WHERE or RETURNING.
fn assigned(text: &str) -> Vec<String> {
    let tokens = lex_code(text);
    let ends = |t: &Token| {
        ["from", "where", "returning"]
            .iter()
            .any(|word| is_keyword(*t, text, word))
    };
    let set: Vec<&Token> = tokens
        .iter()
        .skip_while(|t| !is_keyword(**t, text, "set"))
        .take_while(|t| !ends(t))
        .collect();
    // `SET (a, b) = …` has the names before a parenthesis or comma.
    set.windows(2)
        .filter(|pair| {
            matches!(pair[1].kind, TokenKind::Comma | TokenKind::RParen)
                || pair[1].text(text) == "="
        })
        .filter_map(|pair| ident_value(*pair[0], text))
        .collect()
}

/// FOR UPDATE, FOR SHARE and their kin: the tables after OF, none meaning all.
fn rows_locked(tokens: &[Token], text: &str) -> Option<Vec<String>> {
    let is = |i: usize, word: &str| tokens.get(i).is_some_and(|t| is_keyword(*t, text, word));
    let mut at = (0..tokens.len()).find(|&i| {
        is(i, "for")
            && (is(i + 1, "update") || is(i + 1, "share") || is(i + 1, "no") || is(i + 1, "key"))
    })?;
    let mut of = Vec::new();
    while at < tokens.len() && !is(at, "of") {
        at += 1;
    }
    while let Some((name, next)) = name_at(tokens, text, at + 1) {
        of.push(name.name);
        if tokens.get(next).is_none_or(|t| t.kind != TokenKind::Comma) {
            break;
        }
        at = next;
    }
    Some(of)
}
