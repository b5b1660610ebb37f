//! A migration on a real server beside its model: each command is run, disturbed or not, and what
//! came of it is held against what the model allows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::machine::{Command, Machine, State};
use super::rows::{Application, Rows, Version, setup};
use crate::lifecycle::Project;
use crate::points::history;
use crate::support::{Output, Running};

/// A life that nothing disturbs, by state: what its schema is at rest.
pub(super) type Schemas = BTreeMap<State, String>;

/// A migration of a life.
#[derive(Debug, Clone, Copy)]
pub(super) struct File {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    pub(super) contract: bool,
}

/// What happens to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disturbance {
    Nothing,
    /// SIGKILL after so many milliseconds.
    Kill(u64),
    /// Ctrl-C.
    Interrupt(u64),
    /// Its sessions are ended by the server.
    Terminate(u64),
    /// Others try their luck while it runs slowly.
    Beside,
    /// Another command begins at the same time.
    Together(Command),
}

/// What the machine may take for a thing that is certain to come.
const PATIENCE: Duration = Duration::from_mins(1);

/// A lock of the test, and a signal that holds a run for as long as it is held.
const HOLD: &str = "SELECT pg_advisory_lock(20261123, 1)";
const LET_GO: &str = "SELECT pg_advisory_unlock(20261123, 1)";
const HELD: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 \
    AND classid = 20261123 \
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) >= 1";

pub(super) struct World {
    pub(super) project: Project,
    file: File,
    pub(super) machine: Machine,
    rows: Rows,
    rng: Rng,
    /// Runs that were held while others tried theirs.
    pub(super) overlaps: usize,
    /// What was run and what came of it.
    pub(super) story: String,
    /// What is not as it must be.
    pub(super) wrong: Vec<String>,
}

impl World {
    pub(super) async fn new(file: File, rng: Rng) -> Self {
        Self {
            project: Project::new(file.name, &setup(), file.text).await,
            file,
            machine: Machine::new(file.contract),
            rows: Rows::new(),
            rng,
            overlaps: 0,
            story: String::new(),
            wrong: Vec::new(),
        }
    }

    /// Its schemas at rest.
    pub(super) async fn schemas(file: File) -> Schemas {
        let mut world = Self::new(file, Rng::with_seed(0)).await;
        let mut schemas = Schemas::new();
        let life = [
            Command::Status,
            Command::Apply,
            Command::Revert,
            Command::Apply,
            Command::Contract,
            Command::Purge,
        ];
        for command in life {
            world.run(command, Disturbance::Nothing).await;
            let state = world.machine.state;
            let schema = world.project.db.schema().await;
            let before = schemas.insert(state, schema.clone());
            assert!(before.is_none_or(|before| before == schema), "{state:?}");
        }
        assert!(
            world.wrong.is_empty(),
            "{:#?}\n{}",
            world.wrong,
            world.story
        );
        schemas
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.story, "{line}").expect("a string takes everything");
    }

    fn args(&self, command: Command) -> Vec<&str> {
        let id = self.project.id.as_str();
        let words: &[&str] = match command {
            Command::Apply => &["--yes", "apply", id],
            Command::ApplyThrough => &["--yes", "apply", id, "--through", "contract"],
            Command::Contract => &["--yes", "contract", id],
            Command::Revert => &["--yes", "revert", id],
            Command::RevertToReady => &["--yes", "revert", id, "--to", "ready"],
            Command::Purge => &["--yes", "purge", id],
            Command::PurgeUnsaid => &["purge", id],
            Command::Resume => &["--yes", "resume", id],
            Command::Pause => &["pause", id],
            Command::Verify => &["verify", id],
            Command::Status => &["status", id, "--format", "json"],
            Command::Log => &["log", "--verify"],
            Command::Edit => &["status", id],
        };
        words.to_vec()
    }

    fn spawn(&self, command: Command, more: &[&str]) -> Running {
        let mut args = self.args(command);
        if command.is_run() {
            args.extend(more);
        }
        self.project.cli.spawn(&args)
    }

    fn told(&mut self, command: Command, how: &str, output: &Output) {
        let code = output.code.map_or("a signal".to_owned(), |c| c.to_string());
        // Of one that was done the end is enough.
        let lines: Vec<&str> = output.stderr.lines().collect();
        let skip = if output.code == Some(0) { 1 } else { 12 };
        let shown = lines[lines.len().saturating_sub(skip)..].join("\n  ");
        self.tell(&format!("$ {command:?}{how} -> {code}\n  {shown}"));
    }

    /// A word, or a run that nothing disturbs: the exit code must be one of these.
    async fn plain(&mut self, command: Command, codes: &[i32], how: &str) -> Output {
        let output = self.spawn(command, &["--duty", "1"]).wait().await;
        self.told(command, how, &output);
        self.judge(command, codes, &output);
        if command == Command::Edit {
            let file = (self.machine.file + 1) % 2;
            let text = format!(
                "{}{}",
                self.file.text,
                ["", "-- edited\n"][usize::from(file)]
            );
            self.project.cli.migration(&self.project.id, &text);
        }
        if codes == [0] {
            self.machine.said(command);
        }
        output
    }

    fn judge(&mut self, command: Command, codes: &[i32], output: &Output) {
        if !output.code.is_some_and(|code| codes.contains(&code)) {
            let state = self.machine.state;
            self.wrong.push(format!(
                "{command:?} in {state:?} gave {:?}, not {codes:?}",
                output.code
            ));
        }
        let refused = output.code.is_some_and(|code| [2, 3].contains(&code));
        if refused && command.is_run() && !output.stderr.contains("nothing was changed") {
            self.wrong.push(format!(
                "{command:?} was refused, and does not say what was changed"
            ));
        }
    }

    /// One command with all that belongs to it.
    pub(super) async fn run(&mut self, command: Command, disturbance: Disturbance) {
        let outcome = self.machine.outcome(command);
        let before = self.machine.state;
        self.tell(&format!("-- {before:?}: {command:?} {disturbance:?}"));
        let client = self.project.db.client().await;
        let mut versions = Version::through(&self.machine, &outcome.path);
        if let Disturbance::Together(other) = disturbance {
            for (machine, path) in self.machine.both([command, other]).ways {
                versions.retain(|v| Version::through(&machine, &path).contains(v));
            }
        }
        let application = if versions.is_empty() {
            None
        } else {
            let version = versions[self.rng.usize(..versions.len())];
            let (rows, rng) = (self.rows.clone(), self.rng.fork());
            Some(Application::start(client, rows, version, rng))
        };
        match disturbance {
            _ if self.machine.may_hold(command) => self.held(command, &outcome.path).await,
            // The one of them that has the run would wait for the end of the pause.
            Disturbance::Together(_) if self.machine.paused => {
                self.disturbed(command, Disturbance::Kill(100), &outcome.path)
                    .await;
            }
            Disturbance::Together(other) => self.together(command, other).await,
            Disturbance::Beside if outcome.codes == [0] => {
                self.beside(command, &outcome.path).await;
            }
            // A command that is refused has nothing beside it.
            Disturbance::Beside | Disturbance::Nothing => {
                self.plain(command, outcome.codes, "").await;
                if outcome.codes == [0] {
                    self.ended(command, &outcome.path);
                }
            }
            _ => self.disturbed(command, disturbance, &outcome.path).await,
        }
        if let Some(application) = application {
            let (rows, failed) = application.stop().await;
            self.rows = rows;
            let failed = failed.iter().map(|f| format!("the application: {f}"));
            self.wrong.extend(failed);
        }
    }

    /// It went its whole way.
    fn ended(&mut self, command: Command, path: &[State]) {
        self.machine.reach(path, *path.last().expect("a state"));
        if command == Command::Resume {
            self.machine.paused = false;
        }
    }

    /// It went a part of its way: as far as the server says.
    async fn came_to(&mut self, command: Command, path: &[State]) {
        self.quiet().await;
        let state = self.state().await;
        if path.contains(&state) {
            self.machine.reach(path, state);
        } else {
            self.wrong.push(format!(
                "{command:?} came to {state:?}, not one of {path:?}"
            ));
            self.machine.state = state;
        }
        // A resume ends the pause first, and may not have come to that.
        if command == Command::Resume && self.machine.paused {
            let sql = "SELECT EXISTS (SELECT FROM pgshift.override WHERE key = 'pause')";
            self.machine.paused &= self.project.db.one::<bool>(sql).await;
        }
    }

    /// Nobody of pgshift is at work at the server any more.
    async fn quiet(&self) {
        let none = "SELECT count(*) = 0 FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'pgshift'";
        self.project
            .db
            .until(PATIENCE, "the end of its sessions", none)
            .await;
    }

    async fn state(&self) -> State {
        let name = self.project.state().await;
        let is_uncontract = name == "reverting"
            && self
                .project
                .db
                .one::<bool>("SELECT EXISTS (SELECT FROM pgshift.run WHERE state = 'running' AND kind = 'uncontract')")
                .await;
        if is_uncontract {
            return State::Uncontracting;
        }
        let state = State::ALL.into_iter().find(|state| state.name() == name);
        state.unwrap_or_else(|| panic!("the state {name}"))
    }

    async fn disturbed(&mut self, command: Command, disturbance: Disturbance, path: &[State]) {
        let duty = ["0.2", "0.5", "1"][self.rng.usize(..3)];
        let running = self.spawn(command, &["--duty", duty]);
        let (Disturbance::Kill(ms) | Disturbance::Interrupt(ms) | Disturbance::Terminate(ms)) =
            disturbance
        else {
            return;
        };
        let mut running = running;
        let until = Instant::now() + Duration::from_millis(ms);
        while Instant::now() < until && running.running() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let all = self.machine.outcome(command).codes;
        let (output, codes): (Output, Vec<i32>) = match disturbance {
            Disturbance::Kill(_) => (running.kill().await, Vec::new()),
            Disturbance::Interrupt(_) => {
                if running.running() {
                    running.interrupt();
                }
                // Before it listens, the signal is the system's: no code.
                (running.wait().await, vec![5])
            }
            _ => {
                let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE application_name = 'pgshift' AND datname = current_database()";
                let _: Vec<bool> = self.project.db.rows(end).await;
                (running.wait().await, vec![7])
            }
        };
        self.told(command, &format!(" ({disturbance:?})"), &output);
        if output.code.is_some() {
            let codes: Vec<i32> = codes.into_iter().chain(all.iter().copied()).collect();
            self.judge(command, &codes, &output);
        }
        if output.code == Some(0) && all == [0] {
            self.ended(command, path);
        } else {
            self.came_to(command, path).await;
        }
    }

    /// A command of a paused migration: it ends by itself, or waits until a resume.
    async fn held(&mut self, command: Command, path: &[State]) {
        let mut running = self.spawn(command, &["--duty", "1"]);
        let begun = Instant::now();
        while running.running() && begun.elapsed() < Duration::from_millis(2_500) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let codes = self.machine.outcome(command).codes;
        if running.running() && command == Command::Verify {
            // It is no runner, whose pause a resume would end.
            running.interrupt();
            let output = running.wait().await;
            self.told(command, " (paused, Ctrl-C)", &output);
            // Before it listens, the signal is the system's: no code.
            if output.code.is_some() {
                self.judge(command, &[5], &output);
            }
            return;
        }
        if self.waits(&mut running, "paused").await {
            self.plain(Command::Resume, &[0], " (ends the pause)").await;
            self.machine.paused = false;
        }
        let output = running.wait().await;
        self.told(command, " (paused)", &output);
        self.judge(command, codes, &output);
        if codes == [0] {
            self.ended(command, path);
        }
    }

    /// True as soon as the runner that lives says that it waits for this; false where it has ended
    /// without. What a dead one said is not looked at.
    async fn waits(&self, running: &mut Running, reason: &str) -> bool {
        let used = "SELECT to_regclass('pgshift.lease') IS NOT NULL";
        let sql = format!(
            "SELECT EXISTS (
                 SELECT FROM pgshift.lease l JOIN pgshift.run r ON r.id = l.run_id
                 JOIN pg_stat_activity a ON a.pid = l.backend_pid
                 JOIN pg_locks k ON k.pid = a.pid AND k.locktype = 'advisory' AND k.granted
                 WHERE r.state = 'running' AND a.datname = current_database()
                   AND a.backend_start < l.heartbeat_at AND l.epoch = r.epoch
                   AND l.progress->>'waiting' LIKE '%{reason}%')"
        );
        let begun = Instant::now();
        while running.running() {
            assert!(
                begun.elapsed() < PATIENCE,
                "neither ends nor waits: {reason}"
            );
            if self.project.db.one::<bool>(used).await && self.project.db.one::<bool>(&sql).await {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// A run that cannot come to its end before others have tried theirs: it is held by a lock of
    /// the test.
    async fn beside(&mut self, command: Command, path: &[State]) {
        // What it meets is as it is now.
        let codes = self.machine.outcome(command).codes;
        let holder = self.project.db.client().await;
        holder.batch_execute(HOLD).await.expect(HOLD);
        // Only an apply asks signals all along its way; that of a file without a backfill is not
        // held, and neither is one that has its backfill and its verify behind it.
        let hold: &[&str] = if path.contains(&State::Applying) {
            &["--duty", "1", "--signal", HELD]
        } else {
            &["--duty", "1"]
        };
        let mut running = self.spawn(command, hold);
        let under_way =
            path.contains(&State::Applying) && self.waits(&mut running, "signal 1").await;
        if under_way {
            self.overlaps += 1;
            self.machine.reach(path, State::Applying);
            for _ in 0..self.rng.usize(1..4) {
                let others = [&Command::RUNS[..], &Command::WORDS[..]].concat();
                let other = others[self.rng.usize(..others.len())];
                // A verify would wait for the end of the pause.
                if other == Command::Verify && self.machine.paused {
                    continue;
                }
                let allowed = self.machine.beside(other);
                let output = self.plain(other, allowed, " (beside it)").await;
                if other == Command::Resume && output.code == Some(0) {
                    self.machine.paused = false;
                }
                let state = self.state().await;
                if state != State::Applying {
                    self.wrong
                        .push(format!("{other:?} beside a run made it {state:?}"));
                }
            }
            if !running.running() {
                self.wrong.push("others have ended a run".to_owned());
            }
        } else {
            holder.batch_execute(LET_GO).await.expect(LET_GO);
        }
        let output = match self.rng.u8(0..3) {
            0 => running.kill().await,
            1 => {
                if running.running() {
                    running.interrupt();
                }
                running.wait().await
            }
            _ if self.machine.paused => running.kill().await,
            _ => {
                drop(holder);
                running.wait().await
            }
        };
        self.told(command, " (held)", &output);
        match output.code {
            Some(0) if codes == [0] => self.ended(command, path),
            Some(code) if code != 5 && !codes.contains(&code) => {
                self.judge(command, codes, &output);
            }
            _ => self.came_to(command, path).await,
        }
    }

    /// Two that begin at once: which of them is the first is chance, and read from what they gave.
    async fn together(&mut self, one: Command, two: Command) {
        let a = self.spawn(one, &["--duty", "1"]);
        let b = self.spawn(two, &["--duty", "1"]);
        let (a, b) = (a.wait().await, b.wait().await);
        self.told(one, " (together, the one)", &a);
        self.told(two, " (together, the other)", &b);
        self.quiet().await;
        let now = self.state().await;
        // The first that was so: all of them agree on what counts from here on.
        let codes = (a.code, b.code);
        let both = self.machine.both([one, two]);
        let was = both
            .ends
            .into_iter()
            .find(|([one, two], after)| codes == (Some(*one), Some(*two)) && after.state == now);
        if let Some((_, machine)) = was {
            self.machine = machine;
        } else {
            self.wrong.push(format!(
                "{one:?} and {two:?} at once in {:?} gave {codes:?} and came to {now:?}",
                self.machine.state
            ));
            self.machine.state = now;
        }
    }

    /// What is there must be what the model says.
    pub(super) async fn check(&mut self, schemas: &Schemas) {
        self.quiet().await;
        let now = self.state().await;
        let then = self.machine.state;
        if now != then {
            self.wrong.push(format!("it is {now:?}, not {then:?}"));
        }
        let output = self.spawn(Command::Status, &[]).wait().await;
        let said = output.json()["migrations"][0].clone();
        if said["state"] != then.name() {
            self.wrong
                .push(format!("the status says {said}, not {then:?}"));
        }
        self.check_next(said["next"].as_str().unwrap_or_default());
        self.wrong
            .extend(self.rows.wrong(&self.project.db, &self.machine).await);
        if let Some(schema) = schemas.get(if then == State::Reverted {
            &State::Pending
        } else {
            &then
        }) && *schema != self.project.db.schema().await
        {
            self.wrong
                .push(format!("the schema is not that of {then:?}"));
        }
        if [State::Reverted, State::Purged].contains(&then) {
            let left = self.project.left().await;
            self.wrong
                .extend(left.iter().map(|what| format!("left: {what}")));
        }
        let used = "SELECT to_regclass('pgshift.event') IS NOT NULL";
        if self.project.db.one::<bool>(used).await {
            let lost = history::wrong_with(&self.project.db).await;
            self.wrong.extend(lost);
        }
    }

    /// What the status says to do next is possible.
    fn check_next(&mut self, next: &str) {
        let named: Vec<&str> = next
            .split('`')
            .skip(1)
            .step_by(2)
            .filter_map(|command| command.strip_prefix("pgshift ")?.split(' ').next())
            .collect();
        for name in &named {
            let command = match *name {
                "apply" => Command::Apply,
                "contract" => Command::Contract,
                "revert" => Command::Revert,
                "purge" => Command::Purge,
                "resume" => Command::Resume,
                _ => continue,
            };
            let outcome = self.machine.outcome(command);
            if outcome.codes != [0] && !self.machine.edited() {
                let state = self.machine.state;
                self.wrong.push(format!(
                    "{state:?}: the status says {name}, which is refused"
                ));
            }
        }
        if self.machine.state.in_motion() && !named.contains(&"resume") {
            self.wrong
                .push(format!("the status does not say resume: {next}"));
        }
    }
}
