//! The scenes of the demo, one method each.

use std::fs;
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::child::{Output, Program, Running};
use super::cluster::{Cluster, sql};
use super::monitor::Monitor;
use super::report::{Application, Backfill, Report, Standby, WrongRows};
use super::run::{BASELINE, DemoOptions, Narrator};
use super::server::{connect, io};
use super::shop::{self, DATABASE, Holds, MIGRATION, MIGRATION_SQL};
use super::traffic::{Release, Traffic};
use super::watch::{Look, Watch};
use crate::error::{Error, Result};
use crate::report::text::{count, counted, percent};

/// Connections of the application.
const SESSIONS: usize = 4;
/// Share of the backfill at which its runner is killed.
const KILL_AT: f64 = 0.4;
/// Below so many rows everything goes quicker.
const SMALL: i64 = 200_000;
/// Progress is told this often.
const TELL: Duration = Duration::from_secs(5);
/// Lines of a plan that are shown.
const PLAN_LINES: usize = 40;
/// Lines of a failed run's messages that are shown.
const MESSAGE_LINES: usize = 60;

/// The stage: servers, the application, and what is known so far.
pub(super) struct Scene<'a> {
    options: &'a DemoOptions,
    narrator: &'a Narrator<'a>,
    program: Program,
    admin: Client,
    watch: Option<Watch>,
    url: String,
    traffic: Traffic,
    monitor: Monitor,
    columns: Vec<String>,
    at_kill: Look,
    killed: bool,
    left_at_kill: i64,
    wrong: WrongRows,
}

impl<'a> Scene<'a> {
    /// Loads the table and starts the application.
    pub(super) async fn set(
        cluster: &Cluster,
        options: &'a DemoOptions,
        narrator: &'a Narrator<'a>,
    ) -> Result<Self> {
        let create = format!("CREATE DATABASE {DATABASE}");
        let first = connect(&cluster.url("postgres")).await?;
        first
            .batch_execute(&create)
            .await
            .map_err(|e| sql(&create, e))?;
        let url = cluster.url(DATABASE);
        let admin = connect(&url).await?;
        shop::load(&admin, options.rows).await?;
        let columns = shop::columns(&admin).await?;
        cluster.catch_up(0).await?;

        // Beside the data, so that it goes with them.
        let dir = cluster.data_dir().with_file_name("project");
        fs::create_dir(&dir).map_err(|e| io(&dir, e))?;
        let program = Program::here(&dir, &url)?;

        narrator.say(&format!(
            "the application starts: release 1, {} over {SESSIONS} connections; it reads and \
             writes `total numeric(10,2)`",
            per_second(options.rate)
        ));
        let monitor = Monitor::start(&url).await?;
        let traffic = Traffic::start(&url, options.rows, SESSIONS, options.rate, options.seed);
        traffic.deploy(Release::Old, SESSIONS).await?;
        Ok(Self {
            options,
            narrator,
            program,
            admin,
            watch: None,
            url,
            traffic,
            monitor,
            columns,
            at_kill: Look::default(),
            killed: false,
            left_at_kill: 0,
            wrong: WrongRows::default(),
        })
    }

    fn small(&self) -> bool {
        self.options.rows < SMALL
    }

    fn say(&self, text: &str) {
        self.narrator.say(text);
    }

    /// Lets the application work for a while; a tenth of it for a small table.
    async fn wait(&self, seconds: f64) {
        let scale = if self.small() { 0.1 } else { 1.0 };
        tokio::time::sleep(Duration::from_secs_f64(seconds * scale)).await;
    }

    async fn pgshift(&self, args: &[&str]) -> Result<Output> {
        self.say(&format!("$ pgshift {}", args.join(" ")));
        let run = self.program.start(args)?;
        self.success(run).await
    }

    /// Waits for a run; where it fails, shows what it said.
    async fn success(&self, run: Running) -> Result<Output> {
        let output = run.end().await?;
        if let Some(error) = output.failure() {
            self.narrator.show(&output.stderr, MESSAGE_LINES);
            return Err(error);
        }
        Ok(output)
    }

    /// The application alone.
    pub(super) async fn baseline(&mut self) -> Result<()> {
        // Prepared statements and caches first.
        self.wait(2.0).await;
        self.say("nothing else happens for a while, to compare with later");
        self.traffic.window(BASELINE);
        self.wait(10.0).await;
        Ok(())
    }

    /// What would be done.
    pub(super) async fn plan(&mut self) -> Result<()> {
        self.traffic.window("plan");
        self.pgshift(&["init"]).await?;
        let file = self
            .program
            .dir()
            .join("migrations")
            .join(MIGRATION)
            .with_extension("sql");
        fs::write(&file, MIGRATION_SQL).map_err(|e| io(&file, e))?;
        self.say(&format!(
            "a migration, migrations/{MIGRATION}.sql: from `total` to `total_cents bigint`"
        ));
        self.narrator.show(MIGRATION_SQL, 20);
        let plan = self.pgshift(&["plan", MIGRATION]).await?;
        self.narrator.show(&plan.stdout, PLAN_LINES);
        self.watch = Some(Watch::start(&self.url).await?);
        Ok(())
    }

    /// Applies it, and kills the runner on the way.
    pub(super) async fn apply_and_kill(&mut self) -> Result<()> {
        let mut args = vec!["apply", MIGRATION, "--yes"];
        if self.small() {
            // Of chunks of the default size a small table has too few for anything to happen between them.
            args.extend(["--chunk-target", "2ms"]);
        }
        self.say(&format!(
            "$ pgshift {}    (the application works on)",
            args.join(" ")
        ));
        let mut run = self.program.start(&args)?;
        self.follow(&mut run, |look| look.fraction() >= KILL_AT)
            .await?;
        self.killed = run.kill().await;
        self.traffic.window("killed");
        // What was on its way to the server is committed or not when its session has ended.
        let deadline = Instant::now() + Duration::from_secs(15);
        let watch = self.watch()?;
        while watch.runners().await? > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.at_kill = self.watch()?.look().await?;
        let left = "SELECT count(*) FROM orders WHERE total_cents IS NULL";
        self.left_at_kill = self
            .admin
            .query_one(left, &[])
            .await
            .map_err(|e| sql(left, e))?
            .get(0);
        self.say(&format!(
            "kill -9: the runner is gone at {} of the backfill; {} in {} are committed, {} not",
            percent(self.at_kill.fraction()),
            counted(self.at_kill.rows, "row"),
            counted(self.at_kill.chunks, "chunk"),
            count(self.left_at_kill),
        ));
        let status = self.pgshift(&["status", MIGRATION]).await?;
        self.narrator.show(&status.stdout, 20);
        self.say("the application works on; a trigger keeps what it writes in step");
        self.wait(2.0).await;
        Ok(())
    }

    /// Goes on to READY.
    pub(super) async fn resume(&mut self) -> Result<()> {
        self.follow_to_the_end(&["resume", MIGRATION, "--yes"])
            .await?;
        self.traffic.window("ready");
        let look = self.watch()?.look().await?;
        self.say(&format!(
            "READY: {} in {}, from the last committed chunk on",
            counted(look.rows - self.at_kill.rows, "more row"),
            counted(look.chunks - self.at_kill.chunks, "chunk"),
        ));
        let status = self.pgshift(&["status", MIGRATION]).await?;
        self.narrator.show(&status.stdout, 20);
        self.wrong.ready = self.check(Holds::Both, "`total` and `total_cents`").await?;
        Ok(())
    }

    /// Both releases, then the new one alone.
    pub(super) async fn deploy_new(&mut self) -> Result<()> {
        self.traffic.window("both releases");
        self.say(
            "deploying release 2 on half of the connections; it reads and writes `total_cents` only",
        );
        self.traffic.deploy(Release::New, SESSIONS / 2).await?;
        self.wait(4.0).await;
        self.wrong.both_releases = self.check(Holds::Both, "`total` and `total_cents`").await?;
        self.say("deploying release 2 on all connections");
        self.traffic
            .deploy(Release::New, self.traffic.sessions())
            .await?;
        Ok(())
    }

    /// The old column goes.
    pub(super) async fn contract(&mut self) -> Result<()> {
        let args = ["contract", MIGRATION, "--yes"];
        self.follow_to_the_end(&args).await?;
        self.say("`total` is gone for every reader, and kept aside until `pgshift purge`");
        self.traffic.window("new release");
        self.wait(4.0).await;
        self.wrong.contract = self.check(Holds::New, "`total_cents`").await?;
        Ok(())
    }

    /// All the way back, without a pause of the application.
    pub(super) async fn revert(&mut self) -> Result<()> {
        self.say("release 2 turns out to be bad: back to READY, where release 1 can run again");
        let args = ["revert", MIGRATION, "--to", "ready", "--yes"];
        self.follow_to_the_end(&args).await?;
        self.traffic.window("both releases");
        self.say("deploying release 1 again, first on half of the connections");
        self.traffic.deploy(Release::Old, SESSIONS / 2).await?;
        self.wait(3.0).await;
        self.traffic
            .deploy(Release::Old, self.traffic.sessions())
            .await?;
        let args = ["revert", MIGRATION, "--yes"];
        self.follow_to_the_end(&args).await?;
        self.traffic.window("old release again");
        self.wait(3.0).await;
        self.wrong.revert = self
            .check(Holds::Old, "`total`, with what release 2 wrote")
            .await?;
        Ok(())
    }

    /// The reckoning.
    pub(super) async fn end(mut self, postgres: &str) -> Result<Report> {
        let after = shop::columns(&self.admin).await?;
        let schema_restored = after == self.columns;
        self.say(if schema_restored {
            "the table has the columns, constraints and triggers that it began with"
        } else {
            "the table is NOT what it was at the beginning"
        });
        let watch = self.watch()?;
        let look = watch.look().await?;
        let chunks_redone = watch.redone();
        let seen = self.monitor.stop().await?;
        let met = self.traffic.stop().await;
        let longest = met.windows.iter().map(|w| w.max_ms).fold(0.0, f64::max);
        Ok(Report {
            postgres: postgres.to_owned(),
            rows_loaded: self.options.rows,
            elapsed_s: tenths(self.narrator.elapsed().as_secs_f64()),
            application: Application {
                statements: met.done,
                errors: met.errors,
                wrong_reads: met.wrong_reads,
                first_errors: met.texts,
                longest_wait_ms: longest,
                longest_lock_wait_ms: tenths(seen.lock_wait_ms),
                windows: met.windows,
            },
            backfill: Backfill {
                rows: look.rows,
                chunks: look.chunks,
                chunks_redone,
                killed_at: self.killed.then(|| self.at_kill.fraction()),
                rows_left_at_kill: self.left_at_kill,
                rows_after_kill: look.rows - self.at_kill.rows,
                worked_s: tenths(look.worked_ms / 1000.0),
            },
            wrong_rows: self.wrong,
            schema_restored,
            standby: Standby {
                max_lag_ms: tenths(seen.lag_ms),
                max_lag_bytes: seen.lag_bytes,
            },
        })
    }

    fn watch(&mut self) -> Result<&mut Watch> {
        self.watch
            .as_mut()
            .ok_or_else(|| Error::internal("the state schema is not watched yet"))
    }

    async fn follow_to_the_end(&mut self, args: &[&str]) -> Result<()> {
        self.say(&format!("$ pgshift {}", args.join(" ")));
        let mut run = self.program.start(args)?;
        self.follow(&mut run, |_| false).await?;
        self.success(run).await?;
        Ok(())
    }

    /// Follows a run until it ends or `enough`: names the windows of latency after its phases,
    /// and tells how it gets on.
    async fn follow(&mut self, run: &mut Running, enough: impl Fn(&Look) -> bool) -> Result<()> {
        let every = Duration::from_millis(if self.small() { 3 } else { 25 });
        let mut told = Instant::now();
        let mut phase: Option<String> = None;
        while run.running() {
            let look = self.watch()?.look().await?;
            if look.phase.is_some() && look.phase != phase {
                phase.clone_from(&look.phase);
                self.traffic.window(phase.as_deref().unwrap_or_default());
            }
            if enough(&look) {
                return Ok(());
            }
            if phase.as_deref() == Some("backfill") && told.elapsed() >= TELL {
                told = Instant::now();
                self.say(&self.progress(&look));
            }
            tokio::time::sleep(every).await;
        }
        Ok(())
    }

    fn progress(&self, look: &Look) -> String {
        let met = self.traffic.met();
        let latency = met
            .windows
            .iter()
            .find(|w| w.name == "backfill")
            .map_or_else(String::new, |w| {
                format!("; p99 {:.1} ms, longest {:.0} ms", w.p99_ms, w.max_ms)
            });
        format!(
            "  backfill {}: {} in {}; application: {}, {}{latency}",
            percent(look.fraction()),
            counted(look.rows, "row"),
            counted(look.chunks, "chunk"),
            counted(met.done, "statement"),
            counted(met.errors, "error"),
        )
    }

    /// Compares every row with what was loaded or last written, by a query of our own.
    async fn check(&self, holds: Holds, what: &str) -> Result<i64> {
        let before = self.traffic.current_window();
        self.traffic.window("check");
        let client = connect(&self.url).await?;
        let memory = self.traffic.freeze(&client).await?;
        let wrong = shop::wrong_rows(&client, self.options.rows, &memory, holds).await?;
        self.traffic.window(&before);
        self.say(&format!(
            "every row compared with what the application wrote ({what}; {} written): {} wrong",
            counted(i64::try_from(memory.len()).unwrap_or(i64::MAX), "order"),
            count(wrong)
        ));
        Ok(wrong)
    }
}

fn per_second(rate: u32) -> String {
    format!("{} a second", counted(i64::from(rate), "statement"))
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
