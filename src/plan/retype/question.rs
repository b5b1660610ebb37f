//! The questions about a change of type: how the server would write the definitions down
//! afterwards. They are asked on an empty temporary copy of the table with all that the table has
//! (`LIKE … INCLUDING ALL`), whose column changes its type there as the author says, so that what
//! the server would refuse is found before anything runs. Renaming the column of the copy makes
//! the server itself put another name into every expression.

use std::collections::{BTreeMap, BTreeSet};

use super::Retype;
use super::definition::{as_valid, exclusion, index_tail};
use super::dependents::statistics::{StatisticsForm, forms};
use super::way_back::casts_only;
use crate::catalog::dependents::{Dependent, Part, StatisticsDetails};
use crate::catalog::details::{ColumnDetails, Conversion, Definition, DefinitionKind};
use crate::catalog::{Column, QName};
use crate::sql::Span;
use crate::sql::quote::{ident, qname};

/// What to do where the server refuses the change of type on the copy, which has the indexes,
/// constraints and defaults of the table.
pub fn retype_help(sqlstate: &str, message: &str) -> Option<&'static str> {
    if message.starts_with("default for column") || message.contains("identity column type") {
        return Some(
            "ALTER TABLE … ALTER COLUMN c DROP DEFAULT (or DROP IDENTITY), ALTER COLUMN c TYPE …, \
             ALTER COLUMN c SET DEFAULT …, in one statement",
        );
    }
    // The server's own hint is USING.
    let cast = message.contains("cannot be cast automatically");
    // datatype_mismatch, undefined_function (an operator too), undefined_object (a class of them)
    let definition = ["42804", "42883", "42704"].contains(&sqlstate);
    (definition && !cast).then_some(
        "where USING is right, an index or a CHECK that has the column does not take the new type: \
         drop it in an earlier migration, and make it again in a later one in a form that does",
    )
}

/// The questions about one table.
#[derive(Debug, Clone)]
pub struct Question {
    /// The table.
    pub table: QName,
    /// Name of its copy, in `pg_temp`.
    pub copy: String,
    /// Its columns that change their type.
    pub columns: Vec<Retype>,
}

impl Question {
    /// Where the first change stands in the file.
    pub fn span(&self) -> Span {
        self.columns.first().map(|c| c.span).unwrap_or_default()
    }

    /// Makes the copy.
    pub fn create(&self) -> String {
        format!(
            "CREATE TEMP TABLE {} (LIKE {} INCLUDING ALL)",
            ident(&self.copy),
            qname(&self.table)
        )
    }

    fn rename(&self, names: impl Fn(&Retype) -> (&str, &str)) -> Vec<String> {
        self.columns
            .iter()
            .map(|column| {
                let (from, to) = names(column);
                format!(
                    "ALTER TABLE pg_temp.{} RENAME COLUMN {} TO {}",
                    ident(&self.copy),
                    ident(from),
                    ident(to)
                )
            })
            .collect()
    }

    /// Gives the columns the names that the old ones have from contract on.
    pub fn to_old(&self) -> Vec<String> {
        self.rename(|c| (&c.column, &c.old))
    }

    /// Takes that back.
    pub fn from_old(&self) -> Vec<String> {
        self.rename(|c| (&c.old, &c.column))
    }

    /// Changes the types: each statement with its place in the file. What USING computes has a
    /// question of its own.
    pub fn retype(&self) -> Vec<(String, Span)> {
        let table = format!("pg_temp.{}", ident(&self.copy));
        self.columns
            .iter()
            .flat_map(|column| {
                let (before, after) = column.default.around(&table, &column.column);
                let sql = format!(
                    "ALTER TABLE {table} ALTER COLUMN {} TYPE {} USING CAST(NULL AS {})",
                    ident(&column.column),
                    column.definition,
                    column.type_text
                );
                let all = before.into_iter().chain([sql]).chain(after);
                all.map(|sql| (sql, column.span))
            })
            .collect()
    }

    /// By column whose USING says more than a cast: what the server refuses (42P17) where it depends
    /// on more than the row, such as a setting of the session. A generated column may not.
    pub fn steady(&self) -> Vec<(&str, String)> {
        let table = format!("pg_temp.{}", ident(&self.copy));
        let of = |column: &Retype| {
            let using = column.using.as_ref().filter(|_| !casts_only(column))?;
            Some(format!(
                "ALTER TABLE {table} ADD COLUMN _pgshift_steady {} GENERATED ALWAYS AS ({}\n) STORED",
                column.type_text, using.text
            ))
        };
        let columns = self.columns.iter();
        columns
            .filter_map(|column| Some((column.column.as_str(), of(column)?)))
            .collect()
    }

    /// Gives the copy, whose columns are called as the new ones, the names of the real table.
    pub fn as_the_real_one(&self) -> Vec<String> {
        let mut sql = self.rename(|c| (&c.shadow, &c.column));
        sql.push(format!(
            "ALTER TABLE pg_temp.{} RENAME TO {}",
            ident(&self.copy),
            ident(&self.table.name)
        ));
        sql
    }

    /// Gives the columns the names that the new ones have until contract.
    pub fn to_shadow(&self) -> Vec<String> {
        self.rename(|c| (&c.column, &c.shadow))
    }
}

/// What the server said of one table, raw.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Definitions of the table.
    pub table: Vec<Definition>,
    /// Of the copy.
    pub copy: Vec<Definition>,
    /// Of the copy with the columns' old names.
    pub old: Vec<Definition>,
    /// Of the copy with the new types and names.
    pub new: Vec<Definition>,
    /// Columns of the copy in the end.
    pub columns: Vec<Column>,
    /// By column: what it has.
    pub details: BTreeMap<String, ColumnDetails>,
    /// By column: how its types convert.
    pub conversions: BTreeMap<String, Conversion>,
    /// Columns of which USING depends on more than the row.
    pub unsteady: BTreeSet<String>,
    /// What depends on the columns.
    pub dependents: Vec<Dependent>,
    /// What the columns have of their own.
    pub parts: Vec<Part>,
    /// What the table's extended statistics have, in the order of their definitions.
    pub statistics: Vec<StatisticsDetails>,
}

/// An index of a column, for the old and for the new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexForm {
    /// Name.
    pub name: String,
    /// UNIQUE.
    pub unique: bool,
    /// `USING …` with the old column's name of after contract.
    pub old: String,
    /// `USING …` with the new column's name of before contract.
    pub new: String,
    /// As the table has it.
    pub definition: Definition,
}

/// A CHECK or EXCLUDE of a column, for the old and for the new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConstraintForm {
    /// Name.
    pub name: String,
    /// With the old column's name of after contract.
    pub old: String,
    /// With the new column's name of before contract.
    pub new: String,
}

/// What the server said of one table, understood.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Indexes of the columns, those of constraints too.
    pub indexes: Vec<IndexForm>,
    /// CHECKs of the columns.
    pub checks: Vec<ConstraintForm>,
    /// Exclusion constraints of the columns; their indexes are among the indexes.
    pub exclusions: Vec<ConstraintForm>,
    /// Comments of constraints.
    pub comments: BTreeMap<String, String>,
    /// By column: the default as it is with the new type.
    pub defaults: BTreeMap<String, String>,
    /// By column: SQL text of the new type.
    pub types: BTreeMap<String, String>,
    /// By column: what it has.
    pub details: BTreeMap<String, ColumnDetails>,
    /// By column: how its types convert.
    pub conversions: BTreeMap<String, Conversion>,
    /// The partitions of a partitioned table, parents first.
    pub nodes: Vec<super::partitions::Node>,
    /// What depends on the columns, in an order in which it can be made.
    pub dependents: Vec<Dependent>,
    /// What the columns have of their own.
    pub parts: Vec<Part>,
    /// Columns of which USING depends on more than the row.
    pub unsteady: BTreeSet<String>,
    /// Extended statistics of the columns.
    pub statistics: Vec<StatisticsForm>,
}

impl Told {
    /// Understands it.
    ///
    /// # Errors
    /// What cannot be told, for people.
    pub fn understood(self, columns: &[Retype]) -> Result<Answer, String> {
        let mut answer = Answer {
            details: self.details,
            conversions: self.conversions,
            dependents: self.dependents,
            parts: self.parts,
            unsteady: self.unsteady,
            ..Answer::default()
        };
        let of = |all: &[Definition], kind| -> Vec<Definition> {
            all.iter().filter(|d| d.kind == kind).cloned().collect()
        };
        let named = |all: &[Definition], kind, name: &str| -> Result<String, String> {
            all.iter()
                .find(|d| d.kind == kind && d.name == name)
                .map(|d| d.text.clone())
                .ok_or_else(|| format!("the copy of {name} is gone"))
        };
        let tail = |text: &str| -> Result<String, String> {
            let tail = index_tail(text).map(str::to_owned);
            tail.ok_or_else(|| format!("not understood: {text}"))
        };
        // The server copies indexes in the order of their making, under other names.
        let real = of(&self.table, DefinitionKind::Index);
        let copied = of(&self.copy, DefinitionKind::Index);
        if real.len() != copied.len() {
            return Err("an index is not in the copy of the table".to_owned());
        }
        for (index, copy) in real.into_iter().zip(copied) {
            let before = tail(&copy.text)?;
            if tail(&index.text)? != before {
                return Err(format!(
                    "index {} is not in the copy of the table",
                    index.name
                ));
            }
            let old = tail(&named(&self.old, DefinitionKind::Index, &copy.name)?)?;
            // What has the column in it is what changes with the column's name.
            if old == before {
                continue;
            }
            let excludes = self.table.iter().any(|d| {
                d.kind == DefinitionKind::Constraint
                    && d.name == index.name
                    && d.text.starts_with("EXCLUDE ")
            });
            if excludes {
                let form = |all: &[Definition]| {
                    let text = named(all, DefinitionKind::Constraint, &copy.name)?;
                    Ok::<_, String>(exclusion(&text, index.tablespace.as_deref()))
                };
                answer.exclusions.push(ConstraintForm {
                    name: index.name.clone(),
                    old: form(&self.old)?,
                    new: form(&self.new)?,
                });
            }
            answer.indexes.push(IndexForm {
                name: index.name.clone(),
                unique: index.text.starts_with("CREATE UNIQUE"),
                old,
                new: tail(&named(&self.new, DefinitionKind::Index, &copy.name)?)?,
                definition: index,
            });
        }
        for check in of(&self.table, DefinitionKind::Constraint) {
            if let Some(comment) = &check.comment {
                answer.comments.insert(check.name.clone(), comment.clone());
            }
            if !check.text.starts_with("CHECK ") {
                continue;
            }
            let before = named(&self.copy, DefinitionKind::Constraint, &check.name)?;
            let old = named(&self.old, DefinitionKind::Constraint, &check.name)?;
            if old == before {
                continue;
            }
            if check.text.contains("NOT ENFORCED") {
                return Err(format!("constraint {} is not enforced", check.name));
            }
            let new = named(&self.new, DefinitionKind::Constraint, &check.name)?;
            answer.checks.push(ConstraintForm {
                old: as_valid(&old).to_owned(),
                new: as_valid(&new).to_owned(),
                name: check.name,
            });
        }
        let statistics = [&self.table, &self.copy, &self.old, &self.new]
            .map(|all| of(all, DefinitionKind::Statistics));
        answer.statistics = forms(&statistics, &self.statistics)?;
        for retype in columns {
            let Some(column) = self.columns.iter().find(|c| c.name == retype.shadow) else {
                return Err(format!("the copy has no column {}", retype.shadow));
            };
            let name = &retype.column;
            answer.types.insert(name.clone(), column.type_name.clone());
            if let Some(default) = &column.default {
                answer.defaults.insert(name.clone(), default.clone());
            }
        }
        Ok(answer)
    }
}
