use std::collections::BTreeMap;

use super::*;
use crate::backfill::{KeyColumn, Verb, VerifySpec};
use crate::catalog::QName;
use crate::lock::LockMode;
use crate::plan::PLAN_FORMAT;
use crate::plan::sync::{Component, Form, Mapping, SyncGroup, Target};
use crate::report::text::WIDTH;
use crate::sql::RelName;

fn orders() -> QName {
    QName::new("public", "orders")
}

fn lock(mode: LockMode) -> Vec<LockOn> {
    vec![LockOn {
        relation: Some(RelName {
            schema: Some("public".into()),
            name: "orders".into(),
        }),
        mode,
    }]
}

fn sync_sql() -> Vec<String> {
    let group = SyncGroup {
        table: orders(),
        partitioned: false,
        function: QName::new("pgshift", "sync_orders_1a2b3c4d"),
        trigger: "zzz_pgshift_sync_orders_1a2b3c4d".into(),
        search_path: "\"public\"".into(),
        components: vec![Component {
            forward: vec![Mapping {
                alias: "orders".into(),
                from: None,
                condition: None,
                targets: vec![Target {
                    column: "total_cents".into(),
                    type_name: "bigint".into(),
                    has_equality: true,
                    expr: "round(total * 100)::bigint".into(),
                    volatile: false,
                }],
                rest: false,
                reads: vec!["total".into()],
                or_null: false,
            }],
            reverse: vec![],
        }],
    };
    group.create(Form::Both, &[])
}

fn backfill(strategy: Strategy) -> BackfillSpec {
    BackfillSpec {
        table: orders(),
        alias: "orders".into(),
        verb: Verb::Update {
            set: "total_cents = round(total * 100)::bigint".into(),
        },
        from: None,
        condition: None,
        need: Some("total_cents IS NULL".into()),
        strategy,
        stripes: None,
        vacuum: None,
        batch: None,
        workers: None,
        search_path: "\"public\"".into(),
        key: vec!["id".into()],
    }
}

fn sql(phase: Phase, title: &str, statement: &str) -> Step {
    Step::sql(phase, title, vec![statement.to_owned()])
}

fn plan() -> Plan {
    let mut filled = Step::new(
        Phase::Backfill,
        "backfill total_cents of public.orders",
        Work::Backfill(Box::new(backfill(Strategy::Ctid))),
    )
    .locks(lock(LockMode::RowExclusive))
    .line(5);
    filled.estimate = Estimate {
        rows: Some(12_000_000),
        bytes: Some(3 << 30),
        chunks: Some(4_800),
        seconds: Some(1_234.0),
        basis: Some("a sample of 1,000 rows took 103 ms".into()),
        ..Estimate::default()
    };
    let verify = Work::Verify(Box::new(VerifySpec {
        table: orders(),
        alias: "orders".into(),
        from: None,
        condition: None,
        wrong: "total_cents IS DISTINCT FROM round(total * 100)::bigint".into(),
        key: vec!["id".into()],
        search_path: "\"public\"".into(),
        forward: Vec::new(),
        back: Vec::new(),
    }));
    Plan {
        format: PLAN_FORMAT,
        migration: "20261123_orders_total_cents".into(),
        checksum: "3f2a9c0d1e4b5a69788796a5b4c3d2e1".into(),
        steps: vec![
            sql(
                Phase::Expand,
                "public.orders: add column total_cents bigint",
                "ALTER TABLE orders ADD COLUMN total_cents bigint",
            )
            .locks(lock(LockMode::AccessExclusive))
            .line(2)
            .undo(Undo::Steps {
                steps: vec![sql(
                    Phase::Revert,
                    "public.orders: drop column total_cents",
                    "ALTER TABLE orders DROP COLUMN total_cents",
                )],
                lost: vec![],
            }),
            Step::sql(
                Phase::Sync,
                "keep total_cents of public.orders in sync",
                sync_sql(),
            )
            .locks(lock(LockMode::ShareRowExclusive))
            .undo(Undo::steps(vec![
                sql(
                    Phase::Revert,
                    "remove the sync trigger of public.orders",
                    "x",
                ),
                sql(Phase::Revert, "remove its function", "x"),
            ])),
            filled,
            Step::new(
                Phase::Validate,
                "create index orders_total_cents on public.orders",
                Work::Concurrent {
                    sql:
                        "CREATE INDEX CONCURRENTLY orders_total_cents\n    ON orders (total_cents)"
                            .into(),
                    index: Some(QName::new("public", "orders_total_cents")),
                    drops: false,
                },
            )
            .locks(lock(LockMode::ShareUpdateExclusive))
            .line(8)
            .note(
                "CREATE INDEX was made CONCURRENTLY, so that writes go on; it waits for every \
                 transaction that was open when it began, and an invalid leftover is dropped first",
            ),
            Step::new(Phase::Verify, "compare every row of public.orders", verify)
                .locks(lock(LockMode::AccessShare)),
            sql(
                Phase::Contract,
                "public.orders: drop column total (set aside)",
                "ALTER TABLE orders RENAME COLUMN total TO pgshift_dropped_total",
            )
            .locks(lock(LockMode::AccessExclusive))
            .line(14)
            .undo(Undo::Steps {
                steps: vec![sql(
                    Phase::Revert,
                    "public.orders: put column total back",
                    "x",
                )],
                lost: vec!["digits of total beyond the second, in rows written since".into()],
            }),
            sql(
                Phase::Contract,
                "DROP TYPE old_money",
                "DROP TYPE old_money",
            )
            .locks(vec![LockOn {
                relation: None,
                mode: LockMode::AccessExclusive,
            }])
            .undo(Undo::Irreversible {
                reason: "the definition of a dropped type is not kept".into(),
            }),
            sql(
                Phase::Purge,
                "drop pgshift_dropped_total of public.orders",
                "ALTER TABLE orders DROP COLUMN pgshift_dropped_total",
            )
            .undo(Undo::Irreversible {
                reason: "it drops for good".into(),
            }),
        ],
        warnings: vec![
            "public.orders has a trigger audit_orders that fires for every row that the backfill \
             changes; 12,000,000 rows will be written to wherever it writes"
                .into(),
        ],
        facts: BTreeMap::new(),
        tables: vec![orders()],
    }
}

const PLAIN: Style = Style {
    color: false,
    verbose: false,
};

#[test]
fn the_plan_for_people() {
    insta::assert_snapshot!(human(&plan(), PLAIN), @r#"
    Plan of 20261123_orders_total_cents (checksum 3f2a9c0d1e4b)

    EXPAND  adds what the running application does not notice

      1. public.orders: add column total_cents bigint  (line 2)
           ALTER TABLE orders ADD COLUMN total_cents bigint
         locks     ACCESS EXCLUSIVE on public.orders: blocks reads and writes
         runs      in a transaction
         cost      unknown
         way back  public.orders: drop column total_cents

    SYNC  keeps old and new columns equal while both versions run

      2. keep total_cents of public.orders in sync
           CREATE OR REPLACE FUNCTION "pgshift"."sync_orders_1a2b3c4d"() RETURNS trigger LANGUAGE plpgsql
           SET search_path = "public"
           AS $pgshift$
           … 33 lines more, made from the mappings in the file; --verbose shows them
           REVOKE ALL ON FUNCTION "pgshift"."sync_orders_1a2b3c4d"() FROM PUBLIC;
           CREATE TRIGGER "zzz_pgshift_sync_orders_1a2b3c4d" BEFORE INSERT OR UPDATE ON "public"."orders" FOR EACH ROW WHEN (current_setting('pgshift.writer', true) IS DISTINCT FROM 'backfill') EXECUTE FUNCTION "pgshift"."sync_orders_1a2b3c4d"();
         locks     SHARE ROW EXCLUSIVE on public.orders: blocks writes
         runs      in a transaction
         cost      unknown
         way back  remove the sync trigger of public.orders
                   remove its function

    BACKFILL  brings existing rows over, in short chunks

      3. backfill total_cents of public.orders  (line 5)
           UPDATE ONLY "public"."orders" AS "orders" SET total_cents = round(total * 100)::bigint
            WHERE (total_cents IS NULL) AND "orders".ctid >= $1::text::tid AND "orders".ctid < $2::text::tid
         locks     ROW EXCLUSIVE on public.orders
         runs      a transaction for each chunk, over the table's blocks in order, as many rows a chunk
                   as fit the time target
         cost      12,000,000 rows, 3.0 GiB, 4,800 chunks, about 20m 34s (a sample of 1,000 rows took
                   103 ms)
         way back  nothing to take back

    VALIDATE  indexes and constraints on what was brought over

      4. create index orders_total_cents on public.orders  (line 8)
           CREATE INDEX CONCURRENTLY orders_total_cents
               ON orders (total_cents)
         locks     SHARE UPDATE EXCLUSIVE on public.orders
         runs      outside a transaction
         cost      unknown
         way back  nothing to take back
         note      CREATE INDEX was made CONCURRENTLY, so that writes go on; it waits for every
                   transaction that was open when it began, and an invalid leftover is dropped first

    VERIFY  compares every row

      5. compare every row of public.orders
           SELECT count(*), array_agg(t) FILTER (WHERE n <= 10000) FROM (SELECT "orders".ctid::text AS t, row_number() OVER () AS n FROM ONLY "public"."orders" AS "orders" WHERE (total_cents IS DISTINCT FROM round(total * 100)::bigint) AND "orders".ctid >= $1::text::tid AND "orders".ctid < $2::text::tid) AS wrong
         locks     ACCESS SHARE on public.orders
         runs      reads only, in ranges of blocks
         cost      unknown
         way back  nothing to take back

    READY: deploy the new application version, then pgshift contract 20261123_orders_total_cents

    CONTRACT  the new application version is alone: sets aside what only the old one needs

      6. public.orders: drop column total (set aside)  (line 14)
           ALTER TABLE orders RENAME COLUMN total TO pgshift_dropped_total
         locks     ACCESS EXCLUSIVE on public.orders: blocks reads and writes
         runs      in a transaction
         cost      unknown
         way back  public.orders: put column total back
         is lost   digits of total beyond the second, in rows written since

      7. DROP TYPE old_money
           DROP TYPE old_money
         locks     ACCESS EXCLUSIVE on unknown tables: blocks reads and writes
         runs      in a transaction
         cost      unknown
         way back  cannot be taken back: the definition of a dropped type is not kept

    PURGE  after the retention: drops for good

      8. drop pgshift_dropped_total of public.orders
           ALTER TABLE orders DROP COLUMN pgshift_dropped_total
         locks     no existing relation
         runs      in a transaction
         cost      unknown
         way back  cannot be taken back: it drops for good

    Warnings
      - public.orders has a trigger audit_orders that fires for every row that the backfill changes;
        12,000,000 rows will be written to wherever it writes

    Cannot be taken back
      - step 6, public.orders: drop column total (set aside): digits of total beyond the second, in rows
        written since
      - step 7, DROP TYPE old_money: the definition of a dropped type is not kept
    "#);
}

#[test]
fn prose_is_readable_at_a_hundred_columns() {
    let plan = plan();
    let sql: String = plan
        .steps
        .iter()
        .flat_map(|s| statements(&s.work))
        .collect::<Vec<_>>()
        .join("\n");
    for row in human(&plan, PLAIN).lines() {
        let as_is = sql.contains(row.trim().trim_end_matches(';')) || row.contains("ctid");
        assert!(as_is || row.chars().count() <= WIDTH, "{row}");
    }
}

#[test]
fn verbose_shows_the_whole_sync_function() {
    let verbose = human(
        &plan(),
        Style {
            color: false,
            verbose: true,
        },
    );
    for row in sync_sql().iter().flat_map(|s| s.lines()) {
        assert!(verbose.contains(row.trim_end()), "{row}");
    }
    let short = human(&plan(), PLAIN);
    assert!(!short.contains("pgshift_row"));
    assert!(
        short.contains("CREATE TRIGGER"),
        "only the body is left out"
    );
}

#[test]
fn an_authors_long_statement_is_never_shortened() {
    let columns: Vec<_> = (0..60).map(|n| format!("  c{n} int")).collect();
    let statement = format!("CREATE TABLE t (\n{}\n)", columns.join(",\n"));
    let mut plan = plan();
    plan.steps = vec![sql(Phase::Expand, "create table t", &statement)];
    let text = human(&plan, PLAIN);
    assert!(columns.iter().all(|c| text.contains(c)));
    assert!(text.contains("COMPLETE: there is nothing to contract"));
    assert!(text.ends_with("Everything can be taken back until purge\n"));
}

#[test]
fn colour_changes_nothing_but_colour() {
    let colored = human(
        &plan(),
        Style {
            color: true,
            verbose: false,
        },
    );
    assert!(colored.contains('\u{1b}'));
    let mut bare = String::new();
    let mut rest = colored.as_str();
    while let Some(start) = rest.find('\u{1b}') {
        bare.push_str(&rest[..start]);
        let end = rest[start..].find('m').expect("a sequence ends");
        rest = &rest[start + end + 1..];
    }
    bare.push_str(rest);
    assert_eq!(bare, human(&plan(), PLAIN));
}

#[test]
fn a_statement_cannot_hide_with_terminal_sequences() {
    let mut plan = plan();
    plan.steps = vec![sql(
        Phase::Expand,
        "x\u{1b}[8m",
        "SELECT 1; -- \u{1b}[2K\u{1b}[1A",
    )];
    assert!(!human(&plan, PLAIN).contains('\u{1b}'));
}

#[test]
fn the_plan_for_programs() {
    let mut plan = plan();
    plan.steps
        .retain(|s| matches!(s.phase, Phase::Backfill | Phase::Contract));
    insta::assert_snapshot!(serde_json::to_string_pretty(&json(&plan)).expect("plain data"), @r#"
    {
      "format": 1,
      "migration": "20261123_orders_total_cents",
      "checksum": "3f2a9c0d1e4b5a69788796a5b4c3d2e1",
      "warnings": [
        "public.orders has a trigger audit_orders that fires for every row that the backfill changes; 12,000,000 rows will be written to wherever it writes"
      ],
      "irreversible": [
        {
          "step": 2,
          "reason": "digits of total beyond the second, in rows written since"
        },
        {
          "step": 3,
          "reason": "the definition of a dropped type is not kept"
        }
      ],
      "totals": null,
      "steps": [
        {
          "number": 1,
          "phase": "backfill",
          "title": "backfill total_cents of public.orders",
          "work": {
            "kind": "backfill",
            "table": {
              "schema": "public",
              "name": "orders"
            },
            "alias": "orders",
            "verb": {
              "kind": "update",
              "set": "total_cents = round(total * 100)::bigint"
            },
            "from": null,
            "condition": null,
            "need": "total_cents IS NULL",
            "strategy": {
              "kind": "ctid"
            },
            "batch": null,
            "workers": null,
            "search_path": "\"public\"",
            "key": [
              "id"
            ]
          },
          "locks": [
            {
              "relation": {
                "schema": "public",
                "name": "orders"
              },
              "mode": "row_exclusive"
            }
          ],
          "undo": {
            "kind": "nothing"
          },
          "estimate": {
            "rows": 12000000,
            "bytes": 3221225472,
            "chunks": 4800,
            "seconds": 1234.0,
            "basis": "a sample of 1,000 rows took 103 ms"
          },
          "line": 5,
          "transactional": false,
          "sql": [
            "UPDATE ONLY \"public\".\"orders\" AS \"orders\" SET total_cents = round(total * 100)::bigint\n WHERE (total_cents IS NULL) AND \"orders\".ctid >= $1::text::tid AND \"orders\".ctid < $2::text::tid"
          ]
        },
        {
          "number": 2,
          "phase": "contract",
          "title": "public.orders: drop column total (set aside)",
          "work": {
            "kind": "sql",
            "statements": [
              "ALTER TABLE orders RENAME COLUMN total TO pgshift_dropped_total"
            ]
          },
          "locks": [
            {
              "relation": {
                "schema": "public",
                "name": "orders"
              },
              "mode": "access_exclusive"
            }
          ],
          "undo": {
            "kind": "steps",
            "steps": [
              {
                "phase": "revert",
                "title": "public.orders: put column total back",
                "work": {
                  "kind": "sql",
                  "statements": [
                    "x"
                  ]
                },
                "locks": [],
                "undo": {
                  "kind": "nothing"
                },
                "estimate": {
                  "rows": null,
                  "bytes": null,
                  "chunks": null,
                  "seconds": null
                }
              }
            ],
            "lost": [
              "digits of total beyond the second, in rows written since"
            ]
          },
          "estimate": {
            "rows": null,
            "bytes": null,
            "chunks": null,
            "seconds": null
          },
          "line": 14,
          "transactional": true,
          "sql": [
            "ALTER TABLE orders RENAME COLUMN total TO pgshift_dropped_total"
          ]
        },
        {
          "number": 3,
          "phase": "contract",
          "title": "DROP TYPE old_money",
          "work": {
            "kind": "sql",
            "statements": [
              "DROP TYPE old_money"
            ]
          },
          "locks": [
            {
              "relation": null,
              "mode": "access_exclusive"
            }
          ],
          "undo": {
            "kind": "irreversible",
            "reason": "the definition of a dropped type is not kept"
          },
          "estimate": {
            "rows": null,
            "bytes": null,
            "chunks": null,
            "seconds": null
          },
          "transactional": true,
          "sql": [
            "DROP TYPE old_money"
          ]
        }
      ]
    }
    "#);
}

#[test]
fn json_and_plan_agree_on_what_cannot_be_taken_back() {
    let plan = plan();
    let ours: Vec<_> = irreversible(&plan)
        .map(|(_, step, reason)| (step.title.as_str(), reason))
        .collect();
    assert_eq!(ours, plan.irreversible());
    assert_eq!(
        json(&plan)["irreversible"].as_array().map(Vec::len),
        Some(2)
    );
}

#[test]
fn a_step_of_json_reads_back_as_the_step() {
    let plan = plan();
    let value = json(&plan);
    for (step, json) in plan
        .steps
        .iter()
        .zip(value["steps"].as_array().expect("a list"))
    {
        let read: Step = serde_json::from_value(json.clone()).expect("the fields of a step");
        assert_eq!(&read, step);
    }
}

#[test]
fn what_is_unknown_is_said_to_be_unknown() {
    assert_eq!(cost(&Estimate::default()), "unknown");
    let rows = Estimate {
        rows: Some(1),
        ..Estimate::default()
    };
    assert_eq!(cost(&rows), "1 row, time unknown");
}

#[test]
fn how_a_backfill_walks() {
    let mut spec = backfill(Strategy::Keyset {
        key: vec![KeyColumn {
            name: "id".into(),
            type_name: "bigint".into(),
        }],
    });
    spec.batch = Some(5_000);
    spec.workers = Some(2);
    assert_eq!(
        runs_backfill(&spec),
        "a transaction for each chunk, over the key (id) in order, 5,000 rows a chunk, 2 workers"
    );
}

#[test]
fn the_size_of_a_plan() {
    assert_eq!(
        summary(&plan()),
        "8 steps, about 12,000,000 rows to backfill"
    );
    let mut other = plan();
    other.steps[2].estimate.rows = None;
    assert_eq!(
        summary(&other),
        "8 steps, an unknown number of rows to backfill"
    );
    other.steps.truncate(1);
    assert_eq!(summary(&other), "1 step");
}
