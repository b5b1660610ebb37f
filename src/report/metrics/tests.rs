use chrono::{DateTime, TimeZone, Utc};

use super::*;
use crate::plan::Phase;
use crate::run::RunKind;
use crate::throttle::{Sample, Unit};

pub(super) fn clock() -> DateTime<Utc> {
    Utc.timestamp_opt(1_795_428_000, 0)
        .single()
        .expect("a time")
}

fn after(events: &[Event]) -> Metrics {
    let metrics = Metrics::new(clock);
    for event in events {
        metrics.event("1_orders", event);
    }
    metrics
}

/// The value of a series in the text format; `None` where it is not there.
#[track_caller]
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.text(Exposition::Text);
    let line = text.lines().find(|line| {
        line.strip_prefix(series)
            .is_some_and(|rest| rest.starts_with(' '))
    })?;
    Some(line[series.len() + 1..].parse().expect("a number"))
}

fn started() -> Event {
    Event::RunStarted {
        kind: RunKind::Apply,
        epoch: 2,
        resumed: true,
    }
}

fn lag(seconds: f64) -> Sample {
    Sample::new("replica_lag", seconds, Unit::Seconds)
        .of("standby1")
        .bound(Some(Bound::Above(5.0)))
}

fn signals(held: Option<&str>) -> Event {
    Event::Signals(Signals {
        step: 3,
        samples: vec![
            lag(9.0),
            Sample::new("connections_free", 40.0, Unit::Count).bound(Some(Bound::Below(3.0))),
        ],
        blind: vec!["slot_headroom".into()],
        duty: 0.25,
        held: held.map(str::to_owned),
        lost_ms: [("duty".to_owned(), 1500)].into(),
    })
}

fn chunk(ms: f64) -> Event {
    Event::ChunkDone {
        step: 3,
        rows: 500,
        elapsed_ms: ms,
        wal_bytes: 4096,
        size: 16,
    }
}

#[test]
fn a_backfill_is_counted() {
    let progress = Progress {
        step: 3,
        fraction: 0.5,
        rows: 1_000,
        rows_total: 2_000,
        blocks_done: 50,
        blocks_total: 100,
        chunks: 4,
        eta: Some(std::time::Duration::from_secs(9)),
        duty: Some(0.5),
        lost_ms: [("duty".to_owned(), 2_500)].into(),
        ..Progress::default()
    };
    let m = after(&[
        started(),
        Event::StepStarted {
            step: 3,
            phase: Phase::Backfill,
            title: "t".into(),
        },
        chunk(15.0),
        chunk(30.0),
        Event::ChunkRetried {
            sqlstate: "55P03".into(),
            message: "m".into(),
        },
        signals(Some("replica_lag")),
        Event::Progress(progress),
    ]);
    for (series, wanted) in [
        (
            r#"pgshift_rows_changed_total{migration="1_orders",step="3"}"#,
            1000.0,
        ),
        (
            r#"pgshift_chunks_total{migration="1_orders",step="3"}"#,
            2.0,
        ),
        (
            r#"pgshift_wal_bytes_total{migration="1_orders",step="3"}"#,
            8192.0,
        ),
        (r#"pgshift_chunk_size{migration="1_orders",step="3"}"#, 16.0),
        (
            r#"pgshift_chunk_duration_seconds_count{migration="1_orders",step="3"}"#,
            2.0,
        ),
        (
            r#"pgshift_chunk_duration_seconds_bucket{le="0.02",migration="1_orders",step="3"}"#,
            1.0,
        ),
        (
            r#"pgshift_chunk_retries_total{migration="1_orders",reason="row_locks"}"#,
            1.0,
        ),
        (
            r#"pgshift_step_done_ratio{migration="1_orders",step="3"}"#,
            0.5,
        ),
        (
            r#"pgshift_step_blocks{migration="1_orders",step="3"}"#,
            100.0,
        ),
        (
            r#"pgshift_step_remaining_seconds{migration="1_orders",step="3"}"#,
            9.0,
        ),
        (
            r#"pgshift_run_step{migration="1_orders",phase="backfill"}"#,
            3.0,
        ),
        (
            r#"pgshift_run_state{migration="1_orders",kind="apply",state="running"}"#,
            1.0,
        ),
        (r#"pgshift_run_epoch{migration="1_orders"}"#, 2.0),
        (r#"pgshift_duty_ratio{migration="1_orders"}"#, 0.5),
        (
            r#"pgshift_held{migration="1_orders",cause="replica_lag"}"#,
            1.0,
        ),
        (
            r#"pgshift_replica_lag_seconds{migration="1_orders",standby="standby1"}"#,
            9.0,
        ),
        (
            r#"pgshift_signal_limit{migration="1_orders",signal="connections_free",subject="",holds="below"}"#,
            3.0,
        ),
        (
            r#"pgshift_signal_blind{migration="1_orders",signal="slot_headroom"}"#,
            1.0,
        ),
        (
            r#"pgshift_time_lost_seconds_total{migration="1_orders",step="3",cause="duty"}"#,
            2.5,
        ),
    ] {
        assert_eq!(value(&m, series), Some(wanted), "{series}");
    }
}

#[test]
fn what_is_over_is_not_told_as_present() {
    let m = after(&[started(), signals(Some("replica_lag"))]);
    let held = r#"pgshift_held{migration="1_orders",cause="replica_lag"}"#;
    let lag = r#"pgshift_replica_lag_seconds{migration="1_orders",standby="standby1"}"#;
    assert_eq!((value(&m, held), value(&m, lag)), (Some(1.0), Some(9.0)));
    m.event(
        "1_orders",
        &Event::Released {
            cause: "replica_lag".into(),
            held_ms: 1,
        },
    );
    assert_eq!(value(&m, held), Some(0.0));
    // Another migration's signals are its own.
    m.event("2_other", &Event::Signals(Signals::default()));
    assert_eq!(value(&m, lag), Some(9.0));
    m.event(
        "1_orders",
        &Event::RunFinished {
            kind: RunKind::Apply,
            lost_ms: Lost::new(),
        },
    );
    assert_eq!(value(&m, lag), None);
    let finished = r#"pgshift_run_state{migration="1_orders",kind="apply",state="finished"}"#;
    assert_eq!(value(&m, finished), Some(1.0));
    let success = r#"pgshift_last_success_timestamp_seconds{migration="1_orders"}"#;
    assert_eq!(value(&m, success), Some(1_795_428_000.0));
}

#[test]
fn a_counter_of_another_never_goes_down() {
    let m = after(&[signals(None)]);
    let lost = r#"pgshift_time_lost_seconds_total{migration="1_orders",step="3",cause="duty"}"#;
    m.event(
        "1_orders",
        &Event::Signals(Signals {
            step: 3,
            lost_ms: [("duty".to_owned(), 700)].into(),
            ..Signals::default()
        }),
    );
    assert_eq!(value(&m, lost), Some(1.5));
}

#[test]
fn an_error_is_no_stop_that_was_asked_for() {
    let stopped = |asked| Event::Stopped {
        reason: "r".into(),
        asked,
    };
    let error = r#"pgshift_last_error_timestamp_seconds{migration="1_orders"}"#;
    assert_eq!(value(&after(&[started(), stopped(true)]), error), None);
    let m = after(&[started(), stopped(false)]);
    assert_eq!(value(&m, error), Some(1_795_428_000.0));
    let failed = r#"pgshift_run_state{migration="1_orders",kind="apply",state="failed"}"#;
    assert_eq!(value(&m, failed), Some(1.0));
}

#[test]
fn locks_are_counted_with_their_time() {
    let tried = |had, waited_ms| Event::LockTried {
        step: 1,
        had,
        waited_ms,
    };
    let m = after(&[
        started(),
        tried(false, 200),
        tried(false, 500),
        tried(true, 900),
    ]);
    let tries = |result| {
        let labels = format!(r#"{{migration="1_orders",step="1",result="{result}"}}"#);
        value(&m, &format!("pgshift_lock_tries_total{labels}"))
    };
    assert_eq!((tries("had"), tries("refused")), (Some(1.0), Some(2.0)));
    let lost = r#"pgshift_time_lost_seconds_total{migration="1_orders",step="1",cause="locks"}"#;
    assert_eq!(value(&m, lost), Some(0.9));
    let held = r#"pgshift_held{migration="1_orders",cause="locks"}"#;
    assert_eq!(value(&m, held), Some(0.0));
}

#[test]
fn both_expositions_are_whole() {
    let m = after(&[started(), chunk(15.0)]);
    let open = m.text(Exposition::OpenMetrics);
    assert!(open.contains("# TYPE pgshift_rows_changed counter\n"));
    assert!(open.ends_with("# EOF\n"));
    let plain = m.text(Exposition::Text);
    assert!(plain.contains("# TYPE pgshift_rows_changed_total counter\n"));
    assert!(plain.contains("# HELP pgshift_rows_changed_total Rows changed by this process.\n"));
    assert!(!plain.contains("EOF"));
    // Every sample has the name and the type of the table.
    for line in plain.lines().filter(|line| line.starts_with("# TYPE ")) {
        let known = t::ALL
            .iter()
            .any(|m| line == format!("# TYPE {} {}", m.name, m.kind.name()));
        assert!(known, "{line}");
    }
}

#[test]
fn a_name_with_quotes_stays_a_label() {
    let m = Metrics::new(clock);
    m.event("a\"b\\c\nd", &started());
    let text = m.text(Exposition::Text);
    assert!(
        text.contains(r#"pgshift_run_epoch{migration="a\"b\\c\nd"} 2"#),
        "{text}"
    );
}

#[test]
fn a_thousand_subjects_are_cut() {
    let samples = (0..1_000).map(|n| Sample::new("s", 1.0, Unit::Count).of(n.to_string()));
    let m = after(&[Event::Signals(Signals {
        samples: samples.collect(),
        ..Signals::default()
    })]);
    let text = m.text(Exposition::Text);
    let told = text
        .lines()
        .filter(|l| l.starts_with("pgshift_signal_value{"));
    assert_eq!(told.count(), MOST_SUBJECTS);
}
