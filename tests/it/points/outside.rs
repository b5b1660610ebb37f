//! The commands beside those that execute steps: a verify by itself, a repair, and what a person
//! says to a run. Disturbed at each of their points, and said again, they come to what they come to
//! undisturbed, and the log tells what is so.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use futures_util::StreamExt as _;
use pgshift::fault::{Side, Write};

use super::{ABREAST, Row, history, seed, table};
use crate::lifecycle::Project;
use crate::support::{Cli, Db, Output};

const ROWS: u32 = 3_000;
/// Rows that are wrong, in two partitions.
const WRONG: &str = "id % 100 = 7";
const ID: &str = "20270101_outside";
const MIGRATION: &str = "-- pgshift: expand
ALTER TABLE orders ADD COLUMN total_cents bigint;

-- pgshift: backfill
UPDATE orders SET total_cents = round(total * 100)::bigint;

-- pgshift: reverse
UPDATE orders SET total = total_cents / 100.0;

-- pgshift: contract
ALTER TABLE orders DROP COLUMN total;
";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Verify,
    Repair,
    Pause,
    EndPause,
    SetLimit,
    ClearLimit,
}

impl Act {
    const ALL: [Self; 6] = [
        Self::Verify,
        Self::Repair,
        Self::Pause,
        Self::EndPause,
        Self::SetLimit,
        Self::ClearLimit,
    ];

    fn args(self) -> &'static [&'static str] {
        match self {
            Self::Verify => &["verify", ID, "--duty", "1"],
            Self::Repair => &["repair", ID, "--from", "old", "--duty", "1"],
            Self::Pause => &["pause", ID],
            Self::EndPause => &["resume", ID, "--duty", "1"],
            Self::SetLimit => &["throttle", "set", ID, "max-lag=10s"],
            Self::ClearLimit => &["throttle", "clear", ID],
        }
    }

    /// What was said before.
    fn before(self) -> &'static [&'static str] {
        match self {
            Self::Repair => &["verify", ID],
            Self::EndPause => &["pause", ID],
            Self::ClearLimit => &["throttle", "set", ID, "max-lag=10s"],
            _ => &[],
        }
    }

    /// Needs a run that is under way, else a migration that is READY and has wrong rows.
    fn in_motion(self) -> bool {
        matches!(self, Self::Pause | Self::EndPause)
    }

    /// Exit codes of it and of what came before it, undisturbed.
    fn codes(self) -> (i32, i32) {
        (
            i32::from(self == Self::Verify),
            i32::from(self == Self::Repair),
        )
    }

    /// The event of what is said, and whether it is so.
    fn said(self) -> Option<(&'static str, bool, &'static str)> {
        Some(match self {
            Self::Pause => ("paused", true, "pause"),
            Self::EndPause => ("unpaused", false, "pause"),
            Self::SetLimit => ("limit_set", true, "max-lag"),
            Self::ClearLimit => ("limit_cleared", false, "max-lag"),
            _ => return None,
        })
    }
}

/// Databases in which the acts begin.
struct Templates {
    ready: Db,
    in_motion: Db,
}

impl Templates {
    async fn new() -> Self {
        let setup = format!(
            "CREATE TABLE orders (id bigint PRIMARY KEY, total numeric(12,2) NOT NULL)
                 PARTITION BY RANGE (id);
             CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (0) TO (1000);
             CREATE TABLE orders_2 PARTITION OF orders FOR VALUES FROM (1000) TO (1000000);
             INSERT INTO orders SELECT n, n / 100.0 FROM generate_series(1, {ROWS}) n;
             ANALYZE"
        );
        let [ready, in_motion] = ["outside_ready", "outside_in_motion"];
        let spoil = format!(
            "SET session_replication_role = replica;
             UPDATE orders SET total_cents = 0 WHERE {WRONG};
             RESET session_replication_role"
        );
        let ready = Project::with_id(ready, ID, &setup, MIGRATION).await;
        ready.to("apply", "ready").await;
        ready.db.execute(&spoil).await;
        let in_motion = Project::with_id(in_motion, ID, &setup, MIGRATION).await;
        let fault = [("PGSHIFT_FAULT", "chunk.after:2")];
        let apply = ["apply", "--duty", "1"];
        let output = in_motion.cli.spawn_with(&fault, &apply).wait().await;
        assert_eq!(output.code, None, "{}", output.stderr);
        Self {
            ready: ready.db.into_template().await,
            in_motion: in_motion.db.into_template().await,
        }
    }

    async fn project(&self, act: Act) -> Project {
        let template = if act.in_motion() {
            &self.in_motion
        } else {
            &self.ready
        };
        let db = template.copy().await;
        let cli = Cli::new(&db);
        cli.migration(ID, MIGRATION);
        let project = Project {
            db,
            cli,
            id: ID.to_owned(),
        };
        if !act.before().is_empty() {
            project.cli.run(act.before()).await.expect(act.codes().1);
        }
        project
    }
}

/// What an act comes to.
#[derive(Debug, PartialEq, Eq)]
struct End {
    code: Option<i32>,
    stdout: String,
    state: String,
    rows: Vec<String>,
    listed: Vec<String>,
    overrides: Vec<String>,
}

impl End {
    async fn of(project: &Project, output: Output) -> Self {
        let db = &project.db;
        Self {
            code: output.code,
            // How many a repair mended is of this call; rows and log tell of all.
            stdout: output
                .stdout
                .split(" mended")
                .next()
                .unwrap_or_default()
                .split(": ")
                .next()
                .unwrap_or_default()
                .to_owned(),
            state: project.state().await,
            rows: db
                .rows("SELECT to_jsonb(o)::text FROM orders o ORDER BY id")
                .await,
            listed: db
                .rows(
                    "SELECT concat_ws(' ', table_name, key, state) FROM pgshift.wrong_row
                     JOIN pgshift.verify_range USING (verification_id, relation)
                     ORDER BY table_name, key, state",
                )
                .await,
            overrides: db
                .rows("SELECT key || '=' || value FROM pgshift.override ORDER BY key")
                .await,
        }
    }
}

/// Points of an act that are passed, in order.
async fn passed(project: &Project, act: Act) -> (Vec<String>, Output) {
    let record = project.cli.dir().join("points");
    let path = record.to_str().expect("a path of ASCII");
    let env = [("PGSHIFT_FAULT_RECORD", path)];
    let output = project.cli.spawn_with(&env, act.args()).wait().await;
    let passed = std::fs::read_to_string(&record).expect("points");
    (passed.lines().map(str::to_owned).collect(), output)
}

struct Case {
    act: Act,
    faults: Vec<String>,
}

/// What is wrong after the faults and another call.
async fn run(case: &Case, templates: &Templates, undisturbed: &End) -> Vec<String> {
    let Case { act, faults } = case;
    let project = templates.project(*act).await;
    let mut wrong = Vec::new();
    for fault in faults {
        let env = [("PGSHIFT_FAULT", fault.as_str())];
        let output = project.cli.spawn_with(&env, act.args()).wait().await;
        let met = output.code.is_none() || output.stderr.contains("(fault point ");
        if !met && faults.len() == 1 {
            wrong.push(format!("{fault} was not met\n{}", output.stderr));
        }
        // What is so, and what the log says of it, are one: whatever was met.
        if let Some((event, is_set, key)) = act.said() {
            let sql = format!(
                "SELECT (SELECT count(*) FROM pgshift.event WHERE kind = '{event}') > 0,
                        EXISTS (SELECT FROM pgshift.override WHERE key = '{key}') = {is_set}"
            );
            let client = project.db.client().await;
            let row = client.query_one(&sql, &[]).await.expect("what is so");
            let (told, so): (bool, bool) = (row.get(0), row.get(1));
            if told != so {
                wrong.push(format!("told: {told}, so: {so}"));
            }
        }
    }
    let done = project.state().await == undisturbed.state && *act == Act::EndPause;
    let again = if done {
        // The first one went on to its end.
        project.cli.run(&["status", ID]).await
    } else {
        project.cli.run(act.args()).await
    };
    let said = again.stderr.clone();
    let mut end = End::of(&project, again).await;
    if done {
        end.stdout.clone_from(&undisturbed.stdout);
    }
    if end != *undisturbed {
        wrong.push(format!("{end:?}\n  and not {undisturbed:?}\n{said}"));
    }
    if *act == Act::Repair {
        let mended: i64 = project
            .db
            .one(
                "SELECT coalesce(sum((detail->>'rows')::int), 0) FROM pgshift.event
                 WHERE kind = 'repaired'",
            )
            .await;
        if mended != i64::from(ROWS / 100) {
            wrong.push(format!("{mended} rows were mended by the log"));
        }
    }
    wrong.extend(history::wrong_with(&project.db).await);
    wrong
}

/// Every point of every act at its first and last passing; with `pairs`, another fault in the call
/// after it too.
async fn all(rng: &mut Rng, pairs: bool) -> (BTreeMap<&'static str, Row>, Vec<String>) {
    let templates = Templates::new().await;
    let mut undisturbed = BTreeMap::new();
    let mut cases = Vec::new();
    let mut met = BTreeSet::new();
    for act in Act::ALL {
        let project = templates.project(act).await;
        let (passed, output) = passed(&project, act).await;
        assert_eq!(
            output.code,
            Some(act.codes().0),
            "{act:?} {}",
            output.stderr
        );
        undisturbed.insert(act, End::of(&project, output).await);
        let of_act = |point: &&String| match act {
            // It comes where the machine is slow.
            _ if point.starts_with(Write::Heartbeat.name()) => false,
            // The rest of it is the run's own.
            Act::EndPause => point.starts_with(Write::Said.name()),
            _ => true,
        };
        let mut times: BTreeMap<&String, u64> = BTreeMap::new();
        for point in passed.iter().filter(of_act) {
            *times.entry(point).or_default() += 1;
        }
        met.extend(times.keys().map(|point| (*point).clone()));
        for (point, last) in &times {
            for passing in BTreeSet::from([1, *last]) {
                let mut faults = vec![format!("{point}:{passing}")];
                if pairs && rng.bool() {
                    let second = &passed[rng.usize(..passed.len())];
                    faults.push(format!("{second}:{}", rng.u64(1..3)));
                }
                cases.push(Case { act, faults });
            }
        }
    }
    let points = Write::OUTSIDE
        .iter()
        .flat_map(|write| Side::ALL.map(|side| format!("{}.{}", write.name(), side.name())));
    let never: Vec<String> = points.filter(|point| !met.contains(point)).collect();
    assert!(never.is_empty(), "no act passes {never:?}");
    rng.shuffle(&mut cases);
    if !pairs {
        // Each point once; what is left out the long form has.
        let mut seen = BTreeSet::new();
        cases.retain(|case| {
            let point = case.faults[0].split(':').next().unwrap_or_default();
            seen.insert((case.act, point.to_owned()))
        });
    }
    let (templates, undisturbed) = (&templates, &undisturbed);
    let mut row = Row::default();
    let mut bad = Vec::new();
    let mut runs = futures_util::stream::iter(&cases)
        .map(|case| async move { (case, run(case, templates, &undisturbed[&case.act]).await) })
        .buffer_unordered(ABREAST);
    while let Some((Case { act, faults }, wrong)) = runs.next().await {
        row.count(false, wrong.len(), 0);
        if !wrong.is_empty() {
            bad.push(format!("{act:?} {faults:?}: {}", wrong.join("\n  ")));
        }
    }
    let rows = BTreeMap::from([("verify, repair, pause, limits disturbed", row)]);
    table::write(&rows);
    (rows, bad)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(
    not(feature = "fault-points"),
    ignore = "needs the feature fault-points"
)]
async fn verify_repair_and_words_to_a_run_are_whole_or_not_there() {
    let (_, bad) = all(&mut Rng::with_seed(seed()), false).await;
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// For `scripts/faults.sh`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the long form, for scripts/faults.sh"]
async fn at_every_point_of_the_other_commands() {
    let (_, bad) = all(&mut Rng::with_seed(seed()), true).await;
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
