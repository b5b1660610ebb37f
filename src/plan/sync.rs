//! Sync triggers: keep old and new columns equal while both application versions write.
//!
//! One BEFORE INSERT OR UPDATE row trigger per table, firing on **every** update: with
//! `UPDATE OF column` a row moved by an unrelated update would escape the backfill's scan.
//! The author's expressions are evaluated verbatim over a one-row subquery that carries the
//! table's range name, so their column references resolve as in the author's own UPDATE.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::catalog::QName;
use crate::sql::quote::{derived_name, ident, literal, qname};

/// The transaction-local setting that our own chunk writes carry, so that the trigger skips them.
pub const WRITER_SETTING: &str = "pgshift.writer";
/// Its value.
pub const WRITER_BACKFILL: &str = "backfill";

/// One assigned column of a mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The column.
    pub column: String,
    /// SQL text of its type.
    pub type_name: String,
    /// Its type has an equality operator.
    pub has_equality: bool,
    /// The author's expression.
    pub expr: String,
    /// The expression calls a volatile function: it has no value to compare with.
    pub volatile: bool,
}

/// One UPDATE of a `backfill` (forward) or `reverse` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// The name by which the author's text refers to the table.
    pub alias: String,
    /// The author's FROM.
    pub from: Option<String>,
    /// The author's WHERE, without tests that the target is still null.
    pub condition: Option<String>,
    /// Assigned columns.
    pub targets: Vec<Target>,
    /// Columns of the table that expressions and condition read.
    pub reads: Vec<ReadColumn>,
}

/// A column that a mapping reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReadColumn {
    /// Its name in the author's text.
    pub column: String,
    /// Its type has an equality operator.
    pub has_equality: bool,
}

/// Mappings whose direction is decided together: forward ones linked by the reverse ones that
/// read what they write.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// `b = f(a)`.
    pub forward: Vec<Mapping>,
    /// `a = g(b)`.
    pub reverse: Vec<Mapping>,
}

/// All that keeps one table in sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncGroup {
    /// The table.
    pub table: QName,
    /// It is partitioned: a row that moves between partitions fires BEFORE UPDATE, then INSERT.
    pub partitioned: bool,
    /// The trigger function.
    pub function: QName,
    /// The trigger.
    pub trigger: String,
    /// `search_path` of the function: quoted, comma-separated.
    pub search_path: String,
    /// What is kept in sync.
    pub components: Vec<Component>,
}

/// Which directions a trigger function serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Between sync and contract: old and new application version write.
    Both,
    /// After contract: only the new one writes, the soft-dropped columns follow for a revert.
    ReverseOnly,
}

/// A soft-dropped column and the name that it has meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renamed {
    /// The author's name.
    pub column: String,
    /// The name in the table.
    pub now: String,
}

/// A trigger name that sorts after every BEFORE row trigger of the table: PostgreSQL fires
/// triggers of one kind in order of name (docs, "Overview of Trigger Behavior"), and ours must see
/// what the others made of the row.
///
/// # Errors
/// The name of a trigger that sorts after any name that we could take.
pub fn trigger_name(table: &QName, existing: &[&str]) -> Result<String, String> {
    let key = format!("sync {table}");
    for prefix in ["zzz_pgshift_sync_", "~pgshift_sync_"] {
        let name = derived_name(prefix, &table.name, &key);
        if existing
            .iter()
            .all(|other| other.as_bytes() < name.as_bytes())
        {
            return Ok(name);
        }
    }
    Err(existing
        .iter()
        .max()
        .map(|s| (*s).to_owned())
        .unwrap_or_default())
}

/// The name of a table's trigger function, in the state schema.
pub fn function_name(table: &QName) -> QName {
    QName::new(
        "pgshift",
        derived_name("sync_", &table.name, &format!("sync {table}")),
    )
}

/// Links forward and reverse mappings of one table into components.
///
/// # Errors
/// The index of a reverse mapping that reads nothing that a forward one writes.
pub fn components(forward: Vec<Mapping>, reverse: Vec<Mapping>) -> Result<Vec<Component>, usize> {
    // Every forward mapping starts alone; those that write a common column, and those that a
    // reverse mapping links, are merged.
    let mut all: Vec<Component> = Vec::new();
    for mapping in forward {
        let writes: BTreeSet<&str> = mapping.targets.iter().map(|t| t.column.as_str()).collect();
        let touches = |c: &Component| c.targets().any(|t| writes.contains(t.column.as_str()));
        let (mut linked, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(touches);
        all = rest;
        let mut merged = merge(&mut linked);
        merged.forward.push(mapping);
        all.push(merged);
    }
    for (index, mapping) in reverse.into_iter().enumerate() {
        let reads: BTreeSet<&str> = mapping.reads.iter().map(|r| r.column.as_str()).collect();
        let touches = |c: &Component| c.targets().any(|t| reads.contains(t.column.as_str()));
        let (mut linked, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(touches);
        if linked.is_empty() {
            return Err(index);
        }
        all = rest;
        let mut merged = merge(&mut linked);
        merged.reverse.push(mapping);
        all.push(merged);
    }
    Ok(all)
}

fn merge(parts: &mut Vec<Component>) -> Component {
    parts.drain(..).fold(Component::default(), |mut all, part| {
        all.forward.extend(part.forward);
        all.reverse.extend(part.reverse);
        all
    })
}

impl Component {
    /// The new columns, each once, in order.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        let mut seen = BTreeSet::new();
        self.forward
            .iter()
            .flat_map(|m| &m.targets)
            .filter(move |t| seen.insert(&t.column))
    }

    /// What the forward mappings read, without their own targets.
    fn sources(&self) -> Vec<&ReadColumn> {
        let targets: BTreeSet<&str> = self.targets().map(|t| t.column.as_str()).collect();
        let all: BTreeSet<&ReadColumn> = self
            .forward
            .iter()
            .flat_map(|m| &m.reads)
            .filter(|r| !targets.contains(r.column.as_str()))
            .collect();
        all.into_iter().collect()
    }
}

/// `NEW.x IS DISTINCT FROM OLD.x`, through text where the type has no equality.
fn changed(column: &str, has_equality: bool) -> String {
    let column = ident(column);
    let cast = if has_equality { "" } else { "::text" };
    format!("NEW.{column}{cast} IS DISTINCT FROM OLD.{column}{cast}")
}

impl SyncGroup {
    /// True where some component maps new columns back to old ones.
    pub fn has_reverse(&self) -> bool {
        self.components.iter().any(|c| !c.reverse.is_empty())
    }

    /// Statements that create function and trigger, in one transaction. CREATE TRIGGER takes
    /// SHARE ROW EXCLUSIVE, which waits for every transaction that has written to the table: when
    /// it commits, every later row version passes through the trigger.
    pub fn create(&self, form: Form, renamed: &[Renamed]) -> Vec<String> {
        let mut statements = self.replace_function(form, renamed);
        statements.push(format!(
            "CREATE TRIGGER {} BEFORE INSERT OR UPDATE ON {} FOR EACH ROW \
             WHEN (current_setting({}, true) IS DISTINCT FROM {}) EXECUTE FUNCTION {}()",
            ident(&self.trigger),
            qname(&self.table),
            literal(WRITER_SETTING),
            literal(WRITER_BACKFILL),
            qname(&self.function),
        ));
        statements
    }

    /// Statements that put the function of this form in place of the present one.
    pub fn replace_function(&self, form: Form, renamed: &[Renamed]) -> Vec<String> {
        vec![
            self.function_sql(form, renamed),
            format!(
                "REVOKE ALL ON FUNCTION {}() FROM PUBLIC",
                qname(&self.function)
            ),
        ]
    }

    /// Statements that remove trigger and function. Idempotent.
    pub fn remove(&self) -> Vec<String> {
        vec![
            format!(
                "DROP TRIGGER IF EXISTS {} ON {}",
                ident(&self.trigger),
                qname(&self.table)
            ),
            format!("DROP FUNCTION IF EXISTS {}()", qname(&self.function)),
        ]
    }

    /// CREATE OR REPLACE FUNCTION.
    pub fn function_sql(&self, form: Form, renamed: &[Renamed]) -> String {
        let mut body = String::from(
            "\n#variable_conflict use_column\nDECLARE\n  pgshift_row record;\nBEGIN\n",
        );
        for component in &self.components {
            match form {
                Form::Both => self.both(&mut body, component, renamed),
                Form::ReverseOnly => reverse_only(&mut body, component, renamed),
            }
        }
        body.push_str("  RETURN NEW;\nEND\n");
        let tag = dollar_tag(&body);
        format!(
            "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql\n\
             SET search_path = {}\nAS {tag}{body}{tag}",
            qname(&self.function),
            self.search_path,
        )
    }

    fn both(&self, body: &mut String, component: &Component, renamed: &[Renamed]) {
        let unset: Vec<_> = component
            .targets()
            .map(|t| format!("NEW.{} IS NULL", ident(&t.column)))
            .collect();
        let unset = unset.join(" AND ");
        let written: Vec<_> = component
            .targets()
            .map(|t| changed(&t.column, t.has_equality))
            .collect();
        let moved: Vec<_> = component
            .sources()
            .into_iter()
            .map(|r| changed(&now(renamed, &r.column), r.has_equality))
            .collect();

        body.push_str("  IF TG_OP = 'INSERT' THEN\n");
        let _ = writeln!(body, "    IF {unset} THEN");
        forward(body, component, renamed, 6);
        if !component.reverse.is_empty() {
            body.push_str("    ELSE\n");
            if self.partitioned {
                // A row that an UPDATE moves to another partition arrives here as an INSERT with
                // both sides set; mapping it back once more could lose digits.
                reverse_unless_equal(body, component, renamed);
            } else {
                reverse(body, component, renamed, 6);
            }
        }
        body.push_str("    END IF;\n");
        let _ = writeln!(body, "  ELSIF {} THEN", written.join(" OR "));
        if component.reverse.is_empty() {
            body.push_str("    NULL;\n");
        } else {
            reverse(body, component, renamed, 4);
        }
        if !moved.is_empty() {
            let _ = writeln!(body, "  ELSIF {} THEN", moved.join(" OR "));
            for target in component.targets() {
                let _ = writeln!(body, "    NEW.{} := NULL;", ident(&target.column));
            }
            forward(body, component, renamed, 4);
        }
        // A row that the backfill has not reached; decided by mapping, because each has a
        // backfill of its own.
        body.push_str("  ELSE\n");
        for mapping in &component.forward {
            let unset: Vec<_> = mapping
                .targets
                .iter()
                .map(|t| format!("NEW.{} IS NULL", ident(&t.column)))
                .collect();
            let _ = writeln!(body, "    IF {} THEN", unset.join(" AND "));
            assign(body, mapping, renamed, 6);
            body.push_str("    END IF;\n");
        }
        body.push_str("  END IF;\n");
    }
}

fn now(renamed: &[Renamed], column: &str) -> String {
    renamed
        .iter()
        .find(|r| r.column == column)
        .map_or_else(|| column.to_owned(), |r| r.now.clone())
}

fn reverse_only(body: &mut String, component: &Component, renamed: &[Renamed]) {
    if component.reverse.is_empty() {
        return;
    }
    let written: Vec<_> = component
        .targets()
        .map(|t| changed(&t.column, t.has_equality))
        .collect();
    let _ = writeln!(
        body,
        "  IF TG_OP = 'INSERT' OR {} THEN",
        written.join(" OR ")
    );
    reverse(body, component, renamed, 4);
    body.push_str("  END IF;\n");
}

fn forward(body: &mut String, component: &Component, renamed: &[Renamed], indent: usize) {
    for mapping in &component.forward {
        assign(body, mapping, renamed, indent);
    }
}

fn reverse(body: &mut String, component: &Component, renamed: &[Renamed], indent: usize) {
    for mapping in &component.reverse {
        assign(body, mapping, renamed, indent);
    }
}

/// Evaluates a mapping over the NEW row and assigns where its condition holds.
fn assign(body: &mut String, mapping: &Mapping, renamed: &[Renamed], indent: usize) {
    let pad = " ".repeat(indent);
    let _ = writeln!(body, "{pad}{}", select_into(mapping, renamed));
    let _ = writeln!(body, "{pad}IF FOUND THEN");
    for (n, target) in mapping.targets.iter().enumerate() {
        let column = ident(&now(renamed, &target.column));
        let _ = writeln!(body, "{pad}  NEW.{column} := pgshift_row.c{n};");
    }
    let _ = writeln!(body, "{pad}END IF;");
}

fn reverse_unless_equal(body: &mut String, component: &Component, renamed: &[Renamed]) {
    let _ = writeln!(body, "      <<pgshift_equal>>\n      BEGIN");
    for mapping in &component.forward {
        let _ = writeln!(body, "        {}", select_into(mapping, renamed));
        let same: Vec<_> = mapping
            .targets
            .iter()
            .enumerate()
            .map(|(n, t)| {
                let cast = if t.has_equality { "" } else { "::text" };
                format!(
                    "NEW.{}{cast} IS DISTINCT FROM CAST(pgshift_row.c{n} AS {}){cast}",
                    ident(&t.column),
                    t.type_name,
                )
            })
            .collect();
        let _ = writeln!(body, "        IF NOT FOUND OR {} THEN", same.join(" OR "));
        reverse(body, component, renamed, 10);
        body.push_str("          EXIT pgshift_equal;\n        END IF;\n");
    }
    body.push_str("      END;\n");
}

/// `SELECT (expr) AS c0, … INTO pgshift_row FROM (SELECT NEW.a AS a) AS t, from WHERE …;`
///
/// The values are not cast here: the assignment to NEW coerces as the author's UPDATE does, so a
/// value that does not fit is an error and never cut.
fn select_into(mapping: &Mapping, renamed: &[Renamed]) -> String {
    let values: Vec<_> = mapping
        .targets
        .iter()
        .enumerate()
        .map(|(n, t)| format!("({}\n) AS c{n}", t.expr))
        .collect();
    let row: Vec<_> = mapping
        .reads
        .iter()
        .map(|r| {
            format!(
                "NEW.{} AS {}",
                ident(&now(renamed, &r.column)),
                ident(&r.column)
            )
        })
        .collect();
    let from = mapping
        .from
        .as_ref()
        .map(|f| format!(", {f}\n"))
        .unwrap_or_default();
    let filter = mapping
        .condition
        .as_ref()
        .map(|c| format!(" WHERE {c}\n"))
        .unwrap_or_default();
    format!(
        "SELECT {} INTO pgshift_row FROM (SELECT {}) AS {}{from}{filter} LIMIT 1;",
        values.join(", "),
        row.join(", "),
        ident(&mapping.alias),
    )
}

/// A dollar-quote tag that the body does not contain.
fn dollar_tag(body: &str) -> String {
    let mut n = 0;
    loop {
        let tag = if n == 0 {
            "$pgshift$".to_owned()
        } else {
            format!("$pgshift{n}$")
        };
        if !body.contains(&tag) {
            return tag;
        }
        n += 1;
    }
}
