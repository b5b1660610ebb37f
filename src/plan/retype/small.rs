//! What the server does in one way only, while nobody can use the table: an exclusion constraint
//! builds its index (documentation, ALTER TABLE, `ADD table_constraint`), and a stored generated
//! column that reads another column is computed for every row. For a small table that is a moment;
//! for a larger one it is refused, unless the author takes it on.

use super::Retype;
use crate::catalog::{ConstraintKind, RelKind, Table};
use crate::error::Result;
use crate::plan::draft::Draft;
use crate::sql::quote::{dollar, literal, qname};

/// Up to this many bytes with TOAST a table is small.
pub(super) const SMALL: i64 = 4 << 20;

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
    let large = table.bytes > SMALL;
    let size = || {
        format!(
            "{} is {}, more than the {} up to which that is a moment",
            table.name,
            megabytes(table.bytes),
            megabytes(SMALL)
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
        if large && !allowed.exclusion {
            return refuse(
                format!(
                    "exclusion constraint {name} on {column} builds its index while nobody can use \
                     the table: {}",
                    size()
                ),
                allow(EXCLUSION),
            );
        }
    }
    if !stored.is_empty() && large && !allowed.stored {
        return refuse(
            format!(
                "{} depend on column {column} of {}, and would be computed for every row while \
                 nobody can use the table: {}",
                stored.join(", "),
                table.name,
                size()
            ),
            allow(STORED),
        );
    }
    Ok(())
}

/// Stops where the table has grown since the plan.
pub(super) fn guard(table: &Table, what: &str) -> String {
    let (name, what) = (literal(&qname(&table.name)), literal(what));
    let small = format!(
        "coalesce(nullif(current_setting('{SETTING}', true), ''), '{}')",
        megabytes(SMALL)
    );
    let body = format!(
        "
BEGIN
  IF pg_catalog.pg_table_size({name}::regclass) > pg_catalog.pg_size_bytes({small}) THEN
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
