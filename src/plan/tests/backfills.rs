//! What a plan says of a backfill's passes and VACUUM, and counts with.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::plan::cost::Disk;
use crate::plan::probe::Pin;
use crate::plan::{Phase, Step};

const FILE: &str = "\
-- pgshift: expand
ALTER TABLE orders ADD COLUMN cents bigint;
-- pgshift: backfill OPTIONS
UPDATE orders SET cents = round(total * 100)::bigint;
-- pgshift: reverse
UPDATE orders SET total = cents / 100.0;
";

fn with(options: &str, answers: impl FnOnce(&mut Probed)) -> Plan {
    planned_with(&catalog(15), &FILE.replace("OPTIONS", options), answers).expect("a plan")
}

fn backfill(plan: &Plan) -> &Step {
    let mut steps = plan.steps.iter();
    steps.find(|s| s.phase == Phase::Backfill).expect("a step")
}

fn disk(plan: &Plan) -> Disk {
    backfill(plan).estimate.disk.expect("an estimate")
}

/// What is said of a number of things, all in one.
fn said(all: &[String]) -> String {
    all.join("\n")
}

#[test]
fn room_that_is_used_again_is_counted() {
    let plain = disk(&with("stripes=1 vacuum=off", |_| {}));
    for options in ["stripes=8", "stripes=1 vacuum=5%"] {
        let saving = disk(&with(options, |_| {}));
        assert!(saving.heap.likely < plain.heap.likely / 2, "{options}");
        assert_eq!(saving.heap.most, plain.heap.most, "{options}");
    }
    let striped = disk(&with("stripes=8", |_| {}));
    assert!(striped.indexes.likely < plain.indexes.likely / 2);
}

#[test]
fn what_pins_dead_versions_is_said_and_no_room_counted() {
    let pin = |age: Option<Duration>| {
        move |probed: &mut Probed| {
            probed.pinned = Some(Pin {
                holder: "pid 41 (alice, psql)".to_owned(),
                age,
            });
        }
    };
    let plain = disk(&with("stripes=1 vacuum=off", |_| {}));
    for options in ["", "stripes=8", "stripes=1 vacuum=5%"] {
        let plan = with(options, pin(Some(Duration::from_millis(720_500))));
        assert_eq!(disk(&plan), plain, "{options}");
        let warnings = said(&plan.warnings);
        let begin = "pid 41 (alice, psql) (open for 12m) keeps dead row versions";
        assert!(warnings.contains(begin), "{warnings}");
    }
    let slot = with("", pin(None));
    assert!(
        said(&slot.warnings).contains("psql) keeps dead"),
        "{slot:?}"
    );
    // Nothing is lost where nothing was to be won.
    let unconcerned = with("stripes=1 vacuum=off", pin(None));
    assert!(!said(&unconcerned.warnings).contains("keeps dead"));
}

#[test]
fn without_the_right_to_vacuum_no_room_is_counted() {
    let plain = disk(&with("stripes=1 vacuum=off", |_| {}));
    let plan = with("stripes=1 vacuum=5%", |probed| {
        probed.not_vacuumed = BTreeSet::from([16_384]);
    });
    assert_eq!(disk(&plan), plain);
    assert!(said(&backfill(&plan).notes).contains("may not vacuum"));
}

#[test]
fn a_window_says_what_it_is_sized_by() {
    let notes = said(&backfill(&with("", |_| {})).notes);
    assert!(
        notes.contains("as many as stay in shared_buffers"),
        "{notes}"
    );
    let notes = said(
        &backfill(&with("", |probed| {
            probed.server = Some(crate::plan::cost::Server {
                max_wal: 64 << 20,
                ..Default::default()
            });
        }))
        .notes,
    );
    assert!(
        notes.contains("over each 256 blocks, as many as are done between two checkpoints"),
        "{notes}"
    );
}
