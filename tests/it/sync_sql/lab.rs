//! Runs the statements of a plan by hand, without the engine.

use pgshift::backfill::spec::Bounds;
use pgshift::catalog::QName;
use pgshift::exec::planner;
use pgshift::migration::parse;
use pgshift::pg::catalog::{Wanted, load};
use pgshift::plan::sync::{WRITER_BACKFILL, WRITER_SETTING};
use pgshift::plan::{Phase, Plan, Step, Work, revert_steps};
use pgshift::sql::Source;
use pgshift::sql::quote::{ident, literal};
use tokio_postgres::Client;

use crate::support::{Db, message};

/// A database with a migration that is planned against it.
pub(super) struct Lab {
    pub(super) db: Db,
    client: Client,
    pub(super) plan: Plan,
    done: Vec<(Step, bool)>,
}

impl Lab {
    /// A database in which `setup` has run, and the plan of `file` there.
    pub(super) async fn new(name: &str, setup: &str, file: &str) -> Self {
        let db = Db::with(name, "CREATE SCHEMA pgshift").await;
        db.execute(setup).await;
        let client = db.client().await;
        let plan = plan(&client, file).await;
        Self {
            db,
            client,
            plan,
            done: Vec::new(),
        }
    }

    /// Runs the steps of these phases.
    pub(super) async fn run(&mut self, phases: &[Phase]) {
        for step in self.plan.steps_of(phases) {
            self.step(&step).await;
            self.done.push((step, true));
        }
    }

    /// Runs the steps of a phase once more, which no revert takes back.
    pub(super) async fn again(&self, phase: Phase) {
        for step in self.plan.steps_of(&[phase]) {
            self.step(&step).await;
        }
    }

    /// Everything up to READY.
    pub(super) async fn ready(&mut self) {
        use Phase::{Backfill, Expand, Sync, Validate, Verify};
        self.run(&[Expand, Sync, Backfill, Validate, Verify]).await;
    }

    /// Takes everything back that was done.
    pub(super) async fn revert(&mut self) {
        let (steps, _) = revert_steps(&std::mem::take(&mut self.done));
        for step in &steps {
            self.step(step).await;
        }
    }

    async fn step(&self, step: &Step) {
        match &step.work {
            Work::Sql { statements } => {
                self.execute(&format!("BEGIN; {}; COMMIT", statements.join("; ")))
                    .await;
            }
            Work::Concurrent { sql, .. } | Work::Check { sql } => self.execute(sql).await,
            Work::Backfill(spec) => {
                for leaf in self.leaves(&spec.table).await {
                    self.chunks(spec, &leaf).await;
                }
            }
            Work::Verify(_) => assert_eq!(self.wrong_of(step).await, (0, vec![]), "{}", step.title),
        }
    }

    /// One chunk for the whole of a leaf.
    async fn chunks(&self, spec: &pgshift::backfill::BackfillSpec, leaf: &QName) {
        let guards = format!(
            "BEGIN; SET LOCAL search_path = {}; SET LOCAL {WRITER_SETTING} = {}",
            spec.search_path,
            literal(WRITER_BACKFILL)
        );
        self.execute(&guards).await;
        let result = match spec.shown_bounds() {
            Bounds::Keys { .. } => {
                let all = Bounds::Keys {
                    after: false,
                    upto: false,
                };
                self.client.execute(&spec.chunk_sql(leaf, all), &[]).await
            }
            bounds => {
                let (from, to) = ("(0,0)".to_owned(), "(4294967295,0)".to_owned());
                let sql = spec.chunk_sql(leaf, bounds);
                self.client.execute(&sql, &[&from, &to]).await
            }
        };
        if let Err(e) = result {
            panic!(
                "{}\n  in: {}",
                message(&e),
                spec.chunk_sql(leaf, spec.shown_bounds())
            );
        }
        self.execute("COMMIT").await;
    }

    /// The wrong rows that the checks of a phase find: number and names.
    pub(super) async fn wrong(&self, phase: Phase) -> (i64, Vec<String>) {
        let mut all = (0, Vec::new());
        for step in self.plan.steps_of(&[phase]) {
            if let Work::Verify(_) = step.work {
                let (count, keys) = self.wrong_of(&step).await;
                all.0 += count;
                all.1.extend(keys);
            }
        }
        all
    }

    async fn wrong_of(&self, step: &Step) -> (i64, Vec<String>) {
        let Work::Verify(spec) = &step.work else {
            return (0, Vec::new());
        };
        let mut all = (0, Vec::new());
        for leaf in self.leaves(&spec.table).await {
            let sql = spec.sql(&leaf, false);
            self.execute(&format!("SET search_path = {}", spec.search_path))
                .await;
            match self.client.query_one(&sql, &[]).await {
                Ok(row) => {
                    all.0 += row.get::<_, i64>(0);
                    let places: Option<Vec<String>> = row.get(1);
                    all.1
                        .extend(self.ids_of(&leaf, &places.unwrap_or_default()).await);
                }
                Err(e) => panic!("{}\n  in: {sql}", message(&e)),
            }
            self.execute("RESET search_path").await;
        }
        all
    }

    /// The ids of the rows at these places.
    async fn ids_of(&self, leaf: &QName, places: &[String]) -> Vec<String> {
        let mut all = Vec::new();
        for place in places {
            let sql = format!("SELECT 'id=' || id FROM {leaf} WHERE ctid = $1::text::tid");
            let row = self.client.query_one(&sql, &[place]).await.expect("a row");
            all.push(row.get(0));
        }
        all
    }

    async fn leaves(&self, table: &QName) -> Vec<QName> {
        let wanted = [Wanted::new(Some(&table.schema), &table.name)];
        let catalog = load(&self.client, &wanted).await.expect("the catalog");
        let leaves = &catalog.tables[table].leaves;
        leaves.iter().map(|l| l.name.clone()).collect()
    }

    async fn execute(&self, sql: &str) {
        if let Err(e) = self.client.batch_execute(sql).await {
            panic!("{}\n  in: {sql}", message(&e));
        }
    }

    /// The application writes.
    pub(super) async fn app(&self, sql: &str) {
        self.db.execute(sql).await;
    }

    /// Columns of all rows as text, one line a row, in order of the first.
    pub(super) async fn rows(&self, table: &str, columns: &[&str]) -> String {
        let columns: Vec<_> = columns
            .iter()
            .map(|c| format!("coalesce({}::text, '-')", ident(c)))
            .collect();
        let sql = format!(
            "SELECT concat_ws(' ', {0}) FROM {table} ORDER BY {1}",
            columns.join(", "),
            columns[0]
        );
        self.db.rows::<String>(&sql).await.join("\n")
    }
}

/// The plan of a file's text.
pub(super) async fn plan(client: &Client, file: &str) -> Plan {
    let migration = parse("20260101_test", Source::new("test.sql", file)).expect("the file");
    match planner::plan(client, &migration).await {
        Ok(plan) => plan,
        Err(e) => panic!("{e}: {:?}", e.places()),
    }
}
