//! The rounds: every contender has one turn in each, on a fresh copy of the table.

use std::time::{Duration, Instant};

use pgshift::{Error, Result};

use crate::args::Args;
use crate::contenders::{self, CONTENDERS, Contender, Way};
use crate::figures::{Figure, L0, Named, Results};
use crate::load::{self, Load};
use crate::program::Program;
use crate::server::{Content, Server, Turn};
use crate::tables::{self, APPLICATION, TABLES, Table};
use crate::{procs, stats, ways};

/// What the application has before its times count.
const SETTLE: Duration = Duration::from_millis(1500);

/// Rounds of the table beside which the application works are no more than this.
const APPLICATION_ROUNDS: usize = 3;

/// What every turn is given.
struct Bench<'a> {
    args: &'a Args,
    server: Server,
    program: Program,
    begun: Instant,
}

/// The tables of these names, in order.
fn chosen(names: &[&str]) -> Result<Vec<Table>> {
    let all = TABLES.iter().chain([&APPLICATION]);
    if let Some(unknown) = names.iter().find(|n| !all.clone().any(|t| t.name == **n)) {
        let known: Vec<&str> = all.map(|t| t.name).collect();
        return Err(Error::usage(format!("there is no table {unknown}"))
            .hint(format!("tables: {}", known.join(", "))));
    }
    Ok(all.filter(|t| names.contains(&t.name)).copied().collect())
}

fn check_contenders(only: &[String]) -> Result<()> {
    let unknown = only
        .iter()
        .find(|n| !CONTENDERS.iter().any(|c| c.name == n.as_str()));
    let Some(unknown) = unknown else {
        return Ok(());
    };
    let known: Vec<&str> = CONTENDERS.iter().map(|c| c.name).collect();
    Err(Error::usage(format!("there is no contender {unknown}"))
        .hint(format!("contenders: {}", known.join(", "))))
}

/// Measures; `save` takes what is known after each table, so that a run that is ended before its
/// end leaves its figures.
pub(crate) async fn run(args: &Args, save: impl Fn(&Results) -> Result<()>) -> Result<Results> {
    check_contenders(&args.only)?;
    let wanted = if args.memory {
        vec![TABLES[0]]
    } else {
        chosen(&args.tables())?
    };
    // Before there is a server of ours.
    let machine = procs::machine();
    let options = CONTENDERS.iter().filter_map(|c| match c.way {
        Way::Pgshift(pgshift) => Some(pgshift.options),
        _ => None,
    });
    let mut options: Vec<&'static str> = options.flatten().copied().collect();
    options.sort_unstable();
    options.dedup();
    let bench = Bench {
        program: Program::new(&args.pgshift, &options).await?,
        server: Server::start(args.server_programs.clone()).await?,
        args,
        begun: Instant::now(),
    };
    let skipped = CONTENDERS.iter().filter_map(|c| match c.way {
        Way::Pgshift(pgshift) => {
            let option = bench.program.options(&pgshift).err()?;
            Some(named(
                c.name,
                &format!("this binary has no option `{option}`"),
            ))
        }
        _ => None,
    });
    let mut results = Results {
        version: bench.program.version().await?,
        postgres: bench.server.version.clone(),
        machine,
        date: bench.server.date().await?,
        rows: args.rows(),
        rounds: args.rounds(),
        rate: args.rate,
        arguments: args.told(),
        tables: wanted.iter().map(|t| named(t.name, t.about)).collect(),
        contenders: CONTENDERS.iter().map(|c| named(c.name, c.about)).collect(),
        skipped: skipped.collect(),
        figures: Vec::new(),
    };
    let mut bench = bench;
    if args.memory {
        for rows in [args.rows() / 10, args.rows()] {
            let figure = bench.memory(&wanted[0], rows).await?;
            results.figures.push(figure);
            save(&results)?;
        }
    } else {
        for table in &wanted {
            bench.table(table, &mut results).await?;
            save(&results)?;
        }
    }
    Ok(results)
}

fn named(name: &str, about: &str) -> Named {
    Named {
        name: name.to_owned(),
        about: about.to_owned(),
    }
}

impl Bench<'_> {
    fn say(&self, what: &str) {
        eprintln!(
            "bench: {:>5.0} s  {what}",
            self.begun.elapsed().as_secs_f64()
        );
    }

    async fn table(&mut self, table: &Table, results: &mut Results) -> Result<()> {
        let rows = (self.args.rows() / table.fewer).max(1000);
        let load = table.name == APPLICATION.name;
        self.say(&format!("{}: loading {rows} rows", table.name));
        self.server.load(table, rows).await?;
        let columns = compared(table);
        let wanted = self.server.wanted(&columns).await?;
        let all: Vec<Contender> = contenders::on(table.name, &self.args.only)
            .into_iter()
            .filter(|c| !results.skipped.iter().any(|s| s.name == c.name))
            .collect();
        // Not counted: the log's files are made, and what is read first is in memory.
        if let Some(first) = all.iter().find(|c| c.name == L0) {
            self.turn(table, first, 0, rows, &columns, &wanted, false)
                .await?;
        }
        let rounds = if load {
            self.args.rounds().min(APPLICATION_ROUNDS)
        } else {
            self.args.rounds()
        };
        for round in 0..rounds {
            for place in stats::order(all.len(), round, rounds) {
                let contender = &all[place];
                let turn = self.turn(table, contender, round, rows, &columns, &wanted, load);
                let figure = turn
                    .await
                    .map_err(|e| e.context(format!("{} on {}", contender.name, table.name)))?;
                self.say(&told(&figure, rounds));
                results.figures.push(figure);
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "what a turn is")]
    async fn turn(
        &self,
        table: &Table,
        contender: &Contender,
        round: usize,
        rows: u64,
        columns: &str,
        wanted: &Content,
        load: bool,
    ) -> Result<Figure> {
        let turn = self.server.turn().await?;
        ways::prepare(&turn, contender, &self.program).await?;
        let before = turn.sizes().await?;
        let application = load.then(|| Load::start(&turn.url, rows, self.args.rate));
        if load {
            tokio::time::sleep(SETTLE).await;
        }
        let measured = ways::work(&turn, contender, table, &self.program).await;
        let met = application.map(Load::end).transpose()?;
        let measured = measured?;
        let after = turn.sizes().await?;
        let mut figure = measured.figure(table.name, contender.name, round, rows);
        figure.latency = met.map(|met| load::between(&met, measured.from, measured.to));
        figure.heap = [before.heap, after.heap];
        figure.indexes = [before.indexes, after.indexes];
        if contender.way != Way::Nothing {
            figure.wrong = self.check(&turn, columns, wanted).await?;
        }
        self.server.end_turn(turn).await?;
        Ok(figure)
    }

    async fn check(&self, turn: &Turn, columns: &str, wanted: &Content) -> Result<Option<String>> {
        let wrong = turn.wrong(columns, wanted).await?;
        if let Some(wrong) = &wrong {
            self.say(&format!("wrong: {wrong}"));
        }
        Ok(wrong)
    }

    /// pgshift alone on a table of so many rows.
    async fn memory(&mut self, table: &Table, rows: u64) -> Result<Figure> {
        self.say(&format!("loading {rows} rows"));
        self.server.load(table, rows).await?;
        let columns = compared(table);
        let wanted = self.server.wanted(&columns).await?;
        let auto = CONTENDERS
            .iter()
            .find(|c| c.name == "auto")
            .ok_or_else(|| Error::internal("no contender `auto`"))?;
        let figure = self
            .turn(table, auto, 0, rows, &columns, &wanted, false)
            .await?;
        self.say(&told(&figure, 1));
        Ok(figure)
    }
}

/// Columns whose content must not change: not the one that the application writes.
fn compared(table: &Table) -> String {
    let mut all = tables::columns(table);
    if table.name == APPLICATION.name {
        all.retain(|c| *c != "note");
    }
    all.join(", ")
}

fn told(figure: &Figure, rounds: usize) -> String {
    let latency = figure.latency.map_or(String::new(), |l| {
        format!(
            ", p50 {:.1} p99 {:.1} longest {:.1} ms",
            l.p50_ms, l.p99_ms, l.max_ms
        )
    });
    format!(
        "{} {}/{rounds} {}: {:.2} s, {:.0} rows/s{latency}",
        figure.table,
        figure.round + 1,
        figure.contender,
        figure.seconds,
        figure.rows_per_second()
    )
}
