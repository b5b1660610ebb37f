//! Samples of rows: which row places to try, and what the share of wrong ones bounds.
//!
//! A place (block, line pointer) is drawn uniformly and kept where a visible row is in it: so each
//! row is as likely as any other, however full its block is, and rows are independent of each
//! other. Samples of whole blocks are not: wrong rows stand together.

use std::str::FromStr;

/// How many rows to draw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Size {
    /// About this many.
    Rows(u64),
    /// A share in `0..=1`.
    Share(f64),
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "a sample is a number of rows (10000) or a share of them (1%)".to_owned();
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.trim().parse().map_err(|_| wrong())?;
            let fits = percent > 0.0 && percent <= 100.0;
            return fits
                .then_some(Self::Share(percent / 100.0))
                .ok_or_else(wrong);
        }
        let rows = text.replace(['_', ','], "").parse().map_err(|_| wrong())?;
        if rows == 0 {
            Err(wrong())
        } else {
            Ok(Self::Rows(rows))
        }
    }
}

/// The most line pointers of a page: `MaxHeapTuplesPerPage` of `htup_details.h`, that is
/// (page − page header) / (tuple header, aligned, + line pointer).
pub fn places_per_block(block_size: u32) -> u32 {
    block_size.saturating_sub(24) / (24 + 4)
}

/// Places to try so that about the wanted rows are met, where a table has `rows` rows (estimated)
/// in `blocks` blocks.
pub fn places(size: Size, rows: i64, blocks: i64, per_block: u32) -> u64 {
    let all = blocks.max(0) as f64 * f64::from(per_block);
    let share = match size {
        Size::Share(share) => share,
        Size::Rows(wanted) => wanted as f64 / rows.max(1) as f64,
    };
    (all * share).ceil().max(1.0) as u64
}

/// The largest share of wrong rows that is plausible at 95 % confidence where `wrong` of `sampled`
/// rows were: the one-sided upper bound of the Poisson distribution, which lies above that of the
/// binomial one.
///
/// For none it is the rule of three, 3 / n (Hanley and Lippman-Hand, "If nothing goes wrong, is
/// everything all right?", JAMA 249, 1983).
pub fn at_most(wrong: u64, sampled: u64) -> f64 {
    if sampled == 0 {
        return 1.0;
    }
    if wrong == 0 {
        return (3.0 / sampled as f64).min(1.0);
    }
    // The expected number of which as few as `wrong` come in 5 % of all samples.
    let chance = |expected: f64| {
        let mut term = (-expected).exp();
        let mut sum = term;
        for k in 1..=wrong {
            term *= expected / k as f64;
            sum += term;
        }
        sum
    };
    // Beyond this e^-λ underflows; the normal approximation serves there.
    if wrong > 500 {
        let wrong = wrong as f64;
        return ((wrong + 1.645 * wrong.sqrt() + 2.0) / sampled as f64).min(1.0);
    }
    let (mut low, mut high) = (wrong as f64, wrong as f64 * 2.0 + 10.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if chance(middle) > 0.05 {
            low = middle;
        } else {
            high = middle;
        }
    }
    (high / sampled as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!("1%".parse(), Ok(Size::Share(0.01)));
        assert_eq!("10_000".parse(), Ok(Size::Rows(10_000)));
        for wrong in ["", "0", "0%", "101%", "-1", "x", "NaN%"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_bound_is_the_rule_of_three_and_that_of_poisson() {
        assert!((at_most(0, 10_000) - 0.0003).abs() < 1e-9);
        // Tables of the Poisson distribution: 4.744, 6.296, 16.962 for 1, 2 and 10.
        for (wrong, expected) in [(1, 4.744), (2, 6.296), (10, 16.962)] {
            assert!(
                (at_most(wrong, 1_000) * 1_000.0 - expected).abs() < 0.001,
                "{wrong}"
            );
        }
        assert!((at_most(0, 1) - 1.0).abs() < f64::EPSILON && at_most(0, 0) > 0.99);
        for wrong in 1..600 {
            assert!(at_most(wrong, 100_000) > wrong as f64 / 100_000.0);
            assert!(
                at_most(wrong, 100_000) > at_most(wrong - 1, 100_000),
                "{wrong}"
            );
        }
    }

    #[test]
    fn places_are_as_many_as_meet_the_rows() {
        assert_eq!(places_per_block(8192), 291);
        assert_eq!(places(Size::Share(1.0), 0, 10, 291), 2910);
        assert_eq!(places(Size::Rows(100), 1_000, 10, 291), 291);
        assert_eq!(places(Size::Rows(5), 0, 0, 291), 1);
    }
}
