//! How the rows of a backfill are walked.

use super::Decider;
use crate::backfill::{KeyColumn, Strategy};
use crate::catalog::Table;
use crate::error::Result;
use crate::migration;
use crate::plan::draft::DraftStatement;
use crate::plan::probe::Answer;

const BLOCKS_WITHOUT_SYNC: &str =
    "walked by blocks (ctid): rows that the application moves meanwhile may be left";

impl Decider<'_, '_> {
    /// The walk that meets every row that must be met, each no more often than it may be.
    pub(super) fn strategy(
        &self,
        statement: &DraftStatement<'_>,
        answer: &Answer,
        sync: bool,
        table: &Table,
        notes: &mut Vec<String>,
    ) -> Result<Strategy> {
        let draft = self.draft;
        let span = statement.statement.span;
        let wanted = statement.options.strategy;
        let heap = table.leaves.iter().all(|l| l.access_method == "heap");
        let keyset = || -> Result<Strategy, (&'static str, &'static str)> {
            let key = table.primary_key().filter(|k| k.iter().all(|c| !c.is_empty())).ok_or((
                "it needs a primary key, so that each row is met exactly once",
                "add one, or write to a new column (a sync trigger then makes one pass complete)",
            ))?;
            if statement
                .assignments
                .iter()
                .any(|a| key.contains(&a.column))
            {
                return Err((
                    "it writes to the primary key, which it would have to follow",
                    "write to a new column and swap",
                ));
            }
            Ok(Strategy::Keyset {
                key: key
                    .iter()
                    .map(|name| KeyColumn {
                        name: name.clone(),
                        type_name: self.column_type(&table.name, name).0,
                    })
                    .collect(),
            })
        };
        let refuse =
            |(why, way): (&str, &str)| draft.refused(span, format!("{}: {why}", table.name), way);
        match (wanted, sync) {
            (Some(migration::Strategy::Keyset), _) => keyset().map_err(refuse),
            (Some(migration::Strategy::Ctid), false) if !statement.delete => Err(refuse((
                "without a sync trigger a row that moves during the scan would escape or be met twice",
                "leave strategy=ctid out",
            ))),
            (_, true) if heap => {
                notes.push(
                    "walked by blocks (ctid), once: the sync trigger makes later writes right"
                        .to_owned(),
                );
                Ok(Strategy::Ctid)
            }
            (_, true) => {
                notes.push("walked by primary key: the storage is not heap".to_owned());
                keyset().map_err(refuse)
            }
            (Some(migration::Strategy::Ctid), false) if heap => {
                notes.push(BLOCKS_WITHOUT_SYNC.to_owned());
                Ok(Strategy::Ctid)
            }
            (_, false) => {
                let own = statement
                    .assignments
                    .iter()
                    .any(|a| answer.all().contains(&a.column));
                match keyset() {
                    Ok(keyset) => {
                        notes.push(if own {
                            "walked by primary key: it reads what it writes, so each row is changed exactly \
                             once, as long as the application does not change keys meanwhile"
                                .to_owned()
                        } else {
                            "walked by primary key, without a sync trigger: rows that the application writes \
                             meanwhile stay as it writes them"
                                .to_owned()
                        });
                        Ok(keyset)
                    }
                    Err(_) if statement.delete && heap => {
                        notes.push(BLOCKS_WITHOUT_SYNC.to_owned());
                        Ok(Strategy::Ctid)
                    }
                    Err(e) => Err(refuse(e)),
                }
            }
        }
    }
}
