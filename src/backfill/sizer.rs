//! How large the next chunk should be.

use std::collections::VecDeque;
use std::time::Duration;

/// What a chunk aims at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aim {
    /// Time that the server works.
    pub work: Duration,
    /// Bytes of WAL that it should not exceed.
    pub wal: u64,
}

impl Aim {
    /// A time alone, for what writes next to no WAL.
    pub const fn time(work: Duration) -> Self {
        Self {
            work,
            wal: u64::MAX,
        }
    }

    /// This part of the time; the bytes bound it as before.
    #[must_use]
    pub fn shorter(self, part: f64) -> Self {
        Self {
            work: self.work.mul_f64(part),
            ..self
        }
    }
}

/// What a chunk aims at, where nothing else is said.
///
/// A chunk keeps a CPU of the server busy, and a COMMIT of the application flushes all WAL before
/// its own, a chunk's too: the shorter the chunk, the less stands in its way. What a chunk costs
/// beside its rows is about 0.3 ms of the server's time, so that less would slow the backfill down
/// for nothing. `docs/architecture.md` has the measurements.
pub const CHUNK_AIM: Aim = Aim {
    work: Duration::from_millis(1),
    wal: 512 << 10,
};

/// The same where the duty is 100 %: who asks for that wants the backfill to be done. A fifth of the
/// time of chunks of 1 ms is the server's and ours for the chunk itself (`docs/benchmarks/`), and
/// 512 KiB are written in 5 ms. More at once than the WAL buffers hold (16 MiB by default) would wait
/// for itself.
pub const FULL_DUTY_AIM: Aim = Aim {
    work: Duration::from_millis(20),
    wal: 2 << 20,
};

/// What a chunk aims at by the present duty, 0 to 1, and the time that was set.
pub fn chunk_aim(set: Option<Duration>, duty: f64) -> Aim {
    let by_duty = if duty >= 1.0 {
        FULL_DUTY_AIM
    } else {
        CHUNK_AIM
    };
    Aim {
        work: set.unwrap_or(by_duty.work),
        ..by_duty
    }
}

/// Chunks remembered for the p90.
const MEMORY: usize = 20;
/// A chunk of the first size is not made smaller while it works for less than this: the price of a
/// chunk, and the stalls of a busy machine, do not become less with its rows.
const SHORT: Duration = Duration::from_millis(20);
/// Largest growth from one chunk to the next.
const GROWTH: f64 = 1.5;
/// Past this multiple of the target, and of [`SHORT`], the size is divided by ten at once.
const FAR_TOO_LONG: f64 = 5.0;

/// Adapts the chunk size (in blocks or rows, whatever the caller counts) to a time target.
///
/// The size follows target ÷ p90 of the recent cost per unit: the p90, not the mean, because it is
/// the slow chunks that the application feels. It grows by at most half and shrinks at once.
#[derive(Debug, Clone)]
pub struct ChunkSizer {
    aim: Aim,
    size: f64,
    /// The first size.
    start: u64,
    max: u64,
    fixed: bool,
    costs: VecDeque<(f64, f64)>,
    /// Seconds that recent chunks took beside their work.
    beside: VecDeque<f64>,
}

impl ChunkSizer {
    /// Starts at `start` units and stays within `1..=max`.
    pub fn adaptive(start: u64, max: u64, aim: Aim) -> Self {
        Self {
            aim: at_least(aim),
            size: start.clamp(1, max.max(1)) as f64,
            start: start.clamp(1, max.max(1)),
            max: max.max(1),
            fixed: false,
            costs: VecDeque::with_capacity(MEMORY),
            beside: VecDeque::with_capacity(MEMORY),
        }
    }

    /// Always `size` units, but for the retries after a lock was not had.
    pub fn fixed(size: u64) -> Self {
        Self {
            fixed: true,
            ..Self::adaptive(size, size, Aim::time(Duration::from_secs(1)))
        }
    }

    /// The size of the next chunk, at least 1.
    pub fn size(&self) -> u64 {
        (self.size as u64).clamp(1, self.max)
    }

    /// Aims at something else from now on; a fixed size stays.
    pub fn aim(&mut self, aim: Aim) {
        self.aim = at_least(aim);
    }

    /// Learns what a chunk took beside its work, for the network and the messages: where that is
    /// more than the target, a chunk works for as long, up to 20 ms, so that a far server is not
    /// worked on by a row at a time.
    pub fn spent(&mut self, beside: Duration) {
        remember(&mut self.beside, beside.as_secs_f64());
    }

    /// The working time to aim at.
    fn wanted_time(&self) -> f64 {
        let target = self.aim.work.as_secs_f64();
        let beside = nearest_rank(self.beside.iter().copied(), 5);
        target.max(beside.min(SHORT.as_secs_f64()))
    }

    /// Learns from a committed chunk of `units` on which the server worked for `worked`, and which
    /// wrote `wal` bytes.
    pub fn observe(&mut self, units: u64, worked: Duration, wal: u64) {
        if self.fixed || units == 0 {
            return;
        }
        let per_unit = worked.as_secs_f64() / units as f64;
        remember(&mut self.costs, (per_unit, wal as f64 / units as f64));
        if worked > self.aim.work.max(SHORT).mul_f64(FAR_TOO_LONG) {
            self.size = (self.size / 10.0).max(1.0);
            return;
        }
        let cost = p90(self.costs.iter().map(|c| c.0));
        let least = (self.start as f64).min(SHORT.as_secs_f64() / cost);
        let by_time = (self.wanted_time() / cost).max(least);
        let by_wal = self.aim.wal as f64 / p90(self.costs.iter().map(|c| c.1));
        let wanted = by_time.min(by_wal);
        self.size = wanted.min(self.size * GROWTH).clamp(1.0, self.max as f64);
    }

    /// A chunk of `units` failed on a lock: the next one is half as large.
    pub fn shrink(&mut self, units: u64) {
        self.size = (units as f64 / 2.0).max(1.0);
        if self.fixed {
            return;
        }
        self.costs.clear();
    }

    /// A chunk was committed after [`shrink`](Self::shrink) with a fixed size of `size`.
    pub fn restore(&mut self) {
        if self.fixed {
            self.size = self.max as f64;
        }
    }
}

/// No less than what a chunk costs beside its rows.
fn at_least(aim: Aim) -> Aim {
    Aim {
        work: aim.work.max(CHUNK_AIM.work),
        wal: aim.wal.max(1),
    }
}

/// How long the server worked on a chunk: what it spent on the rows (`None` where its clock cannot
/// tell), and as much again at most for guards, checkpoint and COMMIT. What is beyond that of
/// `elapsed`, as the client saw it, is the network's.
pub fn server_time(on_rows: Option<Duration>, elapsed: Duration) -> Duration {
    on_rows.map_or(elapsed, |on_rows| elapsed.min(on_rows * 2))
}

/// Keeps the last [`MEMORY`] values.
fn remember<T>(values: &mut VecDeque<T>, value: T) {
    if values.len() == MEMORY {
        values.pop_front();
    }
    values.push_back(value);
}

/// The percentile of so many tenths (nearest rank); zero where there are no values.
fn nearest_rank(values: impl Iterator<Item = f64>, tenths: usize) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * tenths).div_ceil(10).saturating_sub(1);
    sorted.get(rank).copied().unwrap_or(0.0)
}

/// The 90th percentile, never zero.
fn p90(values: impl Iterator<Item = f64>) -> f64 {
    nearest_rank(values, 9).max(1e-9)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TARGET: Duration = Duration::from_millis(20);

    fn sizer() -> ChunkSizer {
        ChunkSizer::adaptive(16, 100_000, Aim::time(TARGET))
    }

    #[test]
    fn what_was_set_wins_over_the_duty() {
        assert_eq!(chunk_aim(None, 0.5), CHUNK_AIM);
        assert_eq!(chunk_aim(None, 0.99), CHUNK_AIM);
        assert_eq!(chunk_aim(None, 1.0), FULL_DUTY_AIM);
        let set = Duration::from_millis(7);
        assert_eq!(chunk_aim(Some(set), 1.0).work, set);
        assert_eq!(chunk_aim(Some(set), 0.5).wal, CHUNK_AIM.wal);
    }

    #[test]
    fn converges_to_the_time_target() {
        let mut sizer = sizer();
        for _ in 0..60 {
            let units = sizer.size();
            sizer.observe(units, Duration::from_micros(50 * units), 0);
        }
        // 20 ms ÷ 50 µs = 400 units.
        assert!((380..=420).contains(&sizer.size()), "{}", sizer.size());
    }

    #[test]
    fn grows_by_at_most_half() {
        let mut sizer = sizer();
        let before = sizer.size();
        sizer.observe(before, Duration::from_micros(1), 0);
        assert!(sizer.size() <= before * 3 / 2);
    }

    #[test]
    fn a_chunk_far_over_the_target_divides_by_ten() {
        let mut sizer = ChunkSizer::adaptive(1000, 100_000, Aim::time(TARGET));
        sizer.observe(1000, Duration::from_millis(101), 0);
        assert_eq!(sizer.size(), 100);
    }

    #[test]
    fn another_aim_is_reached_at_once_where_it_is_shorter() {
        let mut sizer = sizer();
        let learn = |sizer: &mut ChunkSizer| {
            let units = sizer.size();
            sizer.observe(units, Duration::from_micros(50 * units), 0);
        };
        for _ in 0..60 {
            learn(&mut sizer);
        }
        sizer.aim(Aim::time(TARGET).shorter(0.25));
        learn(&mut sizer);
        assert!((95..=105).contains(&sizer.size()), "{}", sizer.size());
    }

    #[test]
    fn wal_bounds_the_size_too() {
        let mut sizer = ChunkSizer::adaptive(
            100,
            100_000,
            Aim {
                work: TARGET,
                wal: 1_000_000,
            },
        );
        for _ in 0..40 {
            let units = sizer.size();
            sizer.observe(units, Duration::from_micros(units), units * 10_000);
        }
        assert_eq!(sizer.size(), 100);
    }

    #[test]
    fn the_networks_time_is_not_the_servers() {
        let ms = Duration::from_millis;
        assert_eq!(server_time(Some(ms(2)), ms(3)), ms(3));
        assert_eq!(server_time(Some(ms(2)), ms(30)), ms(4));
        assert_eq!(server_time(None, ms(30)), ms(30));
    }

    #[test]
    fn a_far_server_is_not_worked_on_row_by_row() {
        let mut sizer = ChunkSizer::adaptive(4, 100_000, Aim::time(Duration::from_millis(3)));
        for _ in 0..60 {
            let units = sizer.size();
            sizer.observe(units, Duration::from_micros(50 * units), 0);
            sizer.spent(Duration::from_millis(90));
        }
        // 20 ms ÷ 50 µs, not 3 ms.
        assert!((380..=420).contains(&sizer.size()), "{}", sizer.size());
    }

    #[test]
    fn the_stalls_of_a_busy_machine_do_not_make_it_smaller_than_at_first() {
        let mut sizer = ChunkSizer::adaptive(200, 100_000, Aim::time(Duration::from_millis(3)));
        for _ in 0..60 {
            let units = sizer.size();
            // Every chunk is kept waiting for 8 ms, whatever its size.
            sizer.observe(units, Duration::from_micros(8_000 + 10 * units), 0);
        }
        assert_eq!(sizer.size(), 200);
        // Rows that are slow themselves do.
        for _ in 0..30 {
            let units = sizer.size();
            sizer.observe(units, Duration::from_millis(units), 0);
        }
        assert!((15..=20).contains(&sizer.size()), "{}", sizer.size());
    }

    #[test]
    fn one_fast_chunk_among_slow_ones_does_not_make_it_grow() {
        let mut sizer = ChunkSizer::adaptive(100, 100_000, Aim::time(TARGET));
        for n in 0..40 {
            let per = if n % 5 == 0 { 1 } else { 200 };
            let units = sizer.size();
            sizer.observe(units, Duration::from_micros(per * units), 0);
        }
        assert!(sizer.size() <= 100, "{}", sizer.size());
    }

    #[test]
    fn a_fixed_batch_shrinks_for_a_retry_and_comes_back() {
        let mut sizer = ChunkSizer::fixed(500);
        sizer.shrink(500);
        assert_eq!(sizer.size(), 250);
        sizer.restore();
        assert_eq!(sizer.size(), 500);
    }

    proptest! {
        #[test]
        fn always_within_its_bounds(
            observed in proptest::collection::vec((1_u64..100_000, 0_u64..10_000_000), 1..100)
        ) {
            let mut sizer = sizer();
            for (units, micros) in observed {
                sizer.observe(units, Duration::from_micros(micros), 0);
                prop_assert!((1..=100_000).contains(&sizer.size()));
            }
        }
    }
}
