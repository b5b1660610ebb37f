//! One session of the application: a statement whenever one is due.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio_postgres::{Client, Statement};

use super::{Release, Shared};
use crate::demo::server::connect;
use crate::demo::shop::loaded_cents;

/// A connection of one release of the application, with its prepared statements.
struct Connection {
    client: Client,
    release: Release,
    insert: Statement,
    set_amount: Statement,
    amount: Statement,
    set_status: Statement,
    delete: Statement,
}

impl Connection {
    async fn open(url: &str, release: Release) -> Result<Self, String> {
        // tokio_postgres takes the name from the URL.
        let url = format!("{url}?application_name={}", release.application_name());
        let client = connect(&url).await.map_err(|e| e.to_string())?;
        let column = match release {
            Release::Old => "total",
            Release::New => "total_cents",
        };
        let cast = match release {
            Release::Old => "numeric",
            Release::New => "bigint",
        };
        let prepare = async |sql: String| client.prepare(&sql).await.map_err(|e| told(&e, &sql));
        let insert = prepare(format!(
            "INSERT INTO orders (customer_id, {column}, note) VALUES ($1, $2::text::{cast}, $3) \
             RETURNING id"
        ))
        .await?;
        let set_amount = prepare(format!(
            "UPDATE orders SET {column} = $2::text::{cast} WHERE id = $1"
        ))
        .await?;
        let amount = prepare(format!("SELECT {column}::text FROM orders WHERE id = $1")).await?;
        let set_status = prepare("UPDATE orders SET status = $2 WHERE id = $1".into()).await?;
        let delete = prepare("DELETE FROM orders WHERE id = $1".into()).await?;
        Ok(Self {
            client,
            release,
            insert,
            set_amount,
            amount,
            set_status,
            delete,
        })
    }
}

/// What a statement did to the session's own orders.
enum Did {
    Wrote(i64, Option<i64>),
    Nothing,
    /// It read an amount that was never written.
    ReadWrong(String),
}

/// A session alone writes the amounts of its orders, so it knows what each must be: those that it
/// inserted, and of the loaded ones every n-th from [`first_id`](Self::first_id) on, for n sessions.
pub(super) struct Session {
    pub(super) number: usize,
    pub(super) url: String,
    pub(super) shared: Arc<Shared>,
    pub(super) rng: Rng,
    pub(super) due: Instant,
    pub(super) gap: Duration,
    pub(super) first_id: i64,
    pub(super) inserted: Vec<i64>,
}

impl Session {
    /// Sends statements until the traffic is stopped.
    pub(super) async fn run(mut self) {
        let mut connection: Option<Connection> = None;
        let desk = self.shared.clone();
        let desk = &desk.desks[self.number];
        loop {
            tokio::time::sleep_until(self.due.into()).await;
            if self.shared.stop.load(Ordering::Relaxed) {
                return;
            }
            let window = self.shared.latencies().current();
            let wanted = Release::from_bool(desk.wants_new.load(Ordering::Relaxed));
            let usable = connection
                .as_ref()
                .is_some_and(|c| c.release == wanted && !c.client.is_closed());
            if !usable {
                connection = None; // the old release is gone before the new one comes
                match Connection::open(&self.url, wanted).await {
                    Ok(opened) => {
                        connection = Some(opened);
                        desk.runs_new
                            .store(wanted == Release::New, Ordering::Relaxed);
                        desk.connected.store(true, Ordering::Relaxed);
                        // The time of a deployment is not the database's.
                        self.due = Instant::now();
                    }
                    Err(error) => self.shared.failed(error),
                }
            }
            if let Some(connection) = &connection {
                let shared = self.shared.clone();
                let _between = shared.pause.read().await;
                match self.statement(connection).await {
                    Ok(did) => {
                        shared.latencies().record(window, self.due.elapsed());
                        shared.done.fetch_add(1, Ordering::Relaxed);
                        match did {
                            Did::Wrote(id, cents) => {
                                shared.memory().insert(id, cents);
                            }
                            Did::Nothing => {}
                            Did::ReadWrong(what) => shared.read_wrong(what),
                        }
                    }
                    Err(error) => shared.failed(error),
                }
            }
            self.due += self.gap;
        }
    }

    /// One statement of the mix: 40 % reads, 45 % updates, 12 % inserts, 3 % deletes.
    async fn statement(&mut self, on: &Connection) -> Result<Did, String> {
        let client = &on.client;
        match (self.rng.u8(..100), self.own()) {
            (0..40, Some((id, cents))) => {
                let row = client
                    .query_opt(&on.amount, &[&id])
                    .await
                    .map_err(|e| told(&e, "SELECT of an amount"))?;
                let read: Option<String> = row.and_then(|row| row.get(0));
                let expected = on.release.amount(cents);
                if read.as_ref() == Some(&expected) {
                    return Ok(Did::Nothing);
                }
                Ok(Did::ReadWrong(format!(
                    "order {id}: {} reads {}, written was {expected}",
                    on.release.application_name(),
                    read.as_deref().unwrap_or("nothing"),
                )))
            }
            (40..65, Some((id, _))) => {
                let cents = self.amount();
                let rows = client
                    .execute(&on.set_amount, &[&id, &on.release.amount(cents)])
                    .await
                    .map_err(|e| told(&e, "UPDATE of an amount"))?;
                one(rows, id)?;
                Ok(Did::Wrote(id, Some(cents)))
            }
            // Any order, also one that another session writes or has deleted: rows must stay
            // right when a statement that knows nothing of amounts moves them.
            (65..85, _) => {
                let id = self.rng.i64(1..=self.shared.loaded);
                let status = if self.rng.bool() { "packed" } else { "sent" };
                client
                    .execute(&on.set_status, &[&id, &status])
                    .await
                    .map_err(|e| told(&e, "UPDATE of a status"))?;
                Ok(Did::Nothing)
            }
            (97.., Some((id, _))) => {
                let rows = client
                    .execute(&on.delete, &[&id])
                    .await
                    .map_err(|e| told(&e, "DELETE"))?;
                one(rows, id)?;
                Ok(Did::Wrote(id, None))
            }
            _ => {
                let (customer, cents) = (self.rng.i64(0..50_000), self.amount());
                let note = format!("by {}", on.release.application_name());
                let row = client
                    .query_one(&on.insert, &[&customer, &on.release.amount(cents), &note])
                    .await
                    .map_err(|e| told(&e, "INSERT"))?;
                let id = row.get(0);
                self.inserted.push(id);
                Ok(Did::Wrote(id, Some(cents)))
            }
        }
    }

    fn amount(&mut self) -> i64 {
        self.rng.i64(1..=999_999)
    }

    /// An order of this session that exists, and its amount.
    fn own(&mut self) -> Option<(i64, i64)> {
        let every = self.shared.desks.len();
        for _ in 0..20 {
            let id = if !self.inserted.is_empty() && self.rng.bool() {
                self.inserted[self.rng.usize(..self.inserted.len())]
            } else {
                let id = self.rng.i64(1..=self.shared.loaded);
                // Down to the next one of ours.
                id - (id - self.first_id).rem_euclid(i64::try_from(every).unwrap_or(1))
            };
            if id < 1 {
                continue;
            }
            match self.shared.memory().get(&id) {
                Some(None) => {}
                Some(Some(cents)) => return Some((id, *cents)),
                None => return Some((id, loaded_cents(id))),
            }
        }
        None
    }
}

/// Exactly one row, or the order is gone that this session alone may delete.
fn one(rows: u64, id: i64) -> Result<(), String> {
    if rows == 1 {
        Ok(())
    } else {
        Err(format!("order {id}: {rows} rows were changed, 1 expected"))
    }
}

/// The server's words, or the client's where the server said none.
fn told(error: &tokio_postgres::Error, statement: &str) -> String {
    error.as_db_error().map_or_else(
        || format!("{statement}: {error}"),
        |db| format!("{statement}: {} ({})", db.message(), db.code().code()),
    )
}
