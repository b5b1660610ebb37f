//! Medians, spreads, and the order in which contenders take their turns.

/// A figure over rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` where there are no values, or none that are numbers.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (first, last) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Self {
            median,
            min: first,
            max: last,
        })
    }
}

/// The order of `n` contenders in round `round` (from 0) of `rounds`: each begins at another place,
/// and every other round goes backwards, so that none always follows the same one.
pub(crate) fn order(n: usize, round: usize, rounds: usize) -> Vec<usize> {
    if n == 0 {
        return Vec::new();
    }
    let shift = round * n.div_ceil(rounds.max(1)) % n;
    let mut all: Vec<usize> = (0..n).map(|i| (i + shift) % n).collect();
    if round % 2 == 1 {
        all.reverse();
    }
    all
}

/// What share `a` is of `b`; `None` where `b` is nothing.
pub(crate) fn ratio(a: f64, b: f64) -> Option<f64> {
    (b > 0.0 && a.is_finite()).then(|| a / b)
}

/// The value below which `percent` of the values are (nearest rank); zero where there are none.
pub(crate) fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let rank = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    let last = sorted.len().saturating_sub(1);
    let place = rank.saturating_sub(1).min(last);
    sorted.get(place).copied().unwrap_or(0.0)
}

#[cfg(test)]
#[allow(dead_code, unused_imports, reason = "run by tests/benches.rs")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_between_two() {
        let spread = Spread::of([3.0, 1.0, 2.0]);
        let wanted = Spread {
            median: 2.0,
            min: 1.0,
            max: 3.0,
        };
        assert_eq!(spread, Some(wanted));
        assert_eq!(
            Spread::of([4.0, 1.0, 2.0, 3.0]).map(|s| s.median),
            Some(2.5)
        );
        assert_eq!(Spread::of([7.0]).map(|s| s.median), Some(7.0));
    }

    #[test]
    fn what_is_no_number_does_not_count() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([f64::NAN, f64::INFINITY]), None);
        assert_eq!(Spread::of([f64::NAN, 1.0]).map(|s| s.max), Some(1.0));
    }

    #[test]
    fn every_contender_has_one_turn_a_round() {
        for n in 0..20 {
            for rounds in 1..8 {
                for round in 0..rounds {
                    let turns = order(n, round, rounds);
                    let once: BTreeSet<usize> = turns.iter().copied().collect();
                    assert_eq!((turns.len(), once.len()), (n, n), "{n} {round}/{rounds}");
                }
            }
        }
    }

    #[test]
    fn no_contender_is_always_first_or_after_the_same_one() {
        let rounds = 5;
        let turns: Vec<Vec<usize>> = (0..rounds).map(|r| order(13, r, rounds)).collect();
        let firsts: BTreeSet<usize> = turns.iter().map(|t| t[0]).collect();
        assert_eq!(firsts.len(), rounds);
        for who in 0..13 {
            let before: BTreeSet<Option<usize>> = turns
                .iter()
                .filter_map(|t| {
                    let at = t.iter().position(|&x| x == who)?;
                    Some(at.checked_sub(1).map(|i| t[i]))
                })
                .collect();
            assert!(before.len() > 1, "{who}: {before:?}");
        }
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert!((percentile(&values, 50.0) - 100.0).abs() < 1e-9);
        assert!((percentile(&values, 99.0) - 198.0).abs() < 1e-9);
        assert!((percentile(&values, 100.0) - 200.0).abs() < 1e-9);
        assert!((percentile(&values[..1], 99.0) - 1.0).abs() < 1e-9);
        assert!(percentile(&[], 99.0).abs() < 1e-9);
    }

    #[test]
    fn a_share_of_nothing_is_none() {
        assert_eq!(ratio(1.0, 0.0), None);
        assert_eq!(ratio(1.0, 2.0), Some(0.5));
    }
}
