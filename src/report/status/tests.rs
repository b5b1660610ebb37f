use std::time::Duration;

use super::*;
use crate::plan::Phase;
use crate::run::RunKind;
use chrono::TimeZone;

fn at() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 11, 23, 10, 0, 0)
        .single()
        .expect("a time")
}

fn run() -> RunView {
    RunView {
        kind: RunKind::Apply,
        epoch: 2,
        holder: Some("deploy@ci pid 7".into()),
        lease_expired: false,
        step: 3,
        steps: 7,
        phase: Some(Phase::Backfill),
        title: Some("backfill total_cents of public.orders".into()),
        rows_done: 4_520_000,
        rows_total: Some(10_000_000),
        fraction: Some(0.452),
        chunks: 1_808,
        rate: Some(12_345.6),
        eta: Some(Duration::from_secs(444)),
        waiting: None,
        lag_seconds: Some(0.25),
        duty: Some(0.5),
        waited_ms: 83_000,
        error: None,
        failed_rows: 0,
    }
}

fn view() -> StatusView {
    let stopped = RunView {
        kind: RunKind::Contract,
        holder: None,
        step: 1,
        steps: 2,
        phase: Some(Phase::Contract),
        title: Some("drop column total".into()),
        fraction: None,
        waited_ms: 0,
        error: Some("a lock on public.orders could not be had in 30s; in the way: pid 41 (app, idle in transaction for 3m)".into()),
        ..run()
    };
    StatusView {
        migrations: vec![
            MigrationView::new("20261101_init", State::Baselined, None, Some(at())),
            MigrationView::new("20261120_emails", State::Ready, None, Some(at())),
            MigrationView::new(
                "20261123_orders_total_cents",
                State::Applying,
                Some(run()),
                Some(at()),
            )
            .with_lost([("duty".to_owned(), 71_000), ("row_locks".to_owned(), 430)].into()),
            MigrationView::new(
                "20261124_items",
                State::Contracting,
                Some(stopped),
                Some(at()),
            ),
            MigrationView::new("20261130_later", State::Pending, None, None),
        ],
    }
}

#[test]
fn many_are_a_table_with_details_of_those_in_motion() {
    let text = human(&view());
    assert!(
        text.lines()
            .all(|l| l.chars().count() <= crate::report::text::WIDTH)
    );
    insta::assert_snapshot!(text, @"
    MIGRATION                    STATE        STEP  DONE   RUN      UPDATED (UTC)
    20261101_init                baselined                          2026-11-23 10:00:00
    20261120_emails              ready                              2026-11-23 10:00:00
    20261123_orders_total_cents  applying     3/7   45.2%  runs     2026-11-23 10:00:00
    20261124_items               contracting  1/2          stopped  2026-11-23 10:00:00
    20261130_later               pending

    20261123_orders_total_cents: applying
      run       apply (epoch 2), by deploy@ci pid 7
      step      3 of 7 (backfill): backfill total_cents of public.orders
      progress  45.2%, 4,520,000 of ~10,000,000 rows, 1,808 chunks, 12,346 rows/s, 7m 24s left
      throttle  duty 50%, lag 0.2s
      time lost duty 1m 11s, row_locks 0.4s
      updated   2026-11-23T10:00:00Z
      next      nothing; it is under way

    20261124_items: contracting
      run       contract (epoch 2), nobody runs it
      step      1 of 2 (contract): drop column total
      error     a lock on public.orders could not be had in 30s; in the way: pid 41 (app, idle in
                transaction for 3m)
      updated   2026-11-23T10:00:00Z
      next      mend what stopped it, then `pgshift resume 20261124_items`, or
                `pgshift revert 20261124_items` to take it back

    Next
      20261120_emails: deploy the new application version, then `pgshift contract 20261120_emails`;
                       `pgshift revert 20261120_emails` takes it back
      1 pending: `pgshift plan ID` shows what one does, `pgshift apply` does all
    ");
}

#[test]
fn one_is_shown_in_full() {
    let mut run = run();
    run.waiting = Some("replica_lag(standby1) 9.0s >= 5.0s".into());
    let one = StatusView {
        migrations: vec![MigrationView::new(
            "1_orders",
            State::Applying,
            Some(run),
            Some(at()),
        )],
    };
    insta::assert_snapshot!(human(&one), @"
    1_orders: applying
      run       apply (epoch 2), by deploy@ci pid 7
      step      3 of 7 (backfill): backfill total_cents of public.orders
      progress  45.2%, 4,520,000 of ~10,000,000 rows, 1,808 chunks, 12,346 rows/s, 7m 24s left
      throttle  duty 50%, lag 0.2s
      waits     replica_lag(standby1) 9.0s >= 5.0s
      waited    1m 23s
      updated   2026-11-23T10:00:00Z
      next      nothing; it goes on when what it waits for has passed
    ");
    assert_eq!(
        human(&StatusView { migrations: vec![] }),
        "No migrations.\n"
    );
}

#[test]
fn json_has_the_documented_shape() {
    let mut view = view();
    view.migrations.truncate(3);
    view.migrations.drain(..2);
    insta::assert_snapshot!(serde_json::to_string_pretty(&view).expect("plain data"), @r#"
    {
      "migrations": [
        {
          "id": "20261123_orders_total_cents",
          "state": "applying",
          "run": {
            "kind": "apply",
            "epoch": 2,
            "holder": "deploy@ci pid 7",
            "lease_expired": false,
            "step": 3,
            "steps": 7,
            "phase": "backfill",
            "title": "backfill total_cents of public.orders",
            "rows_done": 4520000,
            "rows_total": 10000000,
            "fraction": 0.452,
            "chunks": 1808,
            "rate": 12345.6,
            "eta_seconds": 444.0,
            "waiting": null,
            "lag_seconds": 0.25,
            "duty": 0.5,
            "waited_ms": 83000,
            "error": null,
            "failed_rows": 0
          },
          "lost_ms": {
            "duty": 71000,
            "row_locks": 430
          },
          "updated_at": "2026-11-23T10:00:00Z",
          "next": "nothing; it is under way"
        }
      ]
    }
    "#);
}

#[test]
fn what_to_do_next_depends_on_who_runs_it_and_why_it_stopped() {
    let next = |change: &dyn Fn(&mut RunView)| {
        let mut run = run();
        change(&mut run);
        next("1", State::Applying, Some(&run))
    };
    assert_eq!(next(&|_| ()), "nothing; it is under way");
    assert_eq!(
        next(&|r| r.waiting = Some("paused by dba".into())),
        "`pgshift resume 1` ends the pause"
    );
    assert!(next(&|r| r.waiting = Some("replica_lag(a) 9s >= 5s".into())).contains("goes on when"));
    let gone = next(&|r| r.lease_expired = true);
    assert!(
        gone.starts_with("`pgshift resume 1` goes on from the last committed"),
        "{gone}"
    );
    assert!(gone.contains("pgshift revert 1"));
    let stopped = next(&|r| {
        r.holder = None;
        r.error = Some("disk full".into());
    });
    assert!(
        stopped.starts_with("mend what stopped it, then `pgshift resume 1`"),
        "{stopped}"
    );
    let failing = next(&|r| {
        r.holder = None;
        r.error = Some("a row fails".into());
        r.failed_rows = 1;
    });
    assert!(failing.contains("pgshift log 1"), "{failing}");
}

#[test]
fn what_is_proposed_is_possible() {
    use crate::run::{Input, transition};
    for state in State::ALL {
        let text = next("1", state, None);
        for kind in RunKind::ALL {
            if text.contains(&format!("pgshift {kind} 1")) {
                let possible = transition(state, Input::Start(kind));
                assert!(possible.is_ok(), "{state}: {text}");
            }
        }
        assert_eq!(
            state.in_motion(),
            text.contains("resume"),
            "{state}: {text}"
        );
    }
}
