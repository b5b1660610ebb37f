//! What the server does in one way only, while nobody can use the table: an exclusion constraint
//! builds its index (documentation, ALTER TABLE, `ADD table_constraint`), and a stored generated
//! column that reads another column is computed for every row. For a small table that is a moment;
//! for a larger one it is refused, unless the author takes it on.

use super::Retype;
use crate::catalog::{ConstraintKind, RelKind, Table};
use crate::error::Result;
use crate::plan::draft::Draft;
use crate::plan::title::depend_on;
use crate::sql::quote::{dollar, literal, qname};

/// Up to this many bytes with TOAST a table is small. 70,000 narrow rows in no order are 4 MB: an
/// exclusion by btree takes 0.1 s, one by `GiST` 2 to 3.3 s, and writing the table anew as long as its
/// indexes take (measured on PostgreSQL 15, 2 cores). So a table with slow indexes is small up to a
/// quarter of that.
const SMALL: i64 = 4 << 20;
const SMALL_OF_SLOW: i64 = 1 << 20;

/// Small tables may have become larger since the plan by this: a backfill leaves one up to twice as
/// large, with no more rows.
const GROWN: i64 = 3;

/// The bytes up to which a table is small, of which these indexes are built.
fn small<'a>(indexes: impl IntoIterator<Item = &'a str>) -> i64 {
    let quick = |definition: &str| {
        let methods = ["USING btree (", "USING hash (", "USING brin ("];
        methods.iter().any(|method| definition.contains(method))
    };
    if indexes.into_iter().all(quick) {
        SMALL
    } else {
        SMALL_OF_SLOW
    }
}

/// The same of a table that is written anew.
fn small_anew(table: &Table) -> i64 {
    small(table.indexes.iter().map(|i| i.definition.as_str()))
}

/// The setting that says another size, for what a plan takes for small and has grown since.
const SETTING: &str = "pgshift.small";

const EXCLUSION: &str = "add-exclusion";
const STORED: &str = "add-column-generated-stored";

/// What the author takes on, whatever the size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::plan) struct Allowed {
    /// Exclusion constraints.
    pub(super) exclusion: bool,
    /// Stored generated columns.
    pub(super) stored: bool,
}

impl Allowed {
    /// What stands at the statements that change these columns.
    pub(super) fn of(draft: &Draft<'_>, columns: &[Retype]) -> Self {
        let statements = draft.migration.sections.iter().flat_map(|s| &s.statements);
        let allows = statements
            .filter(|s| {
                columns
                    .iter()
                    .any(|c| s.span.start <= c.span.start && c.span.end <= s.span.end)
            })
            .flat_map(|s| draft.allows(s.span));
        let mut all = Self::default();
        for allow in allows {
            all.exclusion |= allow.rule == EXCLUSION;
            all.stored |= allow.rule == STORED;
        }
        all
    }
}

fn megabytes(bytes: i64) -> String {
    format!("{} MB", (bytes + (1 << 20) - 1) >> 20)
}

fn allow(rule: &str) -> String {
    format!(
        "drop it in an earlier migration and add it again in a later one; or take on that nobody can \
         use the table meanwhile: `-- pgshift: allow {rule} reason=\"…\"` above the statement"
    )
}

/// Refuses what would keep others out of a table for longer than a moment.
///
/// # Errors
/// Where there is such a thing.
pub(super) fn check(
    draft: &Draft<'_>,
    table: &Table,
    retype: &Retype,
    stored: &[&str],
) -> Result<()> {
    let refuse = |why: String, help: String| Err(draft.refused(retype.span, why, &help));
    let column = &retype.column;
    let allowed = Allowed::of(draft, std::slice::from_ref(retype));
    let size = |small: i64| {
        format!(
            "{} is {}, more than the {} up to which that is a moment",
            table.name,
            megabytes(table.bytes),
            megabytes(small)
        )
    };
    for constraint in table
        .constraints
        .iter()
        .filter(|c| c.columns.contains(column))
    {
        let name = &constraint.name;
        let temporal = constraint.definition.contains(" WITHOUT OVERLAPS");
        if constraint.kind == ConstraintKind::Other || temporal {
            return refuse(
                format!(
                    "constraint {name} on {column} has an index that cannot be built CONCURRENTLY"
                ),
                "drop it in an earlier migration and add it again in a later one".to_owned(),
            );
        }
        if constraint.kind != ConstraintKind::Exclusion {
            continue;
        }
        if table.kind == RelKind::Partitioned {
            return refuse(
                format!("exclusion constraint {name} on {column} is one of a partitioned table"),
                "drop it in an earlier migration and add it again in a later one".to_owned(),
            );
        }
        let small = small([constraint.definition.as_str()]);
        if table.bytes > small && !allowed.exclusion {
            return refuse(
                format!(
                    "exclusion constraint {name} on {column} builds its index while nobody can use \
                     the table: {}",
                    size(small)
                ),
                allow(EXCLUSION),
            );
        }
    }
    let small = small_anew(table);
    if !stored.is_empty() && table.bytes > small && !allowed.stored {
        return refuse(
            format!(
                "{} column {column} of {}, and would be computed for every row while nobody can \
                 use the table: {}",
                depend_on(stored),
                table.name,
                size(small)
            ),
            allow(STORED),
        );
    }
    Ok(())
}

/// Stops where the table has grown since the plan, before an exclusion constraint's index is built.
pub(super) fn guard_exclusion(table: &Table, name: &str, definition: &str) -> String {
    let what = format!("the index of exclusion constraint {name} is built");
    guard(table, &what, small([definition]))
}

/// The same before stored generated columns are computed.
pub(super) fn guard_stored(table: &Table) -> String {
    guard(
        table,
        "its generated columns are computed",
        small_anew(table),
    )
}

fn guard(table: &Table, what: &str, small: i64) -> String {
    let (name, what) = (literal(&qname(&table.name)), literal(what));
    let most = format!(
        "coalesce(nullif(current_setting('{SETTING}', true), ''), '{}')",
        megabytes(GROWN * small)
    );
    let body = format!(
        "
BEGIN
  IF pg_catalog.pg_table_size({name}::regclass) > pg_catalog.pg_size_bytes({most}) THEN
    RAISE EXCEPTION '% has grown to %: nobody could use it for long while %', {name},
      pg_catalog.pg_size_pretty(pg_catalog.pg_table_size({name}::regclass)), {what}
      USING ERRCODE = 'object_not_in_prerequisite_state',
        HINT = 'At a quiet time go on with PGOPTIONS=''-c {SETTING}=1GB'', or another size that it may have.';
  END IF;
END
"
    );
    format!("DO {}", dollar(&body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_with_slow_indexes_is_small_earlier() {
        assert_eq!(small([]), SMALL);
        assert_eq!(small(["EXCLUDE USING btree (a WITH =)"]), SMALL);
        assert_eq!(small(["EXCLUDE USING gist (a WITH &&)"]), SMALL_OF_SLOW);
        assert_eq!(
            small([
                "CREATE INDEX i ON t USING btree (a)",
                "CREATE INDEX j ON t USING gin (b)"
            ]),
            SMALL_OF_SLOW
        );
    }

    #[test]
    fn sizes_are_rounded_up() {
        assert_eq!(megabytes(SMALL), "4 MB");
        assert_eq!(megabytes(SMALL + 1), "5 MB");
    }
}
