//! The body of a sync trigger's function.

use std::fmt::Write as _;

use super::{Component, Mapping, Renamed};
use crate::sql::quote::ident;

/// What a function does for one component. Columns are named as in the author's text; `renamed`
/// has what they are called now.
pub(super) struct Part<'a> {
    pub(super) component: &'a Component,
    pub(super) renamed: &'a [Renamed],
    pub(super) partitioned: bool,
}

impl Part<'_> {
    /// Old and new application version write.
    pub(super) fn both(&self, body: &mut String) {
        let targets = self.component.target_names();
        let sources = self.component.sources();
        body.push_str("  IF TG_OP = 'INSERT' THEN\n");
        let _ = writeln!(body, "    IF {} THEN", self.unset(&targets));
        self.forward(body, 6);
        if !self.component.reverse.is_empty() {
            body.push_str("    ELSE\n");
            self.reverse_inserted(body, 6);
        }
        body.push_str("    END IF;\n");
        let _ = writeln!(body, "  ELSIF {} THEN", self.changed(&targets));
        if self.component.reverse.is_empty() {
            body.push_str("    NULL;\n");
        } else {
            self.reverse(body, 4);
        }
        if !sources.is_empty() {
            let _ = writeln!(body, "  ELSIF {} THEN", self.changed(&sources));
            for target in &targets {
                let _ = writeln!(body, "    {} := NULL;", self.row(target));
            }
            self.forward(body, 4);
        }
        // A row that the backfill has not reached; decided by mapping, because each has a
        // backfill of its own.
        body.push_str("  ELSE\n");
        for mapping in &self.component.forward {
            self.assign_where_unset(body, mapping, 4);
        }
        body.push_str("  END IF;\n");
    }

    /// After contract a row is mapped back when it has something to map back, and when anything
    /// that it is computed from changes: there is no old application version whose write could be
    /// meant.
    pub(super) fn reverse_only(&self, body: &mut String) {
        if self.component.reverse.is_empty() {
            return;
        }
        let targets = self.component.target_names();
        let others = self.component.reverse_sources();
        let set = format!("NOT ({})", self.unset(&targets));
        body.push_str("  IF TG_OP = 'INSERT' THEN\n");
        let _ = writeln!(body, "    IF {set} THEN");
        self.reverse_inserted(body, 6);
        body.push_str("    END IF;\n");
        let _ = write!(body, "  ELSIF {}", self.changed(&targets));
        if !others.is_empty() {
            let _ = write!(body, "\n    OR {set} AND {}", self.changed(&others));
        }
        body.push_str(" THEN\n");
        self.reverse(body, 4);
        body.push_str("  END IF;\n");
    }

    /// The new columns are nobody's any more, and follow.
    pub(super) fn forward_only(&self, body: &mut String) {
        for mapping in &self.component.forward {
            self.assign(body, mapping, 2);
        }
    }

    /// What a column of the author's text is called now.
    fn now(&self, column: &str) -> String {
        let renamed = self.renamed.iter().find(|r| r.column == column);
        ident(renamed.map_or(column, |r| &r.now))
    }

    /// A column of the row: `NEW."a"`.
    fn row(&self, column: &str) -> String {
        format!("NEW.{}", self.now(column))
    }

    /// `NEW."a" IS NULL AND NEW."b" IS NULL`
    fn unset(&self, columns: &[&str]) -> String {
        let all: Vec<_> = columns
            .iter()
            .map(|c| format!("{} IS NULL", self.row(c)))
            .collect();
        all.join(" AND ")
    }

    /// True where one of the columns is another value than before, byte for byte: by the equality
    /// of its type `citext`, `numeric` and `interval` have values that are equal and still give
    /// other results, and `json` has none (docs, "Composite Type Comparison").
    fn changed(&self, columns: &[&str]) -> String {
        let row = |version: &str| {
            let all: Vec<_> = columns
                .iter()
                .map(|c| format!("{version}.{}", self.now(c)))
                .collect();
            record(&all)
        };
        differ(&row("NEW"), &row("OLD"))
    }

    /// The targets are null here. Where several mappings write one column, the first that has a
    /// value for the row wins, as in the backfill.
    fn forward(&self, body: &mut String, indent: usize) {
        let all = &self.component.forward;
        for (n, mapping) in all.iter().enumerate() {
            if all[..n].iter().any(|m| m.shares_target(mapping)) {
                self.assign_where_unset(body, mapping, indent);
            } else {
                self.assign(body, mapping, indent);
            }
        }
    }

    fn assign_where_unset(&self, body: &mut String, mapping: &Mapping, indent: usize) {
        let pad = " ".repeat(indent);
        let targets: Vec<&str> = mapping.targets.iter().map(|t| t.column.as_str()).collect();
        let _ = writeln!(body, "{pad}IF {} THEN", self.unset(&targets));
        self.assign(body, mapping, indent + 2);
        let _ = writeln!(body, "{pad}END IF;");
    }

    fn reverse(&self, body: &mut String, indent: usize) {
        for mapping in &self.component.reverse {
            self.assign(body, mapping, indent);
        }
    }

    /// Maps an inserted row back. A row that an UPDATE moves to another partition arrives as an
    /// INSERT too, with both sides set; mapping it back once more could lose digits.
    fn reverse_inserted(&self, body: &mut String, indent: usize) {
        if !self.partitioned {
            self.reverse(body, indent);
            return;
        }
        let forward = &self.component.forward;
        // Mappings that write the same columns serve different rows: one of them is enough.
        let alternatives = forward
            .windows(2)
            .all(|pair| pair[0].target_names() == pair[1].target_names());
        let pad = " ".repeat(indent);
        let _ = writeln!(body, "{pad}<<pgshift_equal>>\n{pad}BEGIN");
        for mapping in forward {
            let _ = writeln!(body, "{pad}  {}", self.select_into(mapping));
            let differs = self.differs(mapping);
            if alternatives {
                let _ = writeln!(body, "{pad}  IF FOUND AND NOT ({differs}) THEN");
            } else {
                let _ = writeln!(body, "{pad}  IF NOT FOUND OR {differs} THEN");
                self.reverse(body, indent + 4);
            }
            let _ = writeln!(body, "{pad}    EXIT pgshift_equal;\n{pad}  END IF;");
        }
        if alternatives {
            self.reverse(body, indent + 2);
        }
        let _ = writeln!(body, "{pad}END;");
    }

    /// The selected values are not those of the row.
    fn differs(&self, mapping: &Mapping) -> String {
        let new: Vec<_> = mapping
            .targets
            .iter()
            .map(|t| self.row(&t.column))
            .collect();
        let given: Vec<_> = mapping
            .targets
            .iter()
            .enumerate()
            .map(|(n, t)| format!("CAST(pgshift_row.c{n} AS {})", t.type_name))
            .collect();
        differ(&record(&new), &record(&given))
    }

    /// Evaluates a mapping over the NEW row and assigns where its condition holds.
    fn assign(&self, body: &mut String, mapping: &Mapping, indent: usize) {
        let pad = " ".repeat(indent);
        if mapping.or_null {
            // A block with EXCEPTION is a subtransaction, without an id as it writes nothing.
            let plain = Mapping {
                or_null: false,
                ..mapping.clone()
            };
            let _ = writeln!(body, "{pad}BEGIN");
            self.assign(body, &plain, indent + 2);
            let _ = writeln!(
                body,
                "{pad}EXCEPTION WHEN data_exception OR integrity_constraint_violation THEN"
            );
            for target in &mapping.targets {
                let _ = writeln!(body, "{pad}  {} := NULL;", self.row(&target.column));
            }
            let _ = writeln!(body, "{pad}END;");
            return;
        }
        let _ = writeln!(body, "{pad}{}", self.select_into(mapping));
        let _ = writeln!(body, "{pad}IF FOUND THEN");
        for (n, target) in mapping.targets.iter().enumerate() {
            let column = self.row(&target.column);
            let _ = writeln!(body, "{pad}  {column} := pgshift_row.c{n};");
        }
        let _ = writeln!(body, "{pad}END IF;");
    }

    /// `SELECT (expr) AS c0, … INTO pgshift_row FROM (SELECT NEW.a AS a) AS t, from WHERE …;`
    ///
    /// The values are not cast here: the assignment to NEW coerces as the author's UPDATE does, so
    /// a value that does not fit is an error and never cut.
    fn select_into(&self, mapping: &Mapping) -> String {
        let values: Vec<_> = mapping
            .targets
            .iter()
            .enumerate()
            .map(|(n, t)| format!("({}\n) AS c{n}", t.expr))
            .collect();
        let row: Vec<_> = mapping
            .reads
            .iter()
            .map(|column| format!("{} AS {}", self.row(column), ident(column)))
            .collect();
        let from = mapping.from.as_ref();
        let from = from.map(|f| format!(", {f}\n")).unwrap_or_default();
        let filter = mapping.condition.as_ref();
        let filter = filter.map(|c| format!(" WHERE {c}\n")).unwrap_or_default();
        format!(
            "SELECT {} INTO pgshift_row FROM (SELECT {}) AS {}{from}{filter} LIMIT 1;",
            values.join(", "),
            row.join(", "),
            ident(&mapping.alias),
        )
    }
}

/// A row that the server compares as a whole: without the cast it would take two rows apart.
fn record(values: &[String]) -> String {
    format!("ROW({})::record", values.join(", "))
}

fn differ(one: &str, other: &str) -> String {
    format!("{one} OPERATOR(pg_catalog.*<>) {other}")
}
