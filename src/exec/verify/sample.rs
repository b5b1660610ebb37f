//! A verify of randomly chosen rows: a quick look, never the verify that contract wants.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::control::{Control, with_probes};
use super::super::ddl::cancel_on_stop;
use super::super::session::Session;
use super::ask::{self, Asked};
use super::{Found, KEYS_TOLD, Verified, scan};
use crate::backfill::VerifySpec;
use crate::backfill::sample::{Size, at_most, places, places_per_block};
use crate::catalog::{Leaf, QName};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::pg::error::from_pg;
use crate::pg::session::EXACT_TEXT;
use crate::plan::{Step, Work};
use crate::sql::quote::qname;
use crate::store::WrongRow;

/// Places that one transaction tries.
const AT_ONCE: u64 = 2_000;
/// So many times the places that the estimate asks for are tried at most.
const MOST_TIMES: u64 = 50;
/// Wrong rows that are kept to be told.
const LISTED: usize = 1_000;

/// What a sample of one table found; its rows are those that were drawn.
#[derive(Debug, Clone)]
pub struct Sampled {
    /// The rows drawn, and those of them that are wrong.
    pub found: Verified,
    /// The largest plausible share of wrong rows, at 95 % confidence.
    pub at_most: f64,
}

pub(super) async fn tables(
    session: &Arc<Session>,
    steps: &[Step],
    size: Size,
    asked: &Asked,
) -> Result<Vec<Sampled>> {
    let mut all = Vec::new();
    for step in steps {
        let Work::Verify(spec) = &step.work else {
            continue;
        };
        let control = Control::new(session.clone(), step)?;
        let mut found = with_probes(&control, draw(session, spec, size, &control)).await?;
        if asked.values {
            ask::values(session, spec, &mut found).await?;
        }
        let bound = at_most(found.wrong as u64, found.rows as u64);
        let event = Event::Sampled {
            table: spec.table.to_string(),
            rows: found.rows,
            wrong: found.wrong,
            at_most: bound,
            keys: found.keys().into_iter().take(KEYS_TOLD).collect(),
        };
        session.event(&event).await?;
        all.push(Sampled {
            found,
            at_most: bound,
        });
    }
    Ok(all)
}

async fn draw(
    session: &Session,
    spec: &VerifySpec,
    size: Size,
    control: &Control,
) -> Result<Verified> {
    let table = scan::load(session, spec).await?;
    if let Some(other) = table.leaves.iter().find(|l| l.access_method != "heap") {
        return Err(Error::refused(format!(
            "rows of {} cannot be drawn at random: it is stored as {}",
            other.name, other.access_method
        ))
        .hint("verify all rows: leave --sample out"));
    }
    let block_size = session
        .work
        .query_one("SELECT current_setting('block_size')::bigint", &[])
        .await
        .map_err(from_pg)?
        .get::<_, i64>(0);
    let per_block = places_per_block(u32::try_from(block_size).unwrap_or(8192));
    let blocks: i64 = table.leaves.iter().map(|l| l.blocks).sum();
    let mut left = places(size, table.rows, blocks, per_block);
    // The estimate of the rows may be far too high: tried until they are met, but not for ever.
    let wanted = match size {
        Size::Rows(rows) => Some(i64::try_from(rows).unwrap_or(i64::MAX)),
        Size::Share(_) => None,
    };
    if wanted.is_some() {
        left = left.saturating_mul(MOST_TIMES);
    }
    let mut found = Verified {
        table: spec.table.clone(),
        rows: 0,
        wrong: 0,
        key: spec.key.clone(),
        listed: Vec::new(),
        unguarded: false,
    };
    let mut worked = Duration::ZERO;
    while left > 0 && blocks > 0 && wanted.is_none_or(|wanted| found.rows < wanted) {
        control.gate(worked).await?;
        let begun = Instant::now();
        let now = left.min(AT_ONCE);
        left -= now;
        let mut picked: BTreeMap<u32, (&Leaf, Vec<String>)> = BTreeMap::new();
        for _ in 0..now {
            let (leaf, block) = place(&table.leaves, fastrand::i64(0..blocks));
            let tid = format!("({block},{})", fastrand::u32(1..=per_block));
            let of_leaf = picked.entry(leaf.oid).or_insert_with(|| (leaf, Vec::new()));
            of_leaf.1.push(tid);
        }
        for (leaf, tids) in picked.into_values() {
            cancel_on_stop(session, look(session, spec, leaf, &tids, &mut found)).await?;
        }
        worked = begun.elapsed();
    }
    Ok(found)
}

/// The leaf and its block where the blocks of all leaves are counted through.
fn place(leaves: &[Leaf], mut block: i64) -> (&Leaf, i64) {
    for leaf in leaves {
        if block < leaf.blocks {
            return (leaf, block);
        }
        block -= leaf.blocks;
    }
    // Not reached: the block is below the sum. The first block of the last leaf is as good.
    (leaves.last().unwrap_or(&leaves[0]), 0)
}

/// Looks at places of one leaf with one snapshot.
async fn look(
    session: &Session,
    spec: &VerifySpec,
    leaf: &Leaf,
    tids: &[String],
    found: &mut Verified,
) -> Result<()> {
    scan::begin(session, spec).await?;
    let read = in_transaction(session, spec, leaf, tids).await;
    if !read.as_ref().is_err_and(Error::is_connection) {
        let client = &session.work;
        client.batch_execute("ROLLBACK").await.map_err(from_pg)?;
    }
    let (rows, wrong, listed) = read?;
    found.rows += rows;
    found.wrong += wrong;
    let room = LISTED.saturating_sub(found.listed.len());
    found.listed.extend(listed.into_iter().take(room));
    Ok(())
}

async fn in_transaction(
    session: &Session,
    spec: &VerifySpec,
    leaf: &Leaf,
    tids: &[String],
) -> Result<(i64, i64, Vec<Found>)> {
    let client = &session.work;
    let rows = client
        .query_one(&count_sql(&leaf.name), &[&tids])
        .await
        .map_err(from_pg)?
        .get(0);
    let wrong = client
        .query_one(&spec.picked_sql(&leaf.name), &[&tids])
        .await
        .map_err(|e| scan::failed(spec, e))?;
    let tids: Vec<String> = wrong.get::<_, Option<_>>(1).unwrap_or_default();
    let mut listed = Vec::new();
    if !tids.is_empty() {
        client.batch_execute(EXACT_TEXT).await.map_err(from_pg)?;
        let keys = client
            .query(&spec.keys_sql(&leaf.name), &[&tids])
            .await
            .map_err(from_pg)?;
        for row in keys {
            let key: serde_json::Value = row.get(1);
            listed.push(Found {
                row: WrongRow {
                    relation: leaf.oid,
                    leaf: leaf.name.clone(),
                    tid: row.get(0),
                    key: serde_json::from_value(key).unwrap_or_default(),
                },
                values: Vec::new(),
            });
        }
    }
    Ok((rows, wrong.get(0), listed))
}

fn count_sql(leaf: &QName) -> String {
    format!(
        "SELECT count(*) FROM ONLY {} WHERE ctid = ANY ($1::text[]::tid[])",
        qname(leaf)
    )
}
