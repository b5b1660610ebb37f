//! Column and constraint definitions.

use super::{Cursor, RelName};
use crate::catalog::ConstraintKind;
use crate::sql::lex::TokenKind;
use crate::sql::source::Span;

/// How a generated column is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generated {
    /// Computed on write.
    Stored,
    /// Computed on read (PostgreSQL 18, where it is the default).
    Virtual,
}

/// A column definition, from ADD COLUMN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDef {
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Name.
    pub name: String,
    /// The author's text of the type.
    pub type_text: String,
    /// NOT NULL.
    pub not_null: bool,
    /// The author's text of the default.
    pub default: Option<String>,
    /// GENERATED ALWAYS AS (…), with the author's text of the expression.
    pub generated: Option<(Generated, String)>,
    /// GENERATED … AS IDENTITY.
    pub identity: bool,
    /// Where the expression of `default` is.
    pub default_span: Option<Span>,
    /// `GENERATED … AS IDENTITY`, without its options.
    pub identity_span: Option<Span>,
    /// The parenthesised options of the identity's sequence.
    pub identity_options: Option<Span>,
    /// `CONSTRAINT name` of NOT NULL; kept by the server since 18.
    pub not_null_name: Option<String>,
    /// COLLATE, STORAGE, COMPRESSION and OPTIONS: what belongs to the bare column.
    pub attributes: Vec<Span>,
    /// CHECK, REFERENCES, UNIQUE and PRIMARY KEY in the definition.
    pub constraints: Vec<InlineConstraint>,
    /// From the name to the end of the definition.
    pub definition: Span,
}

impl ColumnDef {
    /// The type is `serial` or one of its kin: an integer with a sequence as its default.
    pub fn is_serial(&self) -> bool {
        matches!(
            self.type_text.to_ascii_lowercase().as_str(),
            "serial" | "serial2" | "serial4" | "serial8" | "bigserial" | "smallserial"
        )
    }

    /// True where it has a constraint of this kind.
    pub fn has(&self, kind: ConstraintKind) -> bool {
        self.constraints.iter().any(|c| c.kind == kind)
    }
}

/// A constraint in a column definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineConstraint {
    /// CONSTRAINT this name.
    pub name: Option<String>,
    /// Kind.
    pub kind: ConstraintKind,
    /// The other table of a foreign key.
    pub references: Option<RelName>,
    /// All of it, CONSTRAINT and name included.
    pub span: Span,
    /// From its key word: `CHECK (…)`, `REFERENCES t (id) ON DELETE CASCADE`.
    pub body: Span,
    /// Where a table constraint would have its columns: one past `UNIQUE NULLS NOT DISTINCT` or
    /// `PRIMARY KEY`; of other kinds the end.
    pub columns_at: usize,
}

/// A table constraint, from ADD CONSTRAINT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConstraintDef {
    /// CONSTRAINT this name.
    pub name: Option<String>,
    /// Kind.
    pub kind: ConstraintKind,
    /// Columns, by name; of a CHECK none. An EXCLUDE's are not read.
    pub columns: Vec<String>,
    /// The other table of a foreign key.
    pub references: Option<RelName>,
    /// NOT VALID.
    pub not_valid: bool,
    /// NOT ENFORCED (18).
    pub not_enforced: bool,
    /// NO INHERIT.
    pub no_inherit: bool,
    /// USING INDEX this index.
    pub using_index: Option<String>,
    /// WITHOUT OVERLAPS (18): is built on an index of another kind, that no USING INDEX can give.
    pub without_overlaps: bool,
    /// From its key word: `CHECK (…)`, `UNIQUE (…)`.
    pub body: Span,
    /// The parenthesised key columns of UNIQUE and PRIMARY KEY.
    pub key: Option<Span>,
    /// `NULLS NOT DISTINCT`.
    pub nulls: Option<Span>,
    /// `INCLUDE (…)`.
    pub include: Option<Span>,
    /// `WITH (…)` of the index.
    pub with: Option<Span>,
    /// The tablespace's name of USING INDEX TABLESPACE.
    pub tablespace: Option<Span>,
    /// `DEFERRABLE INITIALLY DEFERRED` and the like; empty where there is none.
    pub deferrable: Span,
}

/// Words that start a column constraint, so that they end a type and a default (`ColConstraint`
/// in `gram.y`).
fn starts_column_constraint(c: &Cursor<'_>) -> bool {
    c.is_any(&[
        "constraint",
        "null",
        "unique",
        "primary",
        "check",
        "default",
        "generated",
        "references",
        "collate",
        "deferrable",
        "initially",
        "storage",
        "compression",
        "enforced",
    ]) || (c.is("not")
        && (c.is_at(1, "null") || c.is_at(1, "deferrable") || c.is_at(1, "enforced")))
        || (c.is("no") && c.is_at(1, "inherit"))
}

/// Steps over an expression or type whose first token is taken whatever it is.
fn skip_item(c: &mut Cursor<'_>, stop: impl Fn(&Cursor<'_>) -> bool) -> Option<Span> {
    if c.done() {
        return None;
    }
    let start = c.offset();
    if c.parens().is_none() {
        c.bump();
    }
    c.skip_to(stop);
    Some(c.span_from(start))
}

/// The type of a column, up to its constraints.
pub(super) fn type_text<'a>(
    c: &mut Cursor<'a>,
    stop: impl Fn(&Cursor<'_>) -> bool,
) -> Option<&'a str> {
    let span = skip_item(c, stop)?;
    Some(c.text_of(span))
}

/// A column definition from its name to the end of the cursor.
pub(super) fn column_def(c: &mut Cursor<'_>, if_not_exists: bool) -> Option<ColumnDef> {
    let start = c.offset();
    let name = c.ident()?;
    let type_text = type_text(c, |c| {
        starts_column_constraint(c)
            || c.is("options")
            || c.is("with")
            // `timestamp with time zone` is a type, `WITH OPTIONS` is not.
            && !c.is_at(1, "time")
    })?
    .to_owned();
    let mut def = ColumnDef {
        if_not_exists,
        name,
        type_text,
        not_null: false,
        default: None,
        generated: None,
        identity: false,
        default_span: None,
        identity_span: None,
        identity_options: None,
        not_null_name: None,
        attributes: Vec::new(),
        constraints: Vec::new(),
        definition: Span::default(),
    };
    while !c.done() {
        column_constraint(c, &mut def)?;
    }
    def.definition = c.span_from(start);
    Some(def)
}

fn column_constraint(c: &mut Cursor<'_>, def: &mut ColumnDef) -> Option<()> {
    let start = c.offset();
    let name = if c.eat("constraint") {
        Some(c.ident()?)
    } else {
        None
    };
    let body_start = c.offset();
    let mut references = None;
    let mut columns_at = None;
    let kind = if c.eat("not null") {
        def.not_null = true;
        def.not_null_name.clone_from(&name);
        None
    } else if c.eat("null")
        || c.eat("no inherit")
        || c.eat("not enforced")
        || c.eat("enforced")
        || deferrable(c)
    {
        None
    } else if c.eat("collate") {
        c.rel()?;
        def.attributes.push(c.span_from(start));
        None
    } else if c.eat("storage") || c.eat("compression") {
        c.ident()?;
        def.attributes.push(c.span_from(start));
        None
    } else if c.eat("options") {
        c.parens()?;
        def.attributes.push(c.span_from(start));
        None
    } else if c.eat("default") {
        let span = skip_item(c, starts_column_constraint)?;
        def.default = Some(c.text_of(span).to_owned());
        def.default_span = Some(span);
        None
    } else if c.eat("generated") {
        generated(c, def, body_start)?;
        None
    } else if c.eat("check") {
        c.parens()?;
        Some(ConstraintKind::Check)
    } else if c.eat("unique") {
        let _ = c.eat("nulls not distinct") || c.eat("nulls distinct");
        columns_at = Some(c.end_behind());
        index_parameters(c, None)?;
        Some(ConstraintKind::Unique)
    } else if c.eat("primary key") {
        columns_at = Some(c.end_behind());
        index_parameters(c, None)?;
        Some(ConstraintKind::PrimaryKey)
    } else if c.eat("references") {
        references = Some(reference(c)?);
        Some(ConstraintKind::ForeignKey)
    } else {
        return None;
    };
    if let Some(kind) = kind {
        while deferrable(c) || c.eat("no inherit") || c.eat("not enforced") || c.eat("enforced") {}
        def.constraints.push(InlineConstraint {
            name,
            kind,
            references,
            span: c.span_from(start),
            body: c.span_from(body_start),
            columns_at: columns_at.unwrap_or(c.end_behind()),
        });
    }
    Some(())
}

fn generated(c: &mut Cursor<'_>, def: &mut ColumnDef, start: usize) -> Option<()> {
    if !c.eat("always as") && !c.eat("by default as") {
        return None;
    }
    if c.eat("identity") {
        def.identity_span = Some(c.span_from(start));
        let options = c.offset();
        if c.parens().is_some() {
            def.identity_options = Some(c.span_from(options));
        }
        def.identity = true;
        return Some(());
    }
    let expression = c.parens()?;
    let how = if c.eat("stored") {
        Generated::Stored
    } else {
        let _ = c.eat("virtual");
        Generated::Virtual
    };
    def.generated = Some((how, c.text_of(expression).to_owned()));
    Some(())
}

/// `t (a, b) MATCH FULL ON DELETE SET NULL (a)`, after REFERENCES.
fn reference(c: &mut Cursor<'_>) -> Option<RelName> {
    let table = c.rel()?;
    let _ = c.parens();
    loop {
        if c.eat("match") {
            c.bump();
        } else if c.eat("on delete") || c.eat("on update") {
            let known = c.eat("no action")
                || c.eat("restrict")
                || c.eat("cascade")
                || c.eat("set null")
                || c.eat("set default");
            if !known {
                return None;
            }
            let _ = c.parens();
        } else {
            return Some(table);
        }
    }
}

/// One of the words that say when a constraint is checked.
fn deferrable(c: &mut Cursor<'_>) -> bool {
    c.eat("not deferrable")
        || c.eat("deferrable")
        || c.eat("initially deferred")
        || c.eat("initially immediate")
}

/// `INCLUDE (…) WITH (…) USING INDEX TABLESPACE t` of UNIQUE, PRIMARY KEY and EXCLUDE.
fn index_parameters(c: &mut Cursor<'_>, mut def: Option<&mut ConstraintDef>) -> Option<()> {
    loop {
        let start = c.offset();
        if c.eat("include") {
            c.parens()?;
            if let Some(def) = &mut def {
                def.include = Some(c.span_from(start));
            }
        } else if c.eat("with") {
            c.parens()?;
            if let Some(def) = &mut def {
                def.with = Some(c.span_from(start));
            }
        } else if c.eat("using index tablespace") {
            let start = c.offset();
            c.ident()?;
            if let Some(def) = &mut def {
                def.tablespace = Some(c.span_from(start));
            }
        } else {
            return Some(());
        }
    }
}

/// A table constraint from CONSTRAINT or its key word to the end of the cursor.
pub(super) fn table_constraint(c: &mut Cursor<'_>) -> Option<ConstraintDef> {
    let name = if c.eat("constraint") {
        Some(c.ident()?)
    } else {
        None
    };
    let start = c.offset();
    let mut def = ConstraintDef {
        name,
        kind: ConstraintKind::Check,
        columns: Vec::new(),
        references: None,
        not_valid: false,
        not_enforced: false,
        no_inherit: false,
        using_index: None,
        without_overlaps: false,
        body: Span::default(),
        key: None,
        nulls: None,
        include: None,
        with: None,
        tablespace: None,
        deferrable: Span::default(),
    };
    if c.eat("check") {
        c.parens()?;
    } else if c.eat("foreign key") {
        def.kind = ConstraintKind::ForeignKey;
        def.columns = c.ident_list()?.0;
        if !c.eat("references") {
            return None;
        }
        def.references = Some(reference(c)?);
    } else if c.eat("not null") {
        def.kind = ConstraintKind::NotNull;
        def.columns = vec![c.ident()?];
    } else if c.is("unique") || c.is("primary") {
        key_constraint(c, &mut def)?;
    } else if c.eat("exclude") {
        def.kind = ConstraintKind::Exclusion;
        if c.eat("using") {
            c.ident()?;
        }
        c.parens()?;
        index_parameters(c, Some(&mut def))?;
        if c.eat("where") {
            c.parens()?;
        }
    } else {
        return None;
    }
    let deferrable_start = c.offset();
    let mut deferrable_end = deferrable_start;
    loop {
        if deferrable(c) {
            deferrable_end = c.end_behind();
        } else if c.eat("not valid") {
            def.not_valid = true;
        } else if c.eat("not enforced") {
            def.not_enforced = true;
        } else if c.eat("no inherit") {
            def.no_inherit = true;
        } else if !c.eat("enforced") {
            break;
        }
    }
    def.deferrable = Span::new(deferrable_start.min(deferrable_end), deferrable_end);
    def.body = c.span_from(start);
    c.done().then_some(def)
}

fn key_constraint(c: &mut Cursor<'_>, def: &mut ConstraintDef) -> Option<()> {
    def.kind = if c.eat("unique") {
        ConstraintKind::Unique
    } else if c.eat("primary key") {
        ConstraintKind::PrimaryKey
    } else {
        return None;
    };
    if c.is("using") && c.is_at(1, "index") && !c.is_at(2, "tablespace") {
        let _ = c.eat("using index");
        def.using_index = Some(c.ident()?);
        return Some(());
    }
    let start = c.offset();
    if c.eat("nulls not distinct") {
        def.nulls = Some(c.span_from(start));
    } else {
        let _ = c.eat("nulls distinct");
    }
    if c.kind() != Some(TokenKind::LParen) {
        return None;
    }
    let before = *c;
    let (columns, key) = c.ident_list()?;
    def.without_overlaps = {
        let mut inner = before;
        inner.group().is_some_and(|mut g| {
            g.skip_to(|g| g.is("without") && g.is_at(1, "overlaps"));
            !g.done()
        })
    };
    def.columns = columns;
    def.key = Some(key);
    index_parameters(c, Some(def))
}
