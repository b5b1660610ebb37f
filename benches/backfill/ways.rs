//! How each contender fills the column.

use std::time::{Duration, Instant};

use pgshift::{Error, Result};
use tokio_postgres::Client;

use crate::contenders::{Contender, Way};
use crate::figures::Figure;
use crate::program::Program;
use crate::server::{Done, Turn, run, sql};
use crate::tables::{EXPRESSION, Table};

/// Rows of a batch of the models.
const BATCH: u32 = 1000;
const LIMIT: u32 = 5000;
/// What the model with pauses sleeps after a batch.
const SLEEP: Duration = Duration::from_millis(10);
/// How long nothing is done where nothing is the contender.
const NOTHING: Duration = Duration::from_secs(5);

/// What was measured of a turn.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) from: Instant,
    pub(crate) to: Instant,
    before: Done,
    after: Done,
    own_cpu_s: Option<f64>,
    own_memory: Option<u64>,
    command_s: Option<f64>,
}

impl Measured {
    /// As a figure, without what is read at rest.
    pub(crate) fn figure(&self, table: &str, contender: &str, round: usize, rows: u64) -> Figure {
        let cpu = self.after.cpu_s.zip(self.before.cpu_s);
        Figure {
            table: table.to_owned(),
            contender: contender.to_owned(),
            round,
            rows,
            seconds: self.to.saturating_duration_since(self.from).as_secs_f64(),
            wal_bytes: self.after.wal.saturating_sub(self.before.wal),
            heap: [0; 2],
            indexes: [0; 2],
            server_cpu_s: cpu.map(|(after, before)| after - before),
            own_cpu_s: self.own_cpu_s,
            own_memory: self.own_memory,
            command_s: self.command_s,
            latency: None,
            wrong: None,
        }
    }
}

/// Makes what a contender's own work presupposes: the column, a trigger.
pub(crate) async fn prepare(turn: &Turn, contender: &Contender, program: &Program) -> Result<()> {
    let column = "ALTER TABLE orders ADD COLUMN total_cents bigint";
    match contender.way {
        Way::Nothing | Way::Pgshift(_) => Ok(()),
        Way::Plain { trigger: true } => {
            run(&turn.client, "CREATE SCHEMA IF NOT EXISTS pgshift").await?;
            for statement in program.up_to_sync(&turn.url).await? {
                run(&turn.client, &statement).await?;
            }
            Ok(())
        }
        Way::Touch => {
            run(&turn.client, column).await?;
            let function = format!(
                "CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS \
                 $$BEGIN NEW.total_cents := {}; RETURN NEW; END$$",
                EXPRESSION.replace("total", "NEW.total")
            );
            run(&turn.client, &function).await?;
            let trigger = "CREATE TRIGGER fill BEFORE INSERT OR UPDATE ON orders FOR EACH ROW \
                           EXECUTE FUNCTION fill()";
            run(&turn.client, trigger).await
        }
        _ => run(&turn.client, column).await,
    }
}

/// Lets a contender work.
pub(crate) async fn work(
    turn: &Turn,
    contender: &Contender,
    table: &Table,
    program: &Program,
) -> Result<Measured> {
    run(&turn.client, "CHECKPOINT").await?;
    if let Way::Pgshift(options) = contender.way {
        return pgshift(turn, program, options).await;
    }
    let before = turn.done().await?;
    let from = Instant::now();
    let client = &turn.client;
    match contender.way {
        Way::Nothing => tokio::time::sleep(NOTHING).await,
        Way::Plain { trigger } => {
            let skip = if trigger {
                "SET LOCAL pgshift.writer = 'backfill';"
            } else {
                ""
            };
            let all = format!("BEGIN; {skip} UPDATE orders SET total_cents = {EXPRESSION}; COMMIT");
            run(client, &all).await?;
        }
        Way::Touch => touch(client, table).await?,
        Way::LimitLoop => limit_loop(client).await?,
        Way::KeysetSleep => keyset_sleep(client, table).await?,
        Way::Pgshift(_) => return Err(Error::internal("pgshift is run above")),
    }
    let to = Instant::now();
    Ok(Measured {
        from,
        to,
        before,
        after: turn.done().await?,
        own_cpu_s: None,
        own_memory: None,
        command_s: None,
    })
}

async fn pgshift(
    turn: &Turn,
    program: &Program,
    options: crate::contenders::Pgshift,
) -> Result<Measured> {
    let begun = Instant::now();
    let mut run = program.apply(&turn.url, options)?;
    let (mut start, mut end) = (None, None);
    while let Some(event) = run.next().await? {
        let at = Instant::now();
        match event {
            crate::program::Heard::BackfillStarted => {
                start.get_or_insert((at, turn.done().await?, run.cpu_s()));
            }
            crate::program::Heard::BackfillDone => {
                end = Some((at, turn.done().await?, run.cpu_s()));
            }
        }
    }
    let own_memory = run.end().await?;
    let missing = || Error::internal("`pgshift apply` told of no backfill");
    let (from, before, cpu_before) = start.ok_or_else(missing)?;
    let (to, after, cpu_after) = end.ok_or_else(missing)?;
    Ok(Measured {
        from,
        to,
        before,
        after,
        own_cpu_s: cpu_after.zip(cpu_before).map(|(a, b)| a - b),
        own_memory,
        command_s: Some(begun.elapsed().as_secs_f64()),
    })
}

/// Batches by key; the trigger computes the value.
async fn touch(client: &Client, table: &Table) -> Result<()> {
    let key = table.key.sql_type();
    let text = |after: &str| {
        format!(
            "WITH batch AS (SELECT id FROM orders {after} ORDER BY id LIMIT {BATCH} \
             FOR NO KEY UPDATE), touched AS (UPDATE orders o SET id = o.id FROM batch \
             WHERE o.id = batch.id RETURNING o.id) \
             SELECT id::text FROM touched ORDER BY id DESC LIMIT 1"
        )
    };
    let first = prepared(client, &text("")).await?;
    let next = prepared(client, &text(&format!("WHERE id > $1::text::{key}"))).await?;
    let failed = |e| sql("a batch", e);
    let mut last = client.query_opt(&first, &[]).await.map_err(failed)?;
    while let Some(row) = last {
        let id: String = row.get(0);
        last = client.query_opt(&next, &[&id]).await.map_err(failed)?;
    }
    Ok(())
}

async fn limit_loop(client: &Client) -> Result<()> {
    let text = format!(
        "UPDATE orders SET total_cents = {EXPRESSION} \
         WHERE id IN (SELECT id FROM orders WHERE total_cents IS NULL LIMIT {LIMIT})"
    );
    let batch = prepared(client, &text).await?;
    while client
        .execute(&batch, &[])
        .await
        .map_err(|e| sql(&text, e))?
        > 0
    {}
    Ok(())
}

async fn keyset_sleep(client: &Client, table: &Table) -> Result<()> {
    let key = table.key.sql_type();
    let text = |after: &str| {
        format!(
            "WITH batch AS (SELECT id FROM orders {after} ORDER BY id LIMIT {BATCH}), \
             filled AS (UPDATE orders o SET total_cents = {EXPRESSION} FROM batch \
             WHERE o.id = batch.id RETURNING o.id) \
             SELECT id::text FROM filled ORDER BY id DESC LIMIT 1"
        )
    };
    let first = prepared(client, &text("")).await?;
    let next = prepared(client, &text(&format!("WHERE id > $1::text::{key}"))).await?;
    let failed = |e| sql("a batch", e);
    let mut last = client.query_opt(&first, &[]).await.map_err(failed)?;
    while let Some(row) = last {
        tokio::time::sleep(SLEEP).await;
        let id: String = row.get(0);
        last = client.query_opt(&next, &[&id]).await.map_err(failed)?;
    }
    Ok(())
}

async fn prepared(client: &Client, text: &str) -> Result<tokio_postgres::Statement> {
    client.prepare(text).await.map_err(|e| sql(text, e))
}
