//! One case on real servers: the direct way in one database, pgshift's in another.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use tokio_postgres::error::SqlState;

use serde_json::Value;

use super::case::{Build, Case};
use super::judge::{Picture, kept};
use crate::support::{Cli, Db, Output, message};

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Both ways end in the same.
    Same,
    /// Refused while planning, for this reason.
    Refused(String),
    /// The server itself cannot do it, and pgshift refused it while planning.
    Impossible(String),
    /// What should not be.
    Wrong(String),
}

/// What is done to get there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Straight,
    BackFromReady,
    BackFromContract,
    /// Both.
    All,
}

impl Route {
    /// The one of a seed.
    pub(super) fn of(seed: u64) -> Self {
        [
            Self::Straight,
            Self::BackFromReady,
            Self::BackFromContract,
            Self::All,
        ][(seed % 4) as usize]
    }
}

/// The time zone of the case's databases: types of time depend on it.
fn zone(seed: u64) -> &'static str {
    ["UTC", "America/New_York", "Asia/Kolkata"][(seed / 4 % 3) as usize]
}

/// Makes a database as empty as a new one: quicker than a new one is.
const EMPTY: &str = "DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT pubname FROM pg_publication LOOP
        EXECUTE format('DROP PUBLICATION %I', name);
    END LOOP;
    FOR name IN SELECT nspname FROM pg_namespace
                WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', name);
    END LOOP;
    CREATE SCHEMA public;
    GRANT USAGE ON SCHEMA public TO PUBLIC;
END $$";

/// Databases to build cases in.
#[derive(Default)]
pub(super) struct Rooms(Mutex<Vec<Room>>);

pub(super) struct Room {
    pub(super) one: Db,
    pub(super) two: Db,
}

impl Rooms {
    pub(super) async fn take(&self) -> Room {
        let free = self.0.lock().expect("no panic before").pop();
        match free {
            Some(room) => room,
            None => Room {
                one: Db::create("retype_random").await,
                two: Db::create("retype_random_direct").await,
            },
        }
    }

    pub(super) fn give_back(&self, room: Room) {
        self.0.lock().expect("no panic before").push(room);
    }
}

/// Makes a database as it is before a case is built, whatever was in it.
pub(super) async fn empty(case: &Case, db: &Db) {
    db.execute(EMPTY).await;
    let (name, zone) = (db.name(), zone(case.seed));
    db.execute(&format!("ALTER DATABASE {name} SET timezone = '{zone}'"))
        .await;
}

/// Builds a case in a database; the server's words where it cannot be made.
pub(super) async fn build(
    case: &Case,
    build: Build,
    backwards: bool,
    db: &Db,
) -> Result<(), String> {
    empty(case, db).await;
    let client = db.client().await;
    let analyze = (None, format!("ANALYZE {}", case.table));
    for (_, sql) in case.statements(build, backwards).iter().chain([&analyze]) {
        let done = client.batch_execute(sql).await;
        done.map_err(|e| format!("{} in:\n{sql}", message(&e)))?;
    }
    Ok(())
}

/// The table cannot even be made.
pub(super) const NOT_A_CASE: &str = "the generator makes what the server refuses";

const ID: &str = "20261123_retype";

struct Project<'a> {
    db: &'a Db,
    cli: Cli,
}

impl Project<'_> {
    async fn run(&self, args: &[&str]) -> Result<(), String> {
        let output = self.cli.run(args).await;
        if output.code == Some(0) {
            return Ok(());
        }
        Err(format!(
            "{args:?} failed after planning:\n{}",
            told(&output)
        ))
    }

    /// Takes it back, and compares with what was before.
    async fn back(&self, before: &Picture, from: &str) -> Result<(), String> {
        self.run(&["revert", ID]).await?;
        let differences = before.differences(&Picture::take(self.db).await, true);
        if differences.is_empty() {
            return Ok(());
        }
        Err(format!(
            "reverted from {from}, not as it was:\n{}",
            differences.join("\n")
        ))
    }
}

fn told(output: &Output) -> String {
    format!(
        "exit code {:?}\n{}{}",
        output.code, output.stdout, output.stderr
    )
}

/// Why a plan is refused; an error where it has no reason or no way out.
fn refusal(output: &Output) -> Result<String, String> {
    let error = serde_json::from_str::<Value>(&output.stdout)
        .map_err(|e| format!("{e}: {}", told(output)))?;
    let error = &error["error"];
    let text = |v: &Value| v.as_str().map(str::to_owned);
    let reason = text(&error["message"]).unwrap_or_default();
    let help = error["places"]
        .as_array()
        .and_then(|places| places.iter().find_map(|p| text(&p["help"])))
        .or_else(|| text(&error["next"]));
    if reason.is_empty() || help.is_none() {
        return Err(format!(
            "refused without a reason or a way out:\n{}",
            told(output)
        ));
    }
    Ok(reason)
}

/// Runs a case.
pub(super) async fn run(case: &Case, route: Route, rooms: &Rooms) -> Verdict {
    let room = rooms.take().await;
    let verdict = judge(case, route, &room).await;
    rooms.give_back(room);
    verdict.unwrap_or_else(Verdict::Wrong)
}

async fn judge(case: &Case, route: Route, room: &Room) -> Result<Verdict, String> {
    let db = &room.one;
    build(case, Build::Before, false, db)
        .await
        .map_err(|e| format!("{NOT_A_CASE}: {e}"))?;
    let direct = build(case, Build::Direct, false, &room.two).await;
    let project = Project {
        db,
        cli: Cli::new(db),
    };
    project.cli.migration(ID, &case.migration());
    let before = Picture::take(db).await;
    let planned = project.cli.run(&["plan", "--format", "json"]).await;
    match (planned.code, &direct) {
        (Some(0), Ok(())) => {}
        (Some(0), Err(e)) => {
            return Err(format!("planned what the server cannot do directly: {e}"));
        }
        (Some(2 | 3), _) => {
            let reason = refusal(&planned)?;
            let differences = before.differences(&Picture::take(db).await, true);
            if !differences.is_empty() {
                return Err(format!(
                    "planning changed something:\n{}",
                    differences.join("\n")
                ));
            }
            return Ok(match direct {
                Ok(()) => Verdict::Refused(reason),
                Err(e) => Verdict::Impossible(e),
            });
        }
        _ => return Err(format!("plan:\n{}", told(&planned))),
    }
    let direct = &room.two;

    project.run(&["apply"]).await?;
    if matches!(route, Route::BackFromReady | Route::All) {
        project.back(&before, "READY").await?;
        project.run(&["apply"]).await?;
    }
    project.run(&["contract", ID]).await?;
    if matches!(route, Route::BackFromContract | Route::All) {
        project.back(&before, "contract").await?;
        project.run(&["apply"]).await?;
        project.run(&["contract", ID]).await?;
    }
    project.run(&["purge", ID, "--yes"]).await?;
    let expected = Picture::take(direct).await;
    let found = Picture::take(db).await;
    let mut differences = expected.differences(&found, false);
    differences.retain(|d| !kept(&before, d, &expected, &found));
    if !differences.is_empty() {
        return Err(format!(
            "not as after ALTER TYPE:\n{}",
            differences.join("\n")
        ));
    }
    let (one, two) = (uses(case, direct).await, uses(case, db).await);
    if one != two {
        return Err(format!(
            "statements do not do the same:\n    expected {one:#?}\n    found {two:#?}"
        ));
    }
    Ok(Verdict::Same)
}

/// What an application's statements do: rows or the code of the error, and the rows afterwards.
async fn uses(case: &Case, db: &Db) -> Vec<String> {
    let client = db.client().await;
    let mut results = Vec::new();
    for sql in case.uses() {
        let result = match client.simple_query(&sql).await {
            Ok(done) => format!("{done:?}"),
            // Of several columns without a value the first is named: by their order.
            Err(e) if e.code() == Some(&SqlState::NOT_NULL_VIOLATION) => "a null".to_owned(),
            // Of several foreign keys too: by the order of their making.
            Err(e)
                if [
                    Some(&SqlState::FOREIGN_KEY_VIOLATION),
                    Some(&SqlState::RESTRICT_VIOLATION),
                ]
                .contains(&e.code()) =>
            {
                "a reference".into()
            }
            // An index that is made anew is looked at last.
            Err(e)
                if [
                    Some(&SqlState::UNIQUE_VIOLATION),
                    Some(&SqlState::EXCLUSION_VIOLATION),
                ]
                .contains(&e.code()) =>
            {
                "a row like it".into()
            }
            Err(e) => message(&e),
        };
        results.push(format!("{sql}: {result}"));
        if sql.starts_with("TRUNCATE") {
            break;
        }
        let picture = Picture::take(db).await;
        results.extend(
            picture
                .rows()
                .map(|(name, rows)| format!("{name}: {rows:?}")),
        );
    }
    results
}

/// The smallest case that is still wrong, features left out one by one.
pub(super) async fn shrink(
    case: &Case,
    route: Route,
    wrong: String,
    rooms: &Rooms,
) -> (Case, String) {
    let (mut smallest, mut why) = (case.clone(), wrong);
    let begun = std::time::Instant::now();
    let mut tries: Vec<Case> = Vec::new();
    for rows in [0, 1, 5] {
        if rows < case.rows {
            tries.push(Case {
                rows,
                ..case.clone()
            });
        }
    }
    for less in tries {
        if let Verdict::Wrong(text) = run(&less, route, rooms).await
            && !text.starts_with(NOT_A_CASE)
        {
            (smallest, why) = (less, text);
            break;
        }
    }
    for feature in (1..case.features.len()).rev() {
        if begun.elapsed() > std::time::Duration::from_mins(2) {
            break;
        }
        let Some(less) = smallest.without(feature) else {
            continue;
        };
        if let Verdict::Wrong(text) = run(&less, route, rooms).await
            && !text.starts_with(NOT_A_CASE)
        {
            (smallest, why) = (less, text);
        }
    }
    (smallest, why)
}

/// A reason without the names, which differ from case to case.
fn kind_of(reason: &str, case: &Case) -> String {
    const DEPENDENTS: &[&str] = &[
        "materialized view ",
        "view ",
        "policy ",
        "trigger ",
        "publication of ",
        "generated column ",
        "function ",
        "rule ",
    ];
    let split = |verb: &str| reason.split_once(&format!(" {verb} on column "));
    if let Some((what, _)) = split("depend").or_else(|| split("depends")) {
        let found: Vec<&str> = DEPENDENTS
            .iter()
            .filter(|kind| what.split(", ").any(|part| part.starts_with(**kind)))
            .map(|kind| kind.trim_end())
            .collect();
        return format!("{} depend on the column", found.join(", "));
    }
    if let Some((_, what)) = reason.split_once(" is in a key of ") {
        let tail = what.split_once(" that ").map_or("", |(_, tail)| tail);
        let tail = tail.split(':').next().unwrap_or_default();
        return format!("it is in a key that {tail}");
    }
    let mut reason = reason
        .replace(&case.table.replace('"', ""), "T")
        .replace(&case.table, "T");
    for feature in &case.features {
        if let super::case::Make::Column(column) = &feature.make {
            reason = reason.replace(&format!(" {} ", column.name), " C ");
        }
    }
    reason
}

/// Counts of verdicts, and of reasons.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) same: usize,
    pub(super) refused: usize,
    pub(super) impossible: usize,
    reasons: BTreeMap<String, usize>,
}

impl Tally {
    pub(super) fn add(&mut self, verdict: &Verdict, case: &Case) {
        match verdict {
            Verdict::Same => self.same += 1,
            Verdict::Refused(reason) => {
                self.refused += 1;
                let reason = kind_of(reason, case);
                *self.reasons.entry(reason).or_default() += 1;
            }
            Verdict::Impossible(_) => self.impossible += 1,
            Verdict::Wrong(_) => {}
        }
    }

    /// The share refused of what the server can do, 0 to 1.
    pub(super) fn share_refused(&self) -> f64 {
        let all = self.same + self.refused;
        if all == 0 {
            return 0.0;
        }
        self.refused as f64 / all as f64
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{} as after ALTER TYPE, {} refused while planning ({:.0} %), {} that the server \
             cannot do either",
            self.same,
            self.refused,
            self.share_refused() * 100.0,
            self.impossible
        );
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (reason, count) in reasons.iter().take(40) {
            let _ = write!(text, "\n  {count:>4} {reason}");
        }
        text
    }
}
