//! Columns of which the server would compute a value for every row, one by one, while nobody can
//! read or write the table: a volatile default, `serial`, an identity. And those with a default that
//! reads other columns, which the server has no form for.
//!
//! They are added without a value. In the same statement the default is set, so that new rows
//! have one from the first; the old rows are filled by a backfill, and NOT NULL, constraints and
//! the identity come after it.
//!
//! Sources: PostgreSQL documentation, ALTER TABLE, "Notes" (a volatile default rewrites the table,
//! SET DEFAULT does not), and "Serial Types" for what `serial` stands for.

use super::draft::{Draft, DraftStatement};
use super::forms::kind;
use super::sections::Known;
use super::work::{Volatility, constrained_domain, volatility};
use crate::catalog::{Catalog, ConstraintKind, QName, Table};
use crate::migration::BackfillOptions;
use crate::sql::Span;
use crate::sql::ddl::{Action, AlterOp, AlterOpKind, ColumnDef, RelName};
use crate::sql::dml::{Assignment, Piece, identifiers, is_syntax};
use crate::sql::lex::MAX_IDENT;
use crate::sql::quote::{derived_name, ident, literal, qname};

/// How a new column gets its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fill {
    /// The value, for new rows and for old ones.
    pub expr: String,
    /// Where it comes from.
    pub from: FillFrom,
}

impl Fill {
    /// The sequence that the backfill takes numbers from.
    pub(super) fn sequence(&self) -> Option<&QName> {
        match &self.from {
            FillFrom::Default | FillFrom::Row => None,
            FillFrom::Serial { sequence, .. } => Some(sequence),
            FillFrom::Identity { stand_in, .. } => Some(stand_in),
        }
    }
}

/// Where the values of a new column come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FillFrom {
    /// A volatile default.
    Default,
    /// A default that reads other columns of the row: until contract the sync trigger gives it to new
    /// rows, from then on the application does.
    Row,
    /// `serial`: the column's own sequence.
    Serial {
        /// The sequence.
        sequence: QName,
        /// The integer type that it stands for.
        integer: &'static str,
    },
    /// An identity, whose sequence the server makes only where every row has a value: until then
    /// another one stands in for it.
    Identity {
        /// The identity's sequence.
        sequence: QName,
        /// The one that stands in.
        stand_in: QName,
        /// `GENERATED … AS IDENTITY`.
        clause: String,
        /// Options of the sequence, without parentheses.
        options: String,
    },
}

/// A name for the sequence of a column, as the server chooses it.
fn sequence_name(catalog: &Catalog, table: &QName, column: &str) -> QName {
    let base = format!("{}_{column}_seq", table.name);
    let in_schema = |name: String| QName::new(table.schema.as_str(), name);
    if base.len() > MAX_IDENT {
        return in_schema(derived_name("", &base, &format!("{table} {column} seq")));
    }
    let taken = |name: &str| kind(catalog, &RelName::new(Some(&table.schema), name)).is_some();
    let mut name = base.clone();
    let mut number = 0_u32;
    while taken(&name) {
        number += 1;
        name = format!("{base}{number}");
    }
    in_schema(name)
}

/// The relations of which it must be known whether their names are taken.
pub(super) fn wanted(action: &Action) -> Vec<RelName> {
    let Action::AlterTable { name, ops, .. } = action else {
        return Vec::new();
    };
    ops.iter()
        .filter_map(|op| match &op.kind {
            AlterOpKind::AddColumn(def) if def.identity || def.is_serial() => Some(RelName {
                schema: name.schema.clone(),
                name: format!("{}_{}_seq", name.name, def.name),
            }),
            _ => None,
        })
        .collect()
}

/// How a column that is added to an existing table is filled; `None` where the server does it at
/// no cost, and where there is no safe way (which the safe form says).
fn fill(catalog: &Catalog, table: &Table, def: &ColumnDef, sql: &str) -> Option<Fill> {
    if def.generated.is_some() || constrained_domain(&def.type_text, catalog) {
        return None;
    }
    let next = |sequence: &QName| format!("nextval({}::regclass)", literal(&qname(sequence)));
    if def.identity {
        let options = def.identity_options.map_or("", |o| o.of(sql));
        let options = options.trim_matches(['(', ')']).trim();
        // A sequence that the author names is the server's to make.
        if options.to_ascii_lowercase().contains("sequence") {
            return None;
        }
        let sequence = sequence_name(catalog, &table.name, &def.name);
        let stand_in = QName::new(
            table.name.schema.as_str(),
            derived_name(
                "pgshift_",
                &sequence.name,
                &format!("{} {} stand-in", table.name, def.name),
            ),
        );
        return Some(Fill {
            expr: next(&stand_in),
            from: FillFrom::Identity {
                sequence,
                stand_in,
                clause: def.identity_span?.of(sql).to_owned(),
                options: options.to_owned(),
            },
        });
    }
    if def.is_serial() {
        let sequence = sequence_name(catalog, &table.name, &def.name);
        let integer = match def.type_text.to_ascii_lowercase().as_str() {
            "smallserial" | "serial2" => "smallint",
            "bigserial" | "serial8" => "bigint",
            _ => "integer",
        };
        return Some(Fill {
            expr: next(&sequence),
            from: FillFrom::Serial { sequence, integer },
        });
    }
    let default = def.default.as_ref()?;
    if reads_row(table, default) {
        return Some(Fill {
            expr: default.clone(),
            from: FillFrom::Row,
        });
    }
    (volatility(default) != Volatility::Safe).then(|| Fill {
        expr: default.clone(),
        from: FillFrom::Default,
    })
}

/// The default names a column of the table, which the server refuses: nothing that it takes may be
/// meant. Words of special syntax (`AT TIME ZONE`, `date '…'`, `extract(year FROM …)`) may be names
/// of columns too.
fn reads_row(table: &Table, default: &str) -> bool {
    identifiers(default).into_iter().any(|(of, name, span)| {
        let own = of.as_ref().is_none_or(|of| *of == table.name.name);
        let syntax = of.is_none() && is_syntax(default, span);
        own && !syntax && table.column(&name).is_some()
    })
}

/// Finds the columns of expand that are to be filled, and the backfill of each. A column that a
/// backfill of the file fills is the author's own concern.
pub(super) fn collect<'a>(
    draft: &Draft<'a>,
    expand: &[Known<'a>],
) -> Vec<(Fill, DraftStatement<'a>)> {
    let mut all = Vec::new();
    for known in expand {
        let Some((table, ops)) = draft.altered(known) else {
            continue;
        };
        for op in ops {
            let AlterOpKind::AddColumn(def) = &op.kind else {
                continue;
            };
            let written = draft.backfills.iter().any(|b| {
                b.table == table.name && b.assignments.iter().any(|a| a.column == def.name)
            });
            if table.column(&def.name).is_some() || written {
                continue;
            }
            if let Some(fill) = fill(draft.catalog, table, def, &known.statement.sql) {
                let statement = backfill(known, table, op, def, &fill);
                all.push((fill, statement));
            }
        }
    }
    all
}

/// `UPDATE table SET column = value`. Where a value does not depend on the row, and new rows have one,
/// no trigger is needed, where a key tells which rows were there before.
fn backfill<'a>(
    known: &Known<'a>,
    table: &Table,
    op: &AlterOp,
    def: &ColumnDef,
    fill: &Fill,
) -> DraftStatement<'a> {
    let keyed = table
        .primary_key()
        .is_some_and(|key| key.iter().all(|column| !column.is_empty()));
    DraftStatement {
        statement: known.statement,
        table: table.name.clone(),
        alias: table.name.name.clone(),
        assignments: vec![Assignment {
            column: def.name.clone(),
            column_span: op.span,
            expr: Piece {
                text: fill.expr.clone(),
                span: def.default_span.unwrap_or(op.span),
            },
        }],
        delete: false,
        from: None,
        conditions: Vec::new(),
        tests_null: false,
        where_: None,
        options: BackfillOptions {
            sync: (keyed && fill.from != FillFrom::Row).then_some(false),
            ..BackfillOptions::default()
        },
        all_new: true,
    }
}

/// What becomes of `ADD COLUMN`: pieces of ALTER TABLE and statements, in the order in which they
/// run.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// CREATE SEQUENCE and the like, before.
    pub(super) before: Vec<String>,
    /// What takes those back.
    pub(super) before_undo: Vec<String>,
    /// Sub-commands that add the column, in place of the author's.
    pub(super) add: Vec<String>,
    /// Statements after that.
    pub(super) after: Vec<String>,
    /// Sub-commands for after the backfill: NOT NULL.
    pub(super) not_null: Option<String>,
    /// One transaction that makes the column an identity, and the one that takes it back.
    pub(super) identity: Option<(Vec<String>, Vec<String>)>,
    /// Sub-commands for after that: constraints.
    pub(super) constraints: Vec<String>,
    /// Why, for people.
    pub(super) why: String,
}

/// A sequence that goes with a table must have the table's owner, of whom the role that makes it may
/// be a mere member.
pub(super) fn given(sequence: &QName, table: &Table, role: &str) -> Option<String> {
    let other = !table.owner.is_empty() && table.owner != role;
    other.then(|| {
        format!(
            "ALTER SEQUENCE {} OWNER TO {}",
            qname(sequence),
            ident(&table.owner)
        )
    })
}

/// Takes an ADD COLUMN of the statement `sql` apart.
pub(super) fn parts(
    catalog: &Catalog,
    table: &Table,
    def: &ColumnDef,
    fill: &Fill,
    sql: &str,
) -> Parts {
    let column = ident(&def.name);
    let on = qname(&table.name);
    let integer = match &fill.from {
        FillFrom::Serial { integer, .. } => integer,
        _ => def.type_text.as_str(),
    };
    let mut bare = format!("ADD COLUMN {column} {integer}");
    for attribute in &def.attributes {
        bare.push(' ');
        bare.push_str(attribute.of(sql));
    }
    let mut add = vec![bare];
    if fill.from != FillFrom::Row {
        add.push(format!("ALTER COLUMN {column} SET DEFAULT {}", fill.expr));
    }
    let mut parts = Parts {
        add,
        why: match fill.from {
            FillFrom::Row => format!(
                "the server takes no default that reads other columns; the sync trigger gives \
                 {column} that value where a write gives none, old rows are filled in batches, and \
                 from contract on the application gives it, as there is no default"
            ),
            FillFrom::Default => format!(
                "the default of {column} may give every row another value, so the server would \
                 write the table anew under a lock that blocks reads and writes; new rows get it \
                 at once, old ones are filled in batches"
            ),
            _ => format!(
                "every row takes a number from a sequence for {column}, so the server would write \
                 the table anew under a lock that blocks reads and writes; new rows get one at \
                 once, old ones are filled in batches"
            ),
        },
        ..Parts::default()
    };
    let own =
        |sequence: &QName| format!("ALTER SEQUENCE {} OWNED BY {on}.{column}", qname(sequence));
    let drop = |sequence: &QName| format!("DROP SEQUENCE IF EXISTS {}", qname(sequence));
    match &fill.from {
        FillFrom::Default | FillFrom::Row => {}
        FillFrom::Serial { sequence, integer } => {
            parts.before = vec![format!("CREATE SEQUENCE {} AS {integer}", qname(sequence))];
            parts.before.extend(given(sequence, table, &catalog.role));
            parts.before_undo = vec![drop(sequence)];
            parts.after = vec![own(sequence)];
        }
        FillFrom::Identity {
            sequence,
            stand_in,
            clause,
            options,
        } => {
            let spaced = if options.is_empty() {
                String::new()
            } else {
                format!(" {options}")
            };
            // An identity needs no right to its sequence, a default does.
            let make = |sequence: &QName| {
                let mut sql = vec![format!(
                    "CREATE SEQUENCE {} AS {integer}{spaced}",
                    qname(sequence)
                )];
                sql.extend(given(sequence, table, &catalog.role));
                sql.push(format!(
                    "GRANT USAGE ON SEQUENCE {} TO PUBLIC",
                    qname(sequence)
                ));
                sql
            };
            parts.before = make(stand_in);
            parts.before_undo = vec![drop(stand_in)];
            parts.after = vec![own(stand_in)];
            let head = format!("ALTER TABLE {on} ALTER COLUMN {column}");
            let go_on = |to: &QName, from: &QName| {
                format!(
                    "SELECT setval({}::regclass, nextval({}::regclass), false)",
                    literal(&qname(to)),
                    literal(&qname(from))
                )
            };
            let there = vec![
                format!("{head} DROP DEFAULT"),
                format!(
                    "{head} ADD {clause} (SEQUENCE NAME {}{spaced})",
                    qname(sequence)
                ),
                go_on(sequence, stand_in),
                format!("DROP SEQUENCE {}", qname(stand_in)),
            ];
            let mut back = vec![format!("LOCK TABLE {on} IN ACCESS EXCLUSIVE MODE")];
            back.extend(make(stand_in));
            back.extend([
                go_on(stand_in, sequence),
                format!("{head} DROP IDENTITY"),
                format!("{head} SET DEFAULT {}", fill.expr),
                own(stand_in),
            ]);
            parts.identity = Some((there, back));
        }
    }
    let numbered = matches!(
        fill.from,
        FillFrom::Serial { .. } | FillFrom::Identity { .. }
    );
    // A primary key makes its columns NOT NULL by itself, but an identity needs it before.
    if def.not_null || numbered {
        parts.not_null = Some(match &def.not_null_name {
            Some(name) if catalog.major() >= super::forms::NOT_NULL_CONSTRAINTS => {
                format!("ADD CONSTRAINT {} NOT NULL {column}", ident(name))
            }
            _ => format!("ALTER COLUMN {column} SET NOT NULL"),
        });
    }
    for constraint in &def.constraints {
        let body = constraint.body;
        let text = match constraint.kind {
            ConstraintKind::ForeignKey => format!("FOREIGN KEY ({column}) {}", body.of(sql)),
            ConstraintKind::Unique | ConstraintKind::PrimaryKey => {
                let at = constraint.columns_at;
                format!(
                    "{} ({column}){}",
                    Span::new(body.start, at).of(sql),
                    Span::new(at, body.end).of(sql)
                )
            }
            _ => body.of(sql).to_owned(),
        };
        let name = constraint.name.as_ref();
        let name = name.map_or_else(String::new, |n| format!("CONSTRAINT {} ", ident(n)));
        parts.constraints.push(format!("ADD {name}{text}"));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::catalog;
    use crate::sql::ddl::understand;

    /// The fill of the one column that a statement adds to `orders`, taken apart.
    fn taken_apart(major: u32, column: &str) -> Option<Parts> {
        let catalog = catalog(major);
        let sql = format!("ALTER TABLE orders ADD COLUMN {column}");
        let Action::AlterTable { ops, .. } = understand(&sql) else {
            panic!("{sql}");
        };
        let AlterOpKind::AddColumn(def) = &ops[0].kind else {
            panic!("{sql}");
        };
        let table = catalog.table(None, "orders").expect("orders");
        let fill = fill(&catalog, table, def, &sql)?;
        Some(parts(&catalog, table, def, &fill, &sql))
    }

    #[test]
    fn what_the_server_does_at_no_cost_is_left_to_it() {
        for column in [
            "n int",
            "n int DEFAULT 5",
            "n timestamptz DEFAULT now()",
            "n positive DEFAULT random()",
            "n int GENERATED ALWAYS AS (id) STORED",
            "n int GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME s)",
        ] {
            assert!(taken_apart(15, column).is_none(), "{column}");
        }
    }

    #[test]
    fn a_default_with_everything() {
        let parts = taken_apart(
            18,
            "\"N\" varchar(9) COLLATE \"C\" CONSTRAINT nn NOT NULL DEFAULT f(1, ')') \
             UNIQUE NULLS NOT DISTINCT WITH (fillfactor = 50) CONSTRAINT k CHECK (\"N\" <> '') \
             REFERENCES users (id) ON DELETE CASCADE",
        )
        .expect("parts");
        assert_eq!(
            parts.add,
            [
                "ADD COLUMN \"N\" varchar(9) COLLATE \"C\"",
                "ALTER COLUMN \"N\" SET DEFAULT f(1, ')')"
            ]
        );
        assert_eq!(
            parts.not_null.as_deref(),
            Some("ADD CONSTRAINT \"nn\" NOT NULL \"N\"")
        );
        assert_eq!(
            parts.constraints,
            [
                "ADD UNIQUE NULLS NOT DISTINCT (\"N\") WITH (fillfactor = 50)",
                "ADD CONSTRAINT \"k\" CHECK (\"N\" <> '')",
                "ADD FOREIGN KEY (\"N\") REFERENCES users (id) ON DELETE CASCADE"
            ]
        );
        assert!(parts.before.is_empty() && parts.identity.is_none());
    }

    #[test]
    fn an_identity_goes_on_where_its_stand_in_was() {
        let parts = taken_apart(
            15,
            "n bigint GENERATED ALWAYS AS IDENTITY (START 7) PRIMARY KEY",
        )
        .expect("parts");
        assert!(parts.before[0].ends_with("AS bigint START 7"), "{parts:?}");
        let (there, back) = parts.identity.expect("an identity");
        assert_eq!(
            there[1],
            "ALTER TABLE \"public\".\"orders\" ALTER COLUMN \"n\" ADD GENERATED ALWAYS AS IDENTITY \
             (SEQUENCE NAME \"public\".\"orders_n_seq\" START 7)"
        );
        assert!(there[2].contains("setval") && back[0].starts_with("LOCK TABLE"));
        assert_eq!(parts.constraints, ["ADD PRIMARY KEY (\"n\")"]);
    }

    #[test]
    fn a_default_that_reads_the_row_is_required_only_where_it_says_so() {
        for (column, not_null) in [
            ("n int DEFAULT id + 1", None),
            (
                "n int NOT NULL DEFAULT id + 1",
                Some("ALTER COLUMN \"n\" SET NOT NULL"),
            ),
        ] {
            let parts = taken_apart(15, column).expect("parts");
            assert_eq!(parts.not_null.as_deref(), not_null, "{column}");
            assert_eq!(parts.add, ["ADD COLUMN \"n\" int"], "{column}");
        }
    }

    #[test]
    fn a_default_that_reads_the_row_names_a_column() {
        let catalog = catalog(15);
        let mut orders = catalog.tables[&QName::new("public", "orders")].clone();
        // Words of syntax as names of columns.
        let words = ["date", "time", "zone"];
        for (column, name) in orders.columns.iter_mut().skip(1).zip(words) {
            column.name = name.into();
        }
        let id = orders.columns[0].name.clone();
        for (default, reads) in [
            (format!("{id} + 1"), true),
            (format!("orders.{id}::text || 'x'"), true),
            ("time || 'x'".to_owned(), true),
            (format!("other.{id}"), false),
            (format!("concat('{id}')"), false),
            (format!("{id}()"), false),
            ("date '2026-01-01'".to_owned(), false),
            ("'2026-01-01'::date".to_owned(), false),
            ("(now() AT TIME ZONE 'UTC')".to_owned(), false),
            ("now() AT TIME ZONE date".to_owned(), true),
            ("substring(date FROM 1 FOR 2)".to_owned(), true),
            ("extract(date FROM now())".to_owned(), false),
            ("'x' COLLATE date".to_owned(), false),
            ("CAST(now() AS date)".to_owned(), false),
            ("make_interval(date => 5)".to_owned(), false),
            ("make_interval(date := 5)".to_owned(), false),
            (format!("make_interval(days => {id})"), true),
        ] {
            assert_eq!(reads_row(&orders, &default), reads, "{default}");
        }
    }
}
