//! The formulae against whole runs of `scripts/bench.sh` (PostgreSQL 15, `wal_compression` off). Sizes
//! and correlations of the tables are those of `benches/backfill/tables.rs` as the server has them.

use super::*;

/// A table of the benchmarks: rows, blocks, indexes.
type Table = (i64, i64, &'static [(i64, f64)]);

const INT0: Table = (500_000, 4_293, &[(11_255_808, 1.0)]);
const INT2: Table = (
    500_000,
    4_293,
    &[(11_255_808, 1.0), (5_857_280, 0.19), (11_255_808, 1.0)],
);
const INT5: Table = (
    250_000,
    2_134,
    &[
        (5_627_904, 1.0),
        (4_505_600, 0.11),
        (5_644_288, 1.0),
        (7_905_280, -0.28),
        (6_111_232, 0.11),
        (7_905_280, 0.11),
    ],
);
const UUID: Table = (500_000, 4_802, &[(19_906_560, 0.01)]);
const SMALL_WAL: Table = (250_000, 2_147, &[(5_627_904, 1.0)]);

/// A run over a table whose rows get a `bigint` more, beside a sync trigger.
fn run((rows, blocks, indexes): Table) -> Facts {
    let old = blocks * 8192 / rows;
    Facts {
        server: Server {
            max_wal: 6 * GIB,
            checkpoint: 1800.0,
            ..Server::default()
        },
        sample: Some(Sample {
            rows: 2_000,
            changed: 2_000,
            valueless: None,
            seconds: 0.007,
            heap: 2_000 * (old + 8),
            toast: 0,
        }),
        rows,
        blocks,
        indexes: indexes.iter().map(|&(b, c)| index(b, c)).collect(),
        locked: true,
        duty: 1.0,
        ..large()
    }
}

fn striped(table: Table, count: u16) -> Facts {
    Facts {
        stripes: Some(Stripes {
            count,
            window: 4_096,
        }),
        ..run(table)
    }
}

fn vacuumed(table: Table) -> Facts {
    Facts {
        vacuum: Some(Vacuum { percent: 5 }),
        ..run(table)
    }
}

/// Ratio of what is computed to what was measured.
fn near(what: &str, computed: f64, measured: f64, tolerance: f64) {
    let off = computed / measured - 1.0;
    assert!(
        off.abs() <= tolerance,
        "{what}: {computed} is not {measured}, {off:+.3}"
    );
}

fn log_is(what: &str, facts: &Facts, measured: f64, tolerance: f64) {
    let each = backfill(facts).wal.likely as f64 / facts.rows as f64;
    near(&format!("{what}, log a row"), each, measured, tolerance);
}

/// By what part the heap grows.
fn heap_is(what: &str, facts: &Facts, measured: f64) {
    let grown = backfill(facts).disk.heap.likely as f64 / (facts.blocks * 8192) as f64;
    near(&format!("{what}, heap"), grown, measured, 0.12);
}

#[test]
fn one_pass() {
    let untriggered = Facts {
        locked: false,
        ..run(INT0)
    };
    log_is("int0 without trigger", &untriggered, 354.0, 0.05);
    log_is("int0", &run(INT0), 410.0, 0.05);
    log_is("int2", &run(INT2), 590.0, 0.06);
    log_is("int5", &run(INT5), 937.0, 0.12);
    log_is("uuid", &run(UUID), 447.0, 0.12);
    heap_is("int0", &run(INT0), 1.12);
}

#[test]
fn stripes() {
    for (what, table, count, log) in [
        ("int0, 4 stripes", INT0, 4, 307.0),
        ("int0, 8 stripes", INT0, 8, 285.0),
        ("int2, 4 stripes", INT2, 4, 405.0),
        ("int2, 8 stripes", INT2, 8, 363.0),
        ("int5, 4 stripes", INT5, 4, 597.0),
        ("int5, 8 stripes", INT5, 8, 511.0),
        ("uuid, 4 stripes", UUID, 4, 322.0),
    ] {
        log_is(what, &striped(table, count), log, 0.12);
        let heap = if count == 4 { 0.43 } else { 0.31 };
        heap_is(what, &striped(table, count), heap);
    }
}

#[test]
fn stripes_split_index_pages_in_order_where_a_pass_brings_many_entries() {
    for (count, measured) in [(4, 1.0), (8, 0.26)] {
        let facts = striped(INT0, count);
        let grown = backfill(&facts).disk.indexes.likely as f64 / facts.indexes[0].bytes as f64;
        near("int0, index", grown, measured, 0.15);
    }
}

#[test]
fn vacuum_on_the_way() {
    log_is("int0, VACUUM", &vacuumed(INT0), 421.0, 0.05);
    log_is("int2, VACUUM", &vacuumed(INT2), 613.0, 0.05);
    heap_is("int0, VACUUM", &vacuumed(INT0), 0.17);
}

/// Checkpoints came for half as much log as the settings say: the run took a second, and one is
/// not begun before the last is done.
#[test]
fn stripes_between_few_checkpoints() {
    let often = |facts: Facts| Facts {
        server: Server {
            max_wal: 64 << 20,
            ..facts.server
        },
        ..facts
    };
    log_is("smallwal, one pass", &often(run(SMALL_WAL)), 410.0, 0.05);
    log_is(
        "smallwal, 4 stripes",
        &often(striped(SMALL_WAL, 4)),
        504.0,
        0.25,
    );
}

#[test]
fn a_smaller_window_meets_fewer_checkpoints() {
    let of = |window| {
        let mut facts = striped(SMALL_WAL, 4);
        facts.server.max_wal = 64 << 20;
        facts.stripes = Some(Stripes { count: 4, window });
        backfill(&facts).wal.likely
    };
    assert!(of(256) < of(1_024) && of(1_024) < of(4_096));
    let one_pass = backfill(&run(SMALL_WAL)).wal.likely;
    assert!(of(256) < one_pass && one_pass < of(4_096));
}

#[test]
fn whole_versions_are_logged_for_logical_decoding() {
    let usual = striped(INT0, 4);
    let mut logical = usual.clone();
    logical.server.logical = true;
    assert!(backfill(&logical).wal.likely > backfill(&usual).wal.likely);
}

/// A VACUUM that comes after a checkpoint writes the pages it cleans whole, and so do the versions
/// that take their room.
#[test]
fn vacuum_writes_pages_again_after_checkpoints() {
    let mut often = vacuumed(INT0);
    often.server.max_wal = 16 << 20;
    let mut plain = run(INT0);
    plain.server.max_wal = 16 << 20;
    let pages = 4_293 * 8_192;
    let more = backfill(&often).wal.likely - backfill(&plain).wal.likely;
    assert!(more > pages && more < 4 * pages, "{more}");
}
