//! The analyzer against real servers: for every form of a statement, the locks, rewrites, scans
//! and index builds that it predicts must be those that the server does.
//!
//! A case is set-up SQL and a statement, and nothing else by hand: the prediction is made from the
//! loaded catalog, then the statement runs and `pg_locks`, the files of the relations and the
//! counters of rows read say what happened. What is compared:
//!
//! - for each table, partition, view, materialized view, sequence and foreign table that was there
//!   before: the strongest mode. Not the system's catalogs and TOAST tables.
//! - for an index: what is predicted for it; and where it is held in a mode that stops reads
//!   although its table is not, that must have been predicted.
//! - of work the heaviest: rewrite, index build, scan, none. Statements that read or write rows by
//!   their purpose (DML, queries, CREATE … AS, COPY, ANALYZE, TRUNCATE) are not judged for it.
//!
//! Where a prediction is coarser on purpose, the case says so with the reason; it may then be
//! stronger than what is observed, never weaker, and must not be equal (the reason would be stale).

mod cases;
mod observe;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pgshift::catalog::Catalog;
use pgshift::lock::LockMode;
use pgshift::pg::catalog::{Wanted, load};
use pgshift::plan::draft::relations;
use pgshift::plan::locks::{locks, read_locks, reads, transactional};
use pgshift::plan::work::{Work, rewrites_or_scans};
use pgshift::sql::ddl::{Action, understand};
use tokio_postgres::Client;

use super::support::{Db, message};
use observe::{Observed, Relation};

/// Statements on one set-up, which is made once: in a schema of its own, first in the path.
struct Group {
    /// Settings of the session that analyzes and runs.
    session: &'static str,
    setup: &'static str,
    cases: &'static [Case],
}

const fn group(setup: &'static str, cases: &'static [Case]) -> Group {
    Group {
        session: "",
        setup,
        cases,
    }
}

impl Group {
    const fn session(mut self, settings: &'static str) -> Self {
        self.session = settings;
        self
    }
}

/// One statement.
struct Case {
    sql: &'static str,
    /// Major versions that have this form.
    versions: (u32, u32),
    /// What another session does in an open transaction so that the statement stands still.
    held_by: Option<&'static str>,
    coarse: &'static [Coarse],
    coarse_from: u32,
}

const fn case(sql: &'static str) -> Case {
    Case {
        sql,
        versions: (14, 18),
        held_by: None,
        coarse: &[],
        coarse_from: 0,
    }
}

impl Case {
    const fn from(mut self, major: u32) -> Self {
        self.versions.0 = major;
        self
    }

    const fn to(mut self, major: u32) -> Self {
        self.versions.1 = major;
        self
    }

    const fn held_by(mut self, sql: &'static str) -> Self {
        self.held_by = Some(sql);
        self
    }

    const fn coarse(mut self, coarse: &'static [Coarse]) -> Self {
        self.coarse = coarse;
        self
    }

    /// The exceptions hold from this major on.
    const fn coarse_from(mut self, major: u32, coarse: &'static [Coarse]) -> Self {
        self.coarse_from = major;
        self.coarse = coarse;
        self
    }

    fn exceptions(&self, major: u32) -> &'static [Coarse] {
        if major >= self.coarse_from {
            self.coarse
        } else {
            &[]
        }
    }
}

/// Where a prediction differs on purpose, and why. But for [`Coarse::Unsaid`] it is stronger.
enum Coarse {
    /// No lock on this relation is predicted, though there is one.
    Unsaid(&'static str, &'static str),
    /// The lock on this relation.
    Lock(&'static str, &'static str),
    /// `unknown tables` are predicted.
    Unknown(&'static str),
    /// The work.
    Work(&'static str),
}

/// Statements whose purpose is to read or write rows.
fn is_data(action: &Action) -> bool {
    action.is_dml()
        || matches!(
            action,
            Action::Select { .. }
                | Action::Analyze { .. }
                | Action::CreateTable {
                    as_select: true,
                    ..
                }
                | Action::CreateView { .. }
                | Action::Do
                | Action::Call
        )
}

/// What was predicted.
struct Predicted {
    /// By name without schema; `None` is unknown tables.
    locks: BTreeMap<Option<String>, LockMode>,
    work: Work,
    data: bool,
    transactional: bool,
    major: u32,
}

fn predict(sql: &str, catalog: &Catalog) -> Predicted {
    let action = understand(sql);
    let mut all = BTreeMap::new();
    for lock in locks(&action, catalog)
        .into_iter()
        .chain(read_locks(sql, &action, catalog))
    {
        let held = all
            .entry(lock.relation.map(|r| r.name))
            .or_insert(lock.mode);
        *held = lock.mode.max(*held);
    }
    Predicted {
        locks: all,
        work: rewrites_or_scans(&action, catalog),
        data: is_data(&action),
        transactional: transactional(&action),
        major: catalog.major(),
    }
}

/// What is wrong, a line each.
fn judge(
    case: &Case,
    predicted: &Predicted,
    relations: &[Relation],
    observed: &Observed,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let coarse = case.exceptions(predicted.major);
    let reason = |name: &str| {
        coarse.iter().find_map(|c| match c {
            Coarse::Lock(on, why) if *on == name => Some((true, *why)),
            Coarse::Unsaid(on, why) if *on == name => Some((false, *why)),
            _ => None,
        })
    };
    let unknown = predicted.locks.get(&None).copied();
    let show = |mode: Option<LockMode>| mode.map_or("no lock".to_owned(), |m| m.to_string());
    for relation in relations {
        let said = predicted.locks.get(&Some(relation.name.clone())).copied();
        let held = observed.locks.get(&relation.oid).copied();
        if relation.is_index() {
            let hidden = held == Some(LockMode::AccessExclusive)
                && observed.locks.get(&relation.table) != Some(&LockMode::AccessExclusive);
            if said.is_none() && !hidden {
                continue;
            }
        }
        if let Some((stronger, why)) = reason(&relation.name) {
            let right = if stronger { said > held } else { said < held };
            if !right {
                wrong.push(format!(
                    "{}: stale or wrong exception ({why}): predicted {}, observed {}",
                    relation.name,
                    show(said),
                    show(held)
                ));
            }
        } else if said.is_none() && held.is_some() && held <= unknown {
            // The unknown tables stand for it.
        } else if said != held {
            wrong.push(format!(
                "{}: predicted {}, observed {}",
                relation.name,
                show(said),
                show(held)
            ));
        }
    }
    let why = coarse.iter().find_map(|c| match c {
        Coarse::Unknown(why) => Some(*why),
        _ => None,
    });
    if unknown.is_some() != why.is_some() {
        wrong.push(format!(
            "unknown tables: predicted {} ({})",
            show(unknown),
            why.unwrap_or("no reason")
        ));
    }
    if !predicted.data {
        let why = coarse.iter().find_map(|c| match c {
            Coarse::Work(why) => Some(*why),
            _ => None,
        });
        let right = if why.is_some() {
            predicted.work > observed.work
        } else {
            predicted.work == observed.work
        };
        if !right {
            wrong.push(format!(
                "work: predicted {:?}, observed {:?} ({})",
                predicted.work,
                observed.work,
                why.unwrap_or("no reason")
            ));
        }
    }
    if predicted.transactional == case.held_by.is_some() && coarse.is_empty() {
        wrong.push(format!("transactional: {}", predicted.transactional));
    }
    wrong
}

async fn run(client: &Client, sql: &str) {
    if let Err(e) = client.batch_execute(sql).await {
        panic!("{}\n  in: {sql}", message(&e));
    }
}

async fn check(db: &Db, client: &Client, group: &Group, case: &Case) -> Vec<String> {
    let action = understand(case.sql);
    let wanted: Vec<Wanted> = relations(&action)
        .into_iter()
        .chain(reads(case.sql))
        .map(|n| Wanted {
            schema: n.schema,
            name: n.name,
        })
        .collect();
    let catalog = match load(client, &wanted).await {
        Ok(catalog) => catalog,
        Err(e) => return vec![format!("cannot load: {e}")],
    };
    let predicted = predict(case.sql, &catalog);
    let relations = observe::relations(client).await;
    let observed = match case.held_by {
        None => observe::in_transaction(client, case.sql, &relations).await,
        Some(holder) => {
            observe::held(db, client, group.session, holder, case.sql, &relations).await
        }
    };
    match observed {
        Ok(observed) => judge(case, &predicted, &relations, &observed),
        Err(message) => vec![message],
    }
}

async fn check_all(name: &str, groups: &'static [Group]) {
    let db = Db::create(name).await;
    db.execute(cases::ONCE).await;
    let client = db.client().await;
    for sql in cases::TABLESPACE.split("; ") {
        // One of the tests that run at the same time makes it.
        let _ = client.batch_execute(sql).await;
    }
    let major: u32 = db
        .one::<String>("SELECT current_setting('server_version_num')")
        .await
        .parse::<u32>()
        .expect("a number")
        / 10_000;
    let mut report = String::new();
    let (mut forms, mut failed) = (0, 0);
    for (number, group) in groups.iter().enumerate() {
        let there = |case: &&Case| (case.versions.0..=case.versions.1).contains(&major);
        let cases: Vec<&Case> = group.cases.iter().filter(there).collect();
        if cases.is_empty() {
            continue;
        }
        let schema = format!("{name}_{number}");
        run(
            &client,
            &format!(
                "CREATE SCHEMA {schema}; SET search_path = {schema}, public; {}",
                group.session
            ),
        )
        .await;
        run(&client, group.setup).await;
        for case in cases {
            forms += 1;
            let wrong = check(&db, &client, group, case).await;
            if !wrong.is_empty() {
                failed += 1;
                let _ = writeln!(report, "{}\n    {}", case.sql, wrong.join("\n    "));
            }
        }
        run(&client, "RESET ALL").await;
    }
    eprintln!("{name}: {forms} forms on PostgreSQL {major}");
    assert!(
        failed == 0,
        "{failed} of {forms} forms on PostgreSQL {major}\n{report}"
    );
}

#[tokio::test]
async fn alter_table() {
    check_all("alter", cases::ALTER).await;
}

#[tokio::test]
async fn types() {
    check_all("types", cases::TYPES).await;
}

#[tokio::test]
async fn partitions_and_inheritance() {
    check_all("trees", cases::TREES).await;
}

#[tokio::test]
async fn everything_else() {
    check_all("others", cases::OTHERS).await;
}

#[tokio::test]
async fn outside_transactions() {
    check_all("outside", cases::OUTSIDE).await;
}
