//! One example, disturbed: aborted or robbed of a reply at a point, taken up again as the status
//! tells, and compared with the undisturbed one.

use std::fmt::{self, Write as _};
use std::time::{Duration, Instant};

use super::history;
use super::reference::{Leg, Reference, Seen, args};
use crate::lifecycle::Project;
use crate::support::Output;

/// What the user does after a fault, where the status tells of two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    On,
    Back,
}

#[derive(Debug, Clone)]
pub(super) struct Case {
    /// Number of the example.
    pub(super) example: usize,
    /// The command that is disturbed.
    pub(super) leg: Leg,
    /// `POINT:PASSING`, one for each process from the first on.
    pub(super) faults: Vec<String>,
    pub(super) way: Way,
    /// Whether the next command is tried too.
    pub(super) on: bool,
}

impl Case {
    /// The row of the table that it belongs to.
    pub(super) fn kind(&self) -> &'static str {
        match &self.faults[..] {
            [one] if one.contains(".before") => "aborted before a write",
            [one] if one.contains(".after") => "aborted after a write",
            [_] => "reply to a write lost",
            _ => "aborted, and in the recovery again",
        }
    }
}

/// How it ended.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Faults that were met.
    pub(super) met: usize,
    pub(super) reverted: bool,
    /// Lines of schema or data that are not as undisturbed.
    pub(super) wrong: Vec<String>,
    /// What is wrong with the log.
    pub(super) lost: Vec<String>,
    /// What was run and what came of it.
    pub(super) story: String,
}

impl Verdict {
    pub(super) fn good(&self) -> bool {
        self.wrong.is_empty() && self.lost.is_empty()
    }

    fn tell(&mut self, line: impl fmt::Display) {
        writeln!(self.story, "{line}").expect("a string takes everything");
    }

    fn told(&mut self, args: &[&str], fault: Option<&str>, output: &Output) {
        let fault = fault
            .map(|f| format!("PGSHIFT_FAULT={f} "))
            .unwrap_or_default();
        let code = output.code.map_or("a signal".to_owned(), |c| c.to_string());
        let line = format!(
            "$ {fault}pgshift {} -> {code}\n{}",
            args.join(" "),
            output.stderr
        );
        self.tell(line);
    }

    fn compare(&mut self, what: &str, then: &Seen, now: &Seen, rows: bool) {
        self.wrong
            .extend(differing(what, &then.schema, &now.schema));
        if rows {
            self.wrong.extend(differing(what, &then.data, &now.data));
        }
    }
}

/// Lines of one text that the other has not.
fn differing(what: &str, then: &str, now: &str) -> Vec<String> {
    if then == now {
        return Vec::new();
    }
    let lack = |of: &str, from: &str, sign: char| {
        let from: std::collections::BTreeSet<&str> = from.lines().collect();
        let lines = of.lines().filter(|line| !from.contains(line));
        lines
            .map(|line| format!("{what}: {sign} {line}"))
            .collect::<Vec<_>>()
    };
    let mut lines = lack(then, now, '-');
    lines.extend(lack(now, then, '+'));
    if lines.is_empty() {
        lines.push(format!("{what}: the same lines, some more often"));
    }
    lines
}

/// Until the server has missed an aborted process, which takes a moment on a busy machine: a status
/// tells until then that it is under way.
async fn missed(project: &Project) {
    let there: bool = project
        .db
        .one("SELECT to_regclass('pgshift.lease') IS NOT NULL")
        .await;
    if there {
        let gone = "SELECT NOT EXISTS (SELECT FROM pgshift.lease l
            JOIN pg_stat_activity a ON a.pid = l.backend_pid)";
        let limit = Duration::from_secs(20);
        project.db.until(limit, "an aborted process", gone).await;
    }
}

/// The commands in backticks of what the status says is next, without `pgshift`.
fn commands(next: &str) -> Vec<String> {
    next.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|command| command.strip_prefix("pgshift "))
        .map(str::to_owned)
        .collect()
}

/// Writes that come about only where something holds a run up.
pub(super) const HEARTBEAT: &str = "heartbeat";
pub(super) const LEFTOVER: &str = "leftover";

/// A database that an older pgshift has used: its schema is upgraded, not made.
const UPGRADE: &str = "state_upgrade";
const OLDER: &str = include_str!("../../../src/store/v1.sql");

/// Longest way that a disturbed run may take.
const MOST_COMMANDS: usize = 8;

pub(super) async fn run(case: &Case, reference: &Reference) -> Verdict {
    let project = reference.project().await;
    let mut verdict = Verdict::default();
    for before in case.leg.before(reference.has_contract()) {
        let args = args(before.command(), &project.id);
        project.cli.run(&args).await.expect(0);
    }
    let there = &reference.stations[&case.leg].state;
    let state = disturbed(case, &project, &mut verdict, there).await;
    verdict.lost.extend(history::wrong_with(&project.db).await);
    let now = Seen::of(&project.db).await;
    if ["reverted", "purged"].contains(&state.as_str()) {
        let left = project.left().await;
        verdict
            .wrong
            .extend(left.iter().map(|what| format!("left: {what}")));
    }
    if state == *there {
        let station = &reference.stations[&case.leg];
        verdict.compare("at its end", &station.seen, &now, true);
        let (then, now) = (station.done.join("\n"), history::done(&project.db).await);
        verdict
            .lost
            .extend(differing("steps", &then, &now.join("\n")));
        if case.on {
            after(case, reference, &project, &mut verdict).await;
        }
    } else if state == "reverted" {
        verdict.reverted = true;
        let rows = !reference.loses_rows();
        verdict.compare("taken back", &reference.first, &now, rows);
    } else {
        verdict.wrong.push(format!("it ends {state}, not {there}"));
    }
    if !verdict.good() {
        let url = project.db.url();
        verdict.tell(format_args!("the database stays for a look: {url}"));
        std::mem::forget(project);
    }
    verdict
}

/// Runs the leg and its recovery, and gives the state in the end.
async fn disturbed(case: &Case, project: &Project, verdict: &mut Verdict, there: &str) -> String {
    let start = project.state().await;
    let id = project.id.as_str();
    let mut command = format!("{} {id}", case.leg.command());
    let first = case.faults[0].as_str();
    if first.starts_with(UPGRADE) && case.on {
        project.db.execute(OLDER).await;
    } else if first.starts_with(HEARTBEAT) {
        hold_up(project).await;
    } else if first.starts_with(LEFTOVER) {
        leave_unfinished(project, case.leg.command()).await;
        command = format!("resume {id}");
    }
    for _ in 0..MOST_COMMANDS {
        let name = command.split(' ').next().expect("a word").to_owned();
        let args = args(&name, id);
        let fault = case.faults.get(verdict.met).map(String::as_str);
        let env: Vec<(&str, &str)> = fault
            .iter()
            .map(|fault| ("PGSHIFT_FAULT", *fault))
            .collect();
        let output = project.cli.spawn_with(&env, &args).wait().await;
        verdict.told(&args, fault, &output);
        if let Some(fault) = fault {
            let lives_on = fault.contains(".unlearned");
            let met = if lives_on {
                output.stderr.contains("(fault point ")
            } else {
                output.code.is_none()
            };
            // One that was not met was not on this way; the next process has the next.
            verdict.met += 1;
            if !met {
                verdict.tell("(not met)");
                // Later passings depend on the sizes of chunks, and second faults on the first.
                if case.faults.len() == 1 && fault.ends_with(":1") {
                    verdict.wrong.push(format!("{fault} was not met"));
                }
            }
        } else if output.code != Some(0) {
            verdict
                .wrong
                .push(format!("{name} failed: {:?}", output.code));
        }
        let state = project.state().await;
        if output.code != Some(0) && output.stderr.contains("nothing was changed") && state != start
        {
            verdict.lost.push(format!(
                "it said that nothing was changed, and it is {state}"
            ));
        }
        let unknown = output.stderr.contains("fault point run_open");
        if unknown && output.code == Some(7) && !output.stderr.contains("`pgshift status`") {
            verdict
                .lost
                .push("it did not say how to learn what came of it".to_owned());
        }
        let all_met = verdict.met >= case.faults.len();
        if state == there || (state == "reverted" && start != "reverted" && name != "apply") {
            return state;
        }
        if output.code.is_none() {
            missed(project).await;
        }
        let status = project.cli.run(&["status", id, "--format", "json"]).await;
        let next = status.json()["migrations"][0]["next"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        verdict.tell(format_args!("{state}; next: {next}"));
        let next = commands(&next);
        let of = |name: &str| next.iter().find(|c| c.starts_with(name)).cloned();
        let back = of("revert").filter(|_| case.way == Way::Back && state != start);
        let on = of("resume").or_else(|| of(case.leg.command()));
        let Some(next) = back.or(on) else {
            verdict
                .wrong
                .push(format!("{state}, and the status tells of no way on"));
            return state;
        };
        if all_met && output.code == Some(0) {
            verdict
                .wrong
                .push(format!("{name} was done, and it is {state}"));
        }
        command = next;
    }
    verdict
        .wrong
        .push(format!("not there after {MOST_COMMANDS} commands"));
    project.state().await
}

/// Locks every table and view against writes for longer than it takes to the first sign of life.
async fn hold_up(project: &Project) {
    let tables = "SELECT oid::regclass::text FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')";
    let tables: Vec<String> = project.db.rows(tables).await;
    let client = project.db.client().await;
    let lock = format!("BEGIN; LOCK TABLE {} IN SHARE MODE", tables.join(", "));
    client.batch_execute(&lock).await.expect(&lock);
    let watch = project.db.client().await;
    tokio::spawn(async move {
        // From when a runner is there: on a busy machine that takes a while.
        let (begun, mut there) = (Instant::now(), false);
        while !there && begun.elapsed() < Duration::from_secs(15) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let row = watch.query_one("SELECT EXISTS (SELECT FROM pgshift.lease)", &[]);
            there = row.await.is_ok_and(|row| row.get(0));
        }
        tokio::time::sleep(Duration::from_millis(1_800)).await;
        let end = client.batch_execute("COMMIT").await;
        end.expect("the end of the lock");
    });
}

/// Kills a run in an index build, which an old snapshot keeps from its end.
async fn leave_unfinished(project: &Project, command: &str) {
    let snapshot = project.db.client().await;
    let old = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class";
    snapshot.batch_execute(old).await.expect(old);
    let running = project.cli.spawn(&args(command, &project.id));
    let begun = Instant::now();
    let unfinished = "SELECT EXISTS (SELECT FROM pg_index WHERE NOT indisvalid)";
    while !project.db.one::<bool>(unfinished).await {
        assert!(begun.elapsed() < Duration::from_secs(30), "no build");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.kill().await;
    // The server misses its client within a second or two.
    let builds = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'active'
        AND datname = current_database() AND query ~ '^CREATE .*INDEX')";
    while project.db.one::<bool>(builds).await {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "the build goes on"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(project.db.one::<bool>(unfinished).await, "it was finished");
}

/// What is right to see must be right to go on with: back, or on.
async fn after(case: &Case, reference: &Reference, project: &Project, verdict: &mut Verdict) {
    let leg = match case.leg {
        Leg::Apply if reference.has_contract() => Leg::RevertReady,
        Leg::Apply | Leg::Contract => Leg::RevertComplete,
        Leg::RevertReady | Leg::RevertComplete => Leg::Apply,
        Leg::Purge => return,
    };
    let args = args(leg.command(), &project.id);
    let output = project.cli.run(&args).await;
    verdict.told(&args, None, &output);
    if output.code != Some(0) {
        verdict.wrong.push(format!("then {} fails", leg.command()));
        return;
    }
    let now = Seen::of(&project.db).await;
    let rows = leg != Leg::Apply || !reference.loses_rows();
    verdict.compare(leg.command(), &reference.stations[&leg].seen, &now, rows);
    verdict.lost.extend(history::wrong_with(&project.db).await);
}
