//! What an example comes to when nothing disturbs it, and which points it passes on its way.

use std::collections::BTreeMap;

use super::history;
use crate::examples;
use crate::lifecycle::{Project, assert_same, data};
use crate::support::{Cli, Db};

/// A command of a migration's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Leg {
    Apply,
    RevertReady,
    Contract,
    RevertComplete,
    Purge,
}

impl Leg {
    pub(super) fn command(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Contract => "contract",
            Self::RevertReady | Self::RevertComplete => "revert",
            Self::Purge => "purge",
        }
    }

    /// What comes before it, in an example with a contract part or without.
    pub(super) fn before(self, contract: bool) -> &'static [Self] {
        match self {
            Self::Apply => &[],
            Self::RevertComplete | Self::Purge if contract => &[Self::Apply, Self::Contract],
            _ => &[Self::Apply],
        }
    }
}

/// What a user can see of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) schema: String,
    pub(super) data: String,
}

impl Seen {
    pub(super) async fn of(db: &Db) -> Self {
        Self {
            schema: db.schema().await,
            data: sorted(&without_uuids(&data(db).await)),
        }
    }
}

/// Random values differ from run to run; that they are there and unique is the schema's to say.
fn without_uuids(text: &str) -> String {
    let is_uuid = |part: &str| {
        part.len() == 36
            && part.char_indices().all(|(i, c)| match i {
                8 | 13 | 18 | 23 => c == '-',
                _ => c.is_ascii_hexdigit(),
            })
    };
    let parts: Vec<&str> = text
        .split('"')
        .map(|part| if is_uuid(part) { "UUID" } else { part })
        .collect();
    parts.join("\"")
}

/// The rows of each table in an order that values left out have no part in.
fn sorted(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let tables = lines.chunk_by(|_, line| line.starts_with('{'));
    let sorted = tables.map(|table| {
        let mut table = table.to_vec();
        table[1..].sort_unstable();
        table.join("\n")
    });
    sorted.collect::<Vec<_>>().join("\n")
}

/// Where a leg leads to.
pub(super) struct Station {
    pub(super) state: String,
    pub(super) seen: Seen,
    /// Names of points in the order in which they were passed.
    pub(super) passed: Vec<String>,
    /// The steps, see [`history::done`].
    pub(super) done: Vec<String>,
}

impl Station {
    pub(super) fn passings(&self) -> BTreeMap<&str, u64> {
        let mut times = BTreeMap::new();
        for point in &self.passed {
            *times.entry(point.as_str()).or_default() += 1;
        }
        times
    }
}

/// An example of `migrations-examples/`, and all that is known of it.
pub(super) struct Reference {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) migration: String,
    pub(super) template: Db,
    pub(super) first: Seen,
    pub(super) stations: BTreeMap<Leg, Station>,
}

impl Reference {
    /// Lives it once, undisturbed; to its very end where `purge`.
    pub(super) async fn of(name: &str, purge: bool) -> Self {
        let (setup, id, migration) = examples::read(name);
        let template = Db::with(&format!("points {name}"), &setup).await;
        template.execute("ANALYZE").await;
        let mut reference = Self {
            name: name.to_owned(),
            id,
            migration,
            first: Seen::of(&template).await,
            template: template.into_template().await,
            stations: BTreeMap::new(),
        };
        let undisturbed = reference.project().await;
        reference.live(&undisturbed, Leg::Apply).await;
        let contract = reference.stations[&Leg::Apply].state == "ready";
        let there: &[Leg] = if contract {
            reference.live(&undisturbed, Leg::RevertReady).await;
            &[Leg::Apply, Leg::Contract]
        } else {
            &[Leg::Apply]
        };
        if contract {
            for leg in there {
                reference.live(&undisturbed, *leg).await;
            }
        }
        reference.live(&undisturbed, Leg::RevertComplete).await;
        if purge {
            for leg in there.iter().chain(&[Leg::Purge]) {
                reference.live(&undisturbed, *leg).await;
            }
        }
        reference
    }

    pub(super) fn has_contract(&self) -> bool {
        self.stations.contains_key(&Leg::Contract)
    }

    /// Changes rows for good, as its plan says.
    pub(super) fn loses_rows(&self) -> bool {
        self.stations[&Leg::RevertComplete].seen.data != self.first.data
    }

    /// The example in a database of its own, with nothing done.
    pub(super) async fn project(&self) -> Project {
        let db = self.template.copy().await;
        let cli = Cli::new(&db);
        cli.migration(&self.id, &self.migration);
        Project {
            db,
            cli,
            id: self.id.clone(),
        }
    }

    async fn live(&mut self, project: &Project, leg: Leg) {
        let record = project.cli.dir().join(format!("{leg:?}"));
        let path = record.to_str().expect("a path of ASCII");
        let env = [("PGSHIFT_FAULT_RECORD", path)];
        let args = args(leg.command(), &self.id);
        let output = project.cli.spawn_with(&env, &args).wait().await;
        let output = output.expect(0);
        let state = project.state().await;
        let passed = std::fs::read_to_string(&record)
            .unwrap_or_else(|e| panic!("{e}: no point was passed\n{}", output.stderr));
        let station = Station {
            state,
            seen: Seen::of(&project.db).await,
            passed: passed.lines().map(str::to_owned).collect(),
            done: history::done(&project.db).await,
        };
        let wrong = history::wrong_with(&project.db).await;
        assert_eq!(wrong, Vec::<String>::new(), "{} {leg:?}", self.name);
        // The second time it is no other.
        if let Some(before) = self.stations.get(&leg) {
            assert_same(&self.name, &before.seen.schema, &station.seen.schema);
            return;
        }
        self.stations.insert(leg, station);
    }
}

/// A run without throttle.
pub(super) fn args<'a>(command: &'a str, id: &'a str) -> Vec<&'a str> {
    vec!["--yes", command, id, "--duty", "1"]
}
