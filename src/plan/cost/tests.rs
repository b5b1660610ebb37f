use proptest::prelude::*;

use super::*;

mod measured;

const GIB: i64 = 1 << 30;

fn index(bytes: i64, correlation: f64) -> Index {
    Index { bytes, correlation }
}

/// 500 million rows, 100 GiB, a primary key and one more index.
fn large() -> Facts {
    Facts {
        server: Server {
            max_wal: 16 * GIB,
            checkpoint: 900.0,
            ..Server::default()
        },
        sample: Some(Sample {
            rows: 2_000,
            changed: 2_000,
            valueless: None,
            seconds: 0.012,
            heap: 2_000 * 212,
            toast: 0,
        }),
        rows: 500_000_000,
        blocks: 100 * GIB / 8192,
        indexes: vec![index(11 * GIB, 1.0), index(15 * GIB, 0.0)],
        fill: 1.0,
        new_columns: 1,
        deletes: false,
        by_blocks: true,
        stripes: None,
        vacuum: None,
        locked: false,
        batch: None,
        workers: 1,
        duty: 0.5,
    }
}

#[test]
fn rows_that_get_no_value_are_not_written() {
    let facts = large();
    let half = Facts {
        sample: facts.sample.map(|s| Sample {
            valueless: Some(s.rows / 2),
            ..s
        }),
        ..facts.clone()
    };
    assert!((half.changed() * 2.0 - facts.changed()).abs() < 1.0);
}

fn without_sample(facts: &Facts) -> Facts {
    Facts {
        sample: None,
        ..facts.clone()
    }
}

#[test]
fn a_large_table_costs_what_the_formulae_say() {
    let cost = backfill(&large());
    // 3,000 s of work on rows, more for log and indexes, a millisecond each.
    let chunks = cost.chunks.expect("measured");
    assert!((6_000_000..=13_107_200).contains(&chunks), "{chunks}");
    let time = cost.time.expect("measured");
    assert!((4_800.0..7_000.0).contains(&time.least), "{time:?}");
    assert!(time.likely > 2.0 * time.least, "{time:?}");
    // Each row anew, and no room of it used again.
    assert_eq!(cost.disk.heap.likely, 500_000_000 * 212);
    assert_eq!(cost.disk.indexes.likely, 26 * GIB);
    // Each page of the heap whole, each row, and its entries.
    let least = 100 * GIB + 500_000_000 * (212 + 50 + 2 * 64);
    assert!(cost.wal.likely > least, "{cost:?}");
    assert!(cost.wal.likely < 20 * least && cost.wal.most > cost.wal.likely + 200 * GIB);
    assert_eq!(cost.disk.pg_wal, 16 * GIB);
}

#[test]
fn more_checkpoints_write_more_pages() {
    let mut facts = large();
    let seldom = backfill(&facts).wal.likely;
    facts.server.max_wal = GIB;
    let often = backfill(&facts).wal.likely;
    assert!(often > seldom, "{often} {seldom}");
    facts.server.full_pages = false;
    let never = backfill(&facts).wal.likely;
    assert!(never < seldom);
}

#[test]
fn entries_in_the_order_of_the_heap_write_each_page_once() {
    let mut facts = large();
    facts.server.max_wal = GIB;
    facts.indexes = vec![index(15 * GIB, 0.0)];
    let scattered = backfill(&facts).wal;
    facts.indexes = vec![index(15 * GIB, -1.0)];
    let ordered = backfill(&facts).wal;
    assert!(scattered.likely > 2_000 * GIB, "{scattered:?}");
    assert!(ordered.likely < 350 * GIB, "{ordered:?}");
    assert_eq!(ordered.most, scattered.most);
}

#[test]
fn room_left_by_fillfactor_saves_heap_and_entries() {
    let mut facts = large();
    facts.fill = 0.5;
    // Half of a page for the 38 rows in it.
    facts.sample = facts.sample.map(|s| Sample {
        heap: 2_000 * 106,
        ..s
    });
    let cost = backfill(&facts);
    assert!(cost.disk.heap.likely < GIB, "{cost:?}");
    assert!(cost.disk.indexes.likely < GIB, "{cost:?}");
    assert_eq!(cost.disk.heap.most, 500_000_000 * 106, "without that room");
}

#[test]
fn nothing_measured_is_no_time() {
    let cost = backfill(&without_sample(&large()));
    assert_eq!((cost.time, cost.chunks, cost.seconds), (None, None, None));
    assert!(cost.wal.likely > 200 * GIB && cost.disk.heap.likely > 100 * GIB);
    let fixed = Facts {
        batch: Some(1_000),
        ..without_sample(&large())
    };
    assert_eq!(backfill(&fixed).chunks, Some(500_000));
}

#[test]
fn deleted_rows_need_no_room() {
    let facts = Facts {
        deletes: true,
        sample: Some(Sample {
            rows: 2_000,
            changed: 20,
            valueless: None,
            seconds: 0.002,
            heap: 0,
            toast: 0,
        }),
        ..large()
    };
    let cost = backfill(&facts);
    assert_eq!(cost.disk.heap, Bytes::default());
    assert_eq!(cost.disk.indexes, Bytes::default());
    // A row in a hundred, each in a page of its own.
    assert!(cost.wal.likely < 5_000_000 * (8_192 + 200), "{cost:?}");
}

#[test]
fn an_empty_table_costs_nothing_to_speak_of() {
    let facts = Facts {
        rows: 0,
        blocks: 0,
        indexes: Vec::new(),
        sample: None,
        ..large()
    };
    let cost = backfill(&facts);
    assert_eq!(
        (cost.wal, cost.disk.kept()),
        (Bytes::default(), Bytes::default())
    );
}

prop_compose! {
    fn server()(
        max_wal in 1_i64..1 << 40,
        completion in 0.0..1.0_f64,
        checkpoint in 30.0..86_400.0_f64,
        full_pages: bool,
        logical: bool,
    ) -> Server {
        Server { max_wal, completion, checkpoint, full_pages, logical, ..Server::default() }
    }
}

prop_compose! {
    /// A number of passes and a window, or a percentage, or neither.
    fn walk()(
        kind in 0..3,
        power in 1_u32..=6,
        window in 1_i64..1 << 16,
        percent in 1_u8..=50,
    ) -> (Option<Stripes>, Option<Vacuum>) {
        let stripes = Stripes { count: 1 << power, window };
        ((kind == 1).then_some(stripes), (kind == 2).then_some(Vacuum { percent }))
    }
}

prop_compose! {
    fn facts()(
        server in server(),
        measured: bool,
        changed in 0_i64..=2_000,
        seconds in 0.0..10.0_f64,
        heap in 0_i64..1 << 24,
        rows in 0_i64..1 << 40,
        blocks in 0_i64..1 << 32,
        indexes in proptest::collection::vec((0_i64..1 << 40, -1.0..=1.0_f64), 0..6),
        fill in 0.1..=1.0_f64,
        deletes: bool,
        by_blocks: bool,
        walk in walk(),
        locked: bool,
        batch in proptest::option::of(1_u32..1_000_000),
        workers in 0_u16..16,
        duty in 0.01..=1.0_f64,
    ) -> Facts {
        Facts {
            server,
            sample: measured.then_some(Sample { rows: 2_000, changed, valueless: None, seconds, heap, toast: 0 }),
            rows, blocks,
            indexes: indexes.into_iter().map(|(bytes, order)| index(bytes, order)).collect(),
            fill, new_columns: 1, deletes, by_blocks,
            stripes: walk.0, vacuum: walk.1, locked,
            batch, workers, duty,
        }
    }
}

/// Twice the table, of the same density.
fn twice(facts: &Facts) -> Facts {
    Facts {
        rows: facts.rows * 2,
        blocks: facts.blocks * 2,
        indexes: facts
            .indexes
            .iter()
            .map(|i| index(i.bytes * 2, i.correlation))
            .collect(),
        ..facts.clone()
    }
}

/// But for rounding.
fn at_least(more: i64, less: i64) -> bool {
    more as f64 >= less as f64 * (1.0 - 1e-6) - 1.0
}

proptest! {
    #[test]
    fn figures_are_in_order_and_of_this_world(facts in facts()) {
        let cost = backfill(&facts);
        for size in [cost.wal, cost.disk.heap, cost.disk.indexes, cost.disk.kept()] {
            prop_assert!(0 <= size.likely && size.likely <= size.most, "{cost:?}");
        }
        prop_assert_eq!(cost.time.is_some(), facts.sample.is_some());
        if let Some(time) = cost.time {
            prop_assert!(time.least.is_finite() && time.likely.is_finite());
            prop_assert!(0.0 <= time.least && time.least <= time.likely);
        }
        if let Some(chunks) = cost.chunks {
            let passes = facts.stripes.map_or(1, |s| i64::from(s.count));
            let units = if facts.by_blocks { facts.blocks * passes } else { facts.rows };
            prop_assert!((1..=units.max(1)).contains(&chunks));
        }
    }

    #[test]
    fn a_larger_table_costs_no_less(facts in facts()) {
        let (small, large) = (backfill(&facts), backfill(&twice(&facts)));
        prop_assert!(at_least(large.wal.likely, small.wal.likely), "{small:?} {large:?}");
        prop_assert!(at_least(large.wal.most, small.wal.most), "{small:?} {large:?}");
        prop_assert!(at_least(large.disk.kept().likely, small.disk.kept().likely));
        prop_assert!(large.chunks >= small.chunks);
        if let (Some(small), Some(large)) = (small.time, large.time) {
            prop_assert!(large.likely >= small.likely * (1.0 - 1e-6));
        }
    }

    #[test]
    fn one_index_more_costs_no_less(
        facts in facts(),
        bytes in 0_i64..1 << 40,
        order in -1.0..=1.0_f64,
    ) {
        let mut more = facts.clone();
        more.indexes.push(index(bytes, order));
        let (small, large) = (backfill(&facts), backfill(&more));
        prop_assert!(at_least(large.wal.likely, small.wal.likely));
        prop_assert!(at_least(large.disk.indexes.most, small.disk.indexes.most));
    }

    #[test]
    fn a_smaller_duty_takes_no_less_time(facts in facts(), part in 0.1..1.0_f64) {
        let mut slower = facts.clone();
        slower.duty = (facts.duty * part).max(0.01);
        let (fast, slow) = (backfill(&facts).time, backfill(&slower).time);
        if let (Some(fast), Some(slow)) = (fast, slow) {
            prop_assert!(slow.likely >= fast.likely * (1.0 - 1e-9));
            // What is written depends on how long it takes only through checkpoints.
            prop_assert!(slow.least >= fast.least * (1.0 - 1e-6));
        }
    }
}
