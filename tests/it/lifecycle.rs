//! The whole life of a migration through the real binary: there, back, there, on, back, purge.

use std::fmt::Write as _;

use crate::support::{Cli, Db, Output, Workload};

/// A database with one migration file.
pub(crate) struct Project {
    pub(crate) db: Db,
    pub(crate) cli: Cli,
    pub(crate) id: String,
}

/// What a user can see of a database.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    schema: String,
    data: String,
}

impl Picture {
    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    pub(crate) fn data(&self) -> &str {
        &self.data
    }
}

impl Project {
    /// A database in which `setup` has run, and a project with this migration.
    pub(crate) async fn new(name: &str, setup: &str, migration: &str) -> Self {
        Self::with_id(name, &format!("20270101_{name}"), setup, migration).await
    }

    pub(crate) async fn with_id(name: &str, id: &str, setup: &str, migration: &str) -> Self {
        let db = Db::with(name, setup).await;
        // Estimates of rows without chance in them.
        db.execute("ANALYZE").await;
        let cli = Cli::new(&db);
        cli.migration(id, migration);
        Self {
            db,
            cli,
            id: id.to_owned(),
        }
    }

    /// Runs `pgshift --yes COMMAND ID [more]`, without throttle where it is a run.
    pub(crate) async fn command(&self, command: &str, more: &[&str]) -> Output {
        let mut args = vec!["--yes", command, self.id.as_str()];
        if ["apply", "contract", "revert", "resume", "purge"].contains(&command) {
            args.extend(["--duty", "1"]);
        }
        args.extend(more);
        self.cli.run(&args).await
    }

    /// Runs a command that must succeed and leave the migration in `state`.
    pub(crate) async fn to(&self, command: &str, state: &str) -> Output {
        let output = self.command(command, &[]).await.expect(0);
        assert_eq!(
            self.state().await,
            state,
            "state after {command}\n{}",
            output.stderr
        );
        output
    }

    /// The recorded state; `pending` where there is none.
    pub(crate) async fn state(&self) -> String {
        let there: bool = self
            .db
            .one("SELECT to_regclass('pgshift.migration') IS NOT NULL")
            .await;
        if !there {
            return "pending".into();
        }
        let sql = format!(
            "SELECT coalesce((SELECT state FROM pgshift.migration WHERE id = '{}'), 'pending')",
            self.id
        );
        self.db.one(&sql).await
    }

    /// Every condition must hold.
    #[track_caller]
    pub(crate) fn holds<'a>(
        &'a self,
        conditions: &'a [&'a str],
    ) -> impl Future<Output = ()> + use<'a> {
        let caller = std::panic::Location::caller();
        async move {
            for condition in conditions {
                let holds: Option<bool> = self.db.one(&format!("SELECT ({condition})")).await;
                assert_eq!(holds, Some(true), "{condition}\n  asked at {caller}");
            }
        }
    }

    /// The statement fails on this constraint.
    pub(crate) async fn violates(&self, sql: &str, constraint: &str) {
        let error = self.db.client().await.batch_execute(sql).await;
        let error = error.expect_err(sql);
        let named = error.as_db_error().and_then(|e| e.constraint());
        assert_eq!(named, Some(constraint), "{error:?}");
    }

    pub(crate) async fn picture(&self) -> Picture {
        Picture {
            schema: self.db.schema().await,
            data: data(&self.db).await,
        }
    }

    /// Nothing of pgshift is left outside of its state tables.
    pub(crate) async fn nothing_left(&self) {
        assert_eq!(self.left().await, Vec::<String>::new());
    }

    /// What is left of pgshift outside of its state tables.
    pub(crate) async fn left(&self) -> Vec<String> {
        self.db
            .rows(
                "SELECT 'trigger ' || tgname FROM pg_trigger t
                 JOIN pg_proc p ON p.oid = tgfoid
                 WHERE tgname LIKE '%pgshift%' OR pronamespace::regnamespace::text = 'pgshift'
                 UNION ALL
                 SELECT 'function ' || proname FROM pg_proc
                 WHERE pronamespace = to_regnamespace('pgshift') AND proname LIKE 'sync%'
                 UNION ALL
                 SELECT 'column ' || attname FROM pg_attribute
                 WHERE attname LIKE '\\_pgshift\\_%' AND NOT attisdropped
                 UNION ALL
                 SELECT 'relation ' || relname FROM pg_class
                 WHERE relname LIKE '%pgshift%'
                 UNION ALL
                 SELECT 'constraint ' || conname FROM pg_constraint WHERE conname LIKE '%pgshift%'
                 UNION ALL
                 SELECT 'invalid index ' || indexrelid::regclass FROM pg_index
                 WHERE NOT indisvalid",
            )
            .await
    }
}

/// Every row of every table, without pgshift's own.
pub(crate) async fn data(db: &Db) -> String {
    let tables: Vec<String> = db
        .rows(
            "SELECT format('%I.%I', nspname, relname) FROM pg_class c
             JOIN pg_namespace n ON n.oid = relnamespace
             WHERE relkind IN ('r', 'p') AND NOT relispartition
               AND nspname !~ '^(pg_|information_schema|pgshift$)'
             ORDER BY 1",
        )
        .await;
    let mut all = String::new();
    for table in tables {
        let rows: String = db
            .one(&format!(
                "SELECT coalesce(string_agg(row, E'\n' ORDER BY row), '')
                 FROM (SELECT to_jsonb(t)::text AS row FROM {table} t) s"
            ))
            .await;
        writeln!(all, "{table}\n{rows}").expect("a string takes everything");
    }
    all
}

/// A migration and what must hold on its way.
#[derive(Default)]
pub(crate) struct Life<'a> {
    /// Name of the test.
    pub(crate) name: &'a str,
    /// The schema and rows before.
    pub(crate) setup: &'a str,
    /// The file.
    pub(crate) migration: &'a str,
    /// The old application version, during the first apply.
    pub(crate) traffic: Option<fn(u64) -> String>,
    /// Conditions after apply.
    pub(crate) ready: &'a [&'a str],
    /// Conditions after contract, before the new version writes.
    pub(crate) complete: &'a [&'a str],
    /// What the new application version writes: at READY, after contract, and the conditions on
    /// the old columns after the revert.
    pub(crate) new_version: Option<(&'a str, &'a str, &'a [&'a str])>,
    /// What the plan says cannot be taken back, one for each: words of it.
    pub(crate) lost: &'a [&'a str],
}

impl Life<'_> {
    /// Lives it.
    pub(crate) async fn live(&self) -> Project {
        let project = Project::new(self.name, self.setup, self.migration).await;
        self.live_in(&project).await;
        project
    }

    /// As [`Self::live`], in a project that is there.
    pub(crate) async fn live_in(&self, project: &Project) {
        let plan = project.command("plan", &[]).await.expect(0);
        let has_contract = plan.stdout.contains("\nCONTRACT");
        let applied = if has_contract { "ready" } else { "complete" };
        self.says_what_is_lost(&plan.stdout);
        let first = project.picture().await;
        assert_eq!(project.state().await, "pending", "plan changes nothing");

        // There and back, while the old application version writes.
        let load = self
            .traffic
            .map(|statement| Workload::start(&project.db.url(), 2, 200, statement));
        if let Some(load) = &load {
            load.reach(20).await;
        }
        project.to("apply", applied).await;
        if let Some(load) = load {
            load.reach(load.sent() + 20).await;
            load.stop().await.expect_no_error();
        }
        project.holds(self.ready).await;
        if has_contract {
            project.command("verify", &[]).await.expect(0);
        }
        let before = if self.traffic.is_some() {
            None
        } else {
            Some(&first)
        };
        self.back(project, &first, before).await;

        // Through contract and back, without anyone writing.
        let before = project.picture().await;
        project.to("apply", applied).await;
        project.holds(self.ready).await;
        if has_contract {
            project.to("contract", "complete").await;
        }
        project.holds(self.complete).await;
        self.back(project, &first, Some(&before)).await;

        // Through contract and back, with what the new version writes.
        if let Some((at_ready, at_complete, conditions)) = self.new_version {
            project.to("apply", applied).await;
            project.db.execute(at_ready).await;
            project.to("contract", "complete").await;
            project.db.execute(at_complete).await;
            self.back(project, &first, None).await;
            project.holds(conditions).await;
        }

        // To the end.
        project.to("apply", applied).await;
        if has_contract {
            project.to("contract", "complete").await;
        }
        let before = data(&project.db).await;
        project.to("purge", "purged").await;
        if self.new_version.is_none() {
            project.holds(self.complete).await;
        }
        project.nothing_left().await;
        if !before.contains("_pgshift_dropped_") {
            assert_eq!(data(&project.db).await, before, "purge changes no row");
        }
        project.command("revert", &[]).await.expect(3);
    }

    fn loses_rows(&self) -> bool {
        self.lost.iter().any(|words| words.contains("not kept"))
    }

    #[track_caller]
    fn says_what_is_lost(&self, plan: &str) {
        let Some((_, said)) = plan.split_once("\nCannot be taken back\n") else {
            assert!(plan.contains("Everything can be taken back until purge"));
            assert!(
                self.lost.is_empty(),
                "the plan does not say: {:?}",
                self.lost
            );
            return;
        };
        let said: Vec<&str> = said.split("\n  - ").collect();
        assert_eq!(said.len(), self.lost.len(), "lost: {said:?}");
        for (said, words) in said.iter().zip(self.lost) {
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(said.contains(words), "{words:?} is not in {said:?}");
        }
    }

    async fn back(&self, project: &Project, first: &Picture, before: Option<&Picture>) {
        project.to("revert", "reverted").await;
        let now = project.picture().await;
        assert_same("schema", &first.schema, &now.schema);
        if let Some(before) = before.filter(|_| !self.loses_rows()) {
            assert_same("data", &before.data, &now.data);
        }
        project.nothing_left().await;
    }
}

/// Shows the lines that differ, not both texts.
#[track_caller]
pub(crate) fn assert_same(what: &str, before: &str, now: &str) {
    let missing = |of: &str, from: &str| {
        let from: std::collections::BTreeSet<_> = from.lines().collect();
        of.lines()
            .filter(|line| !from.contains(line))
            .take(10)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert!(
        before == now,
        "{what} differs\n--- only before\n{}\n--- only now\n{}\n",
        missing(before, now),
        missing(now, before)
    );
}
