use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeZone;
use indicatif::TermLike;

use super::*;
use crate::event::Signals;
use crate::plan::Phase;
use crate::run::{RunKind, State};

thread_local! {
    static NOW: Cell<i64> = const { Cell::new(0) };
}

/// Seconds after 2026-11-23 10:00 UTC, as the test sets them.
fn clock() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 11, 23, 10, 0, 0)
        .single()
        .expect("a time")
        + TimeDelta::seconds(NOW.get())
}

/// Keeps what is written.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn text(&self) -> String {
        String::from_utf8(lock(&self.0).clone()).expect("UTF-8")
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A terminal that keeps what is written, without the movements of its cursor.
impl TermLike for Kept {
    fn width(&self) -> u16 {
        100
    }
    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn write_line(&self, s: &str) -> io::Result<()> {
        self.clone().write_all(format!("{s}\n").as_bytes())
    }
    fn write_str(&self, s: &str) -> io::Result<()> {
        self.clone().write_all(s.as_bytes())
    }
    fn clear_line(&self) -> io::Result<()> {
        self.clone().write_all(b"\r")
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

fn standing_at(rows: i64, waiting: Option<&str>) -> Event {
    Event::Progress(Progress {
        step: 3,
        title: "backfill".into(),
        fraction: rows as f64 / 3000.0,
        rows,
        rows_total: 3000,
        chunks: 4,
        rate: 410.0,
        eta: Some(Duration::from_secs(4)).filter(|_| waiting.is_none()),
        waiting: waiting.map(str::to_owned),
        lag_seconds: Some(0.3),
        duty: Some(0.5),
        ..Progress::default()
    })
}

fn failing_row() -> Event {
    Event::RowFailed {
        relation: "public.orders".into(),
        key: "id=42".into(),
        sqlstate: "22003".into(),
        message: "bigint out of\nrange".into(),
    }
}

fn one_of_each() -> Vec<Event> {
    let blockers = vec!["pid 41 (app, idle in transaction for 3m): UPDATE\n orders".to_owned()];
    vec![
        Event::RunStarted {
            kind: RunKind::Apply,
            epoch: 2,
            resumed: true,
        },
        Event::TookOver {
            from: "deploy@ci pid 7".into(),
        },
        Event::StepStarted {
            step: 1,
            phase: Phase::Expand,
            title: "add column".into(),
        },
        Event::LockWaiting {
            step: 1,
            attempt: 2,
            blockers: blockers.clone(),
        },
        Event::LockWaiting {
            step: 1,
            attempt: 1,
            blockers: vec![],
        },
        Event::BlockersCancelled { step: 1, blockers },
        Event::StepDone {
            step: 1,
            title: "add column".into(),
            elapsed_ms: 2_460,
            waited_ms: 1_200,
        },
        standing_at(1200, Some("replica_lag(standby1) 9.0s >= 5.0s")),
        Event::Held {
            cause: "replica_lag".into(),
            reason: "replica_lag(standby1) 9.0s >= 5.0s".into(),
        },
        Event::Released {
            cause: "replica_lag".into(),
            held_ms: 83_000,
        },
        Event::ChunkRetried {
            sqlstate: "55P03".into(),
            message: "canceling statement due to lock timeout".into(),
        },
        failing_row(),
        Event::ScanRestarted {
            relation: "public.orders".into(),
            blocks: 12_000,
        },
        Event::PruningHeld {
            relation: "public.orders".into(),
        },
        Event::Vacuumed {
            relation: "public.orders".into(),
            elapsed_ms: 1_234.0,
            done: true,
        },
        Event::Vacuumed {
            relation: "public.orders".into(),
            elapsed_ms: 250.0,
            done: false,
        },
        Event::Verified {
            table: "public.orders".into(),
            rows: 3000,
            wrong: 0,
            keys: vec![],
        },
        Event::Verified {
            table: "public.orders".into(),
            rows: 3000,
            wrong: 7,
            keys: (1..=7).map(|n| format!("id={n}")).collect(),
        },
        Event::Reconnecting {
            reason: "no postgres://u:pw@h/d".into(),
        },
        Event::Paused { by: "dba".into() },
        Event::Unpaused { by: "dba".into() },
        Event::Stopped {
            reason: "interrupted".into(),
            asked: true,
        },
        Event::RunFinished {
            kind: RunKind::Contract,
            lost_ms: [("duty".to_owned(), 31_000), ("locks".to_owned(), 430)].into(),
        },
        Event::Signals(Signals::default()),
        Event::LockTried {
            step: 1,
            had: true,
            waited_ms: 3,
        },
        Event::CalledOff {
            kind: RunKind::Uncontract,
            state: State::Complete,
        },
        Event::Baselined,
    ]
}

#[test]
fn events_in_words() {
    let text: Vec<String> = one_of_each()
        .iter()
        .map(|e| describe(e).unwrap_or_else(|| format!("({} is not shown)", e.name())))
        .collect();
    insta::assert_snapshot!(text.join("\n"), @"
    apply resumed (epoch 2)
    took over from deploy@ci pid 7, which is gone
    step 1 (expand): add column
    step 1 waits for a lock after 2 tries; in the way: pid 41 (app, idle in transaction for 3m): UPDATE orders
    step 1 waits for a lock after 1 try; what is in the way cannot be seen
    step 1: terminated what was in the way: pid 41 (app, idle in transaction for 3m): UPDATE orders
    step 1 done in 2s 500ms, 1s 200ms of it waiting: add column
    step 3: 40.0%, waits: replica_lag(standby1) 9.0s >= 5.0s, 1,200 of ~3,000 rows, 410 rows/s, time left unknown, lag 0.3s, duty 50%
    waits: replica_lag(standby1) 9.0s >= 5.0s
    goes on after 1m 23s of waiting (replica_lag)
    (chunk_retried is not shown)
    a row fails: public.orders id=42: bigint out of range (SQLSTATE 22003)
    public.orders was rewritten by someone; its scan begins again (12,000 blocks), rows that are done are not done again
    an old snapshot keeps dead rows of public.orders from being pruned: while it lasts, blocks are done in one pass, and the table grows as by a plain UPDATE
    vacuumed public.orders in 1s 200ms
    a VACUUM of public.orders gave way after 250ms: the next one does the rest
    verified public.orders: every row is right
    verified public.orders: 7 wrong rows: id=1; id=2; id=3; id=4; id=5; and 2 more
    the connection was lost (no postgres://u:***@h/d); connects again and reads where it stands
    paused by dba
    pause ended by dba
    stopped: interrupted
    contract finished; time lost: duty 31s, locks 0.4s
    (signals is not shown)
    (lock_tried is not shown)
    uncontract called off: complete as before
    marked as applied without running
    ");
}

#[test]
fn every_durable_event_has_words_of_one_line() {
    for event in one_of_each() {
        let text = describe(&event);
        assert!(text.is_some() || !event.is_durable(), "{}", event.name());
        assert!(!text.unwrap_or_default().contains('\n'));
    }
}

#[test]
fn an_estimate_below_what_is_done_is_not_shown() {
    let text = describe(&standing_at(5000, None)).expect("shown");
    assert_eq!(
        text,
        "step 3: 100.0%, 5,000 rows, 410 rows/s, 4s left, lag 0.3s, duty 50%"
    );
}

#[test]
fn lines_show_progress_every_five_seconds_and_when_the_cause_changes() {
    let kept = Kept::default();
    let lines = Lines::new(Box::new(kept.clone()), clock);
    let mut seen = Vec::new();
    for (at, waiting) in [
        (0, None),
        (1, None),
        (4, None),
        (5, None),
        (6, Some("replica_lag(standby1) 9.0s >= 5.0s")),
        (7, Some("replica_lag(standby1) 9.2s >= 5.0s")),
        (8, Some("replica_lag(standby2) 6.1s >= 5.0s")),
        (9, None),
        (13, None),
        (14, None),
        (14, Some("paused by dba")),
        (15, Some("paused by dba")),
    ] {
        NOW.set(at);
        let before = kept.text().len();
        lines.event("a", &standing_at(at * 100, waiting));
        if kept.text().len() > before {
            seen.push(at);
        }
    }
    // The second 14 is too soon after the first, whatever the cause.
    assert_eq!(seen, [0, 5, 6, 8, 9, 14, 15]);
    // Another migration has its own times.
    let before = kept.text().len();
    lines.event("b", &standing_at(1, None));
    assert!(kept.text().len() > before);
}

#[test]
fn lines_carry_time_and_migration() {
    NOW.set(61);
    let kept = Kept::default();
    let lines = Lines::new(Box::new(kept.clone()), clock);
    for event in [Event::Baselined, one_of_each().swap_remove(10)] {
        lines.event("1_orders", &event);
    }
    assert_eq!(
        kept.text(),
        "2026-11-23T10:01:01Z 1_orders: marked as applied without running\n"
    );
}

#[test]
fn json_lines_read_back_as_the_event() {
    NOW.set(0);
    let kept = Kept::default();
    let sink = Json::new(Box::new(kept.clone()), clock);
    // Many a second, for metrics alone.
    let chunk = Event::ChunkDone {
        step: 1,
        rows: 1,
        elapsed_ms: 1.0,
        wal_bytes: 1,
        size: 1,
    };
    sink.event("1_orders", &chunk);
    for event in one_of_each() {
        sink.event("1_orders", &event);
    }
    let text = kept.text();
    assert_eq!(
        text.lines().count(),
        one_of_each().len(),
        "chunk_retried too"
    );
    for (row, event) in text.lines().zip(one_of_each()) {
        let mut value: Value = serde_json::from_str(row).expect("JSON");
        assert_eq!(value["at"], "2026-11-23T10:00:00.000Z");
        assert_eq!(value["migration"], "1_orders");
        value.as_object_mut().expect("an object").remove("at");
        let read: Event = serde_json::from_value(value).expect("an event");
        assert_eq!(read, event);
    }
    assert!(text.starts_with(r#"{"at":"#), "time first");
}

#[test]
fn quiet_shows_only_what_is_wrong() {
    let kept = Kept::default();
    let quiet = Quiet::new(Box::new(kept.clone()), clock);
    for event in one_of_each() {
        quiet.event("a", &event);
    }
    let text = kept.text();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains("a row fails") && text.contains("7 wrong rows"));
}

struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_stream_makes_a_sink_silent() {
    let sinks: [Box<dyn Sink>; 3] = [
        Box::new(Lines::new(Box::new(Closed), clock)),
        Box::new(Json::new(Box::new(Closed), clock)),
        Box::new(Quiet::new(Box::new(Closed), clock)),
    ];
    for sink in sinks {
        sink.event("a", &failing_row());
        sink.event("a", &failing_row());
    }
}

#[test]
fn the_bar_shows_progress_and_lines_above_it() {
    let kept = Kept::default();
    let target = ProgressDrawTarget::term_like(Box::new(kept.clone()));
    let bar = Bar::on(target, false);
    bar.event("1_orders", &one_of_each().swap_remove(2));
    assert!(
        kept.text()
            .contains("1_orders: step 1 (expand): add column")
    );

    bar.event("1_orders", &standing_at(1200, Some("paused by dba")));
    bar.inner.force_draw();
    let text = kept.text();
    assert!(text.contains("step 3 [====="), "{text}");
    assert!(
        text.contains("40.0% waits: paused by dba, 1,200 of ~3,000 rows, 410 rows/s,"),
        "{text}"
    );

    bar.event("1_orders", &failing_row());
    assert!(
        kept.text()
            .contains("1_orders: a row fails: public.orders id=42")
    );
    bar.event(
        "1_orders",
        &Event::StepDone {
            step: 3,
            title: "backfill".into(),
            elapsed_ms: 9_000,
            waited_ms: 0,
        },
    );
    assert!(kept.text().contains("step 3 done in 9s: backfill"));
    assert!(lock(&bar.shown).is_none(), "the bar is gone");
    // A next step has a bar again.
    bar.event("1_orders", &standing_at(300, None));
    bar.inner.force_draw();
    assert!(kept.text().contains("10.0% 300 of ~3,000 rows"));
}
