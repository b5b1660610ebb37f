//! Extended statistics: the new column gets its own before READY, with what ANALYZE finds, which
//! take the name of the old ones in the swap.

use super::super::dress::{Side, Swapped};
use crate::catalog::QName;
use crate::catalog::dependents::StatisticsDetails;
use crate::catalog::details::Definition;
use crate::lock::LockMode;
use crate::plan::step::{Phase, Step, Undo};
use crate::sql::quote::{ident, literal, qname};

/// Extended statistics of a column, for the old and for the new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatisticsForm {
    /// What they have.
    pub details: StatisticsDetails,
    /// Comment.
    pub comment: Option<String>,
    /// ` (kinds) ON …` with the old column's name of after contract.
    pub old: String,
    /// The same with the new column's name of before contract.
    pub new: String,
}

/// Finds the statistics of the columns: those whose definition changes with the columns' names, of
/// the table, its copy, the copy with the old names, and the copy with the new types and names.
///
/// # Errors
/// Where the copy has not what the table has.
pub(in crate::plan::retype) fn forms(
    [real, copied, old, new]: &[Vec<Definition>; 4],
    details: &[StatisticsDetails],
) -> Result<Vec<StatisticsForm>, String> {
    if real.len() != copied.len() || real.len() != details.len() {
        return Err("extended statistics are not in the copy of the table".to_owned());
    }
    let mut all = Vec::new();
    for ((real, copy), details) in real.iter().zip(copied).zip(details) {
        let named = |of: &[Definition]| {
            let of = of.iter().find(|d| d.name == copy.name);
            of.map(|d| d.text.clone())
                .ok_or_else(|| format!("the copy of statistics {} is gone", real.name))
        };
        if real.text != copy.text {
            return Err(format!(
                "statistics {} are not in the copy of the table",
                real.name
            ));
        }
        let old = named(old)?;
        if old == copy.text {
            continue;
        }
        all.push(StatisticsForm {
            details: details.clone(),
            comment: real.comment.clone(),
            old,
            new: named(new)?,
        });
    }
    Ok(all)
}

impl Swapped<'_> {
    fn statistics_aid(self, side: Side, form: &StatisticsForm) -> QName {
        let name = &form.details.name;
        QName::new(name.schema.as_str(), self.aid(side, &name.name))
    }

    /// Makes those of a side.
    pub(in crate::plan::retype) fn statistics(self, side: Side) -> Option<Step> {
        let mut sql = Vec::new();
        let mut undo = Vec::new();
        for form in &self.answer.statistics {
            let aid = qname(&self.statistics_aid(side, form));
            let tail = match side {
                Side::New => &form.new,
                Side::Old => &form.old,
            };
            sql.push(format!(
                "CREATE STATISTICS {aid}{tail} FROM {}",
                qname(&self.table.name)
            ));
            if let Some(target) = form.details.target {
                sql.push(format!("ALTER STATISTICS {aid} SET STATISTICS {target}"));
            }
            if let Some(comment) = &form.comment {
                sql.push(format!(
                    "COMMENT ON STATISTICS {aid} IS {}",
                    literal(comment)
                ));
            }
            if let Some(owner) = &form.details.owner {
                sql.push(format!("ALTER STATISTICS {aid} OWNER TO {}", ident(owner)));
            }
            undo.push(format!("DROP STATISTICS IF EXISTS {aid}"));
        }
        if sql.is_empty() {
            return None;
        }
        let lock = || vec![self.lock(LockMode::ShareUpdateExclusive)];
        let name = &self.table.name;
        let step = self
            .step(
                side,
                format!("make extended statistics of {name} anew"),
                sql,
            )
            .locks(lock());
        if side == Side::Old {
            return Some(step);
        }
        let undo = Step::sql(
            Phase::Revert,
            format!("drop extended statistics of {name}"),
            undo,
        );
        Some(step.undo(Undo::steps(vec![undo.locks(lock())])))
    }

    /// Drops those of the old column, in the swap.
    pub(in crate::plan::retype) fn drop_statistics(self) -> Vec<String> {
        let all = self.answer.statistics.iter();
        all.map(|form| format!("DROP STATISTICS {}", qname(&form.details.name)))
            .collect()
    }

    /// Those of the new column are called as before contract again.
    pub(in crate::plan::retype) fn leave_statistics(self) -> Vec<String> {
        let all = self.answer.statistics.iter();
        all.map(|form| {
            rename(
                &form.details.name,
                &self.statistics_aid(Side::New, form).name,
            )
        })
        .collect()
    }

    /// Those of a side take the name.
    pub(in crate::plan::retype) fn take_statistics(self, side: Side) -> Vec<String> {
        let all = self.answer.statistics.iter();
        all.map(|form| rename(&self.statistics_aid(side, form), &form.details.name.name))
            .collect()
    }
}

fn rename(from: &QName, to: &str) -> String {
    format!("ALTER STATISTICS {} RENAME TO {}", qname(from), ident(to))
}
