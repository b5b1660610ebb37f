//! VACUUM on the way: how often, and when one that is under way gives way.
//!
//! A walk in one pass leaves a dead version of each row where the row was, and writes the new one
//! at the end of the file. VACUUM gives the room of the dead ones to those that come after, so a
//! table that it visits after every 5 % grows by about that, not to twice its size (PostgreSQL
//! docs, "Recovering Disk Space"). What it costs: it reads the indexes whole each time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// No longer distance is taken: the table would have grown by as much already.
pub const MOST_PERCENT: u8 = 50;
/// Blocks between two VACUUMs at least: fewer are not worth the reading of the indexes.
const LEAST_BLOCKS: i64 = 64;
/// Longer than chunks last.
const LONG: Duration = Duration::from_millis(500);

/// How often a backfill has its table vacuumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vacuum {
    /// After this part of the table, in percent, from 1 to [`MOST_PERCENT`].
    pub percent: u8,
}

/// Storage of a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Size of the main fork in blocks.
    pub blocks: i64,
    /// Rows by the last ANALYZE or VACUUM; not above 0 where there was none.
    pub rows: i64,
}

impl Vacuum {
    /// Blocks between two VACUUMs of a relation of `blocks` blocks.
    fn blocks(self, blocks: i64) -> i64 {
        (blocks / 100 * i64::from(self.percent)).max(LEAST_BLOCKS)
    }

    /// Counts the blocks that a walk has done.
    pub fn by_blocks(self, of: Extent) -> Rhythm {
        Rhythm::new(self.blocks(of.blocks))
    }

    /// Counts the rows that a walk has changed; `None` where it is not known how many there are.
    pub fn by_rows(self, of: Extent) -> Option<Rhythm> {
        let density = of.rows / of.blocks.max(1);
        (of.rows > 0).then(|| Rhythm::new(self.blocks(of.blocks).saturating_mul(density.max(1))))
    }
}

/// Tells when the next VACUUM is due, in the unit that the walk counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rhythm {
    every: i64,
    since: i64,
}

impl Rhythm {
    fn new(every: i64) -> Self {
        Self { every, since: 0 }
    }

    /// True where a VACUUM will be due when so much more is done.
    pub fn is_due_after(&self, done: i64) -> bool {
        self.since + done.max(0) >= self.every
    }

    /// Counts what was done since it was asked last; true where a VACUUM is due now.
    pub fn due(&mut self, done: i64) -> bool {
        let due = self.is_due_after(done);
        self.since += done.max(0);
        if due {
            self.since = 0;
        }
        due
    }

    /// What was due could not be done now: it is due again after a quarter of the distance.
    pub fn postpone(&mut self) {
        self.since = self.every - self.every / 4;
    }
}

/// What holds dead rows back, watched from one look to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holder {
    /// Its transaction id, and since when it is seen.
    seen: Option<(i64, Duration)>,
}

impl Holder {
    /// Told who holds, if somebody does, `now` being the time since any moment; true where it has
    /// done so for half a second: a chunk of another worker does for a moment.
    pub fn lasts(&mut self, oldest: Option<i64>, now: Duration) -> bool {
        let since = match (self.seen, oldest) {
            (Some((seen, since)), Some(oldest)) if seen == oldest => since,
            _ => now,
        };
        self.seen = oldest.map(|oldest| (oldest, since));
        oldest.is_some() && now.saturating_sub(since) >= LONG
    }
}

/// True where a VACUUM under way is to be ended: `waiting` sessions want its lock, or are behind one
/// that does, or the throttle or a person holds. What it has done is kept, and the next one does the
/// rest. Autovacuum gives way to locks in the same manner; a VACUUM by hand does not by itself.
pub fn gives_way(waiting: usize, held: bool) -> bool {
    waiting > 0 || held
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Extent = Extent {
        blocks: 100_000,
        rows: 5_000_000,
    };

    fn times(mut rhythm: Rhythm, steps: i64, step: i64) -> usize {
        (0..steps).filter(|_| rhythm.due(step)).count()
    }

    #[test]
    fn as_often_as_the_part_goes_into_the_whole() {
        for (percent, wanted) in [(5, 20), (10, 10), (50, 2)] {
            let vacuum = Vacuum { percent };
            assert_eq!(times(vacuum.by_blocks(TABLE), 100_000, 1), wanted);
            let by_rows = vacuum.by_rows(TABLE).expect("rows are known");
            assert_eq!(times(by_rows, 5_000, 1_000), wanted);
        }
    }

    #[test]
    fn what_is_put_off_comes_soon() {
        let mut rhythm = Vacuum { percent: 5 }.by_blocks(TABLE);
        assert!(rhythm.due(5_000));
        rhythm.postpone();
        assert!(!rhythm.is_due_after(1_249));
        assert!(rhythm.is_due_after(1_250));
        assert!(!rhythm.due(1_249));
        assert!(rhythm.due(1));
        assert!(!rhythm.due(4_999));
    }

    #[test]
    fn not_for_a_handful_of_blocks() {
        let small = Extent {
            blocks: 1000,
            ..TABLE
        };
        assert_eq!(times(Vacuum { percent: 1 }.by_blocks(small), 1000, 1), 15);
    }

    #[test]
    fn not_by_rows_that_nobody_has_counted() {
        let vacuum = Vacuum { percent: 5 };
        assert_eq!(vacuum.by_rows(Extent { rows: -1, ..TABLE }), None);
    }

    #[test]
    fn a_holder_is_told_of_when_it_lasts() {
        let ms = Duration::from_millis;
        let mut holder = Holder::default();
        assert!(!holder.lasts(Some(7), ms(1_000)));
        assert!(!holder.lasts(Some(7), ms(1_499)));
        assert!(holder.lasts(Some(7), ms(1_500)));
        assert!(!holder.lasts(Some(8), ms(1_600)));
        assert!(!holder.lasts(None, ms(2_200)));
        assert!(!holder.lasts(Some(8), ms(2_300)));
        assert!(holder.lasts(Some(8), ms(2_900)));
    }

    #[test]
    fn gives_way_to_others_and_to_a_hold() {
        assert!(!gives_way(0, false));
        assert!(gives_way(1, false));
        assert!(gives_way(0, true));
    }
}
