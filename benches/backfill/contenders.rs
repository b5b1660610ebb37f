//! Who is compared: one plain UPDATE, pgshift with options, and models of other ways, which say
//! what they do.

use crate::figures::{L0, L1, REST, TOUCH};

/// One way of filling the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) way: Way,
    pub(crate) on: On,
}

/// On which tables it is run without being asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Every,
    These(&'static [&'static str]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Nothing for some seconds.
    Nothing,
    /// One UPDATE; with pgshift's trigger, if `trigger`.
    Plain {
        trigger: bool,
    },
    Pgshift(Pgshift),
    /// Batches by key that assign a column to itself; a trigger computes the value.
    Touch,
    /// `WHERE total_cents IS NULL LIMIT n` until none is left.
    LimitLoop,
    /// Batches by key, and a pause after each.
    KeysetSleep,
}

/// How pgshift is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pgshift {
    /// Options of the backfill section.
    pub(crate) options: &'static [&'static str],
    /// Arguments of the command line.
    pub(crate) arguments: &'static [&'static str],
}

/// Options that a binary may not have. Those of the first kind change nothing where it has none:
/// they say that a plain scan is wanted; the others are needed.
const NEUTRAL: [&str; 2] = ["stripes=1", "vacuum=off"];

impl Pgshift {
    const fn at_full_duty(options: &'static [&'static str]) -> Self {
        Self {
            options,
            arguments: &["--duty", "100%"],
        }
    }

    /// The options to write for a binary that takes those for which `takes` is true, or the one
    /// that it lacks.
    pub(crate) fn written(
        &self,
        takes: impl Fn(&str) -> bool,
    ) -> Result<Vec<&'static str>, &'static str> {
        let mut all = Vec::new();
        for &option in self.options {
            if takes(option) {
                all.push(option);
            } else if !NEUTRAL.contains(&option) {
                return Err(option);
            }
        }
        Ok(all)
    }
}

const BATCHED: &[&str] = &["batch=5000", "stripes=1", "vacuum=off"];
const BATCHED_TWO: &[&str] = &["batch=5000", "workers=2", "stripes=1", "vacuum=off"];
const PLAIN: &[&str] = &["stripes=1", "vacuum=off"];
const PLAIN_TWO: &[&str] = &["workers=2", "stripes=1", "vacuum=off"];
const KEYSET: &[&str] = &["strategy=keyset"];
const KEYSET_BATCHED: &[&str] = &["strategy=keyset", "batch=5000"];
const STRIPES_4: &[&str] = &["batch=5000", "stripes=4", "vacuum=off"];
const STRIPES_8: &[&str] = &["batch=5000", "stripes=8", "vacuum=off"];
const VACUUM: &[&str] = &["batch=5000", "stripes=1", "vacuum=5%"];
const BOTH: &[&str] = &["batch=5000", "stripes=4", "vacuum=5%"];

const fn pgshift(
    name: &'static str,
    about: &'static str,
    options: &'static [&'static str],
    on: On,
) -> Contender {
    Contender {
        name,
        about,
        way: Way::Pgshift(Pgshift::at_full_duty(options)),
        on,
    }
}

const fn other(name: &'static str, about: &'static str, way: Way, on: On) -> Contender {
    Contender {
        name,
        about,
        way,
        on,
    }
}

/// All of them, in the order of the tables.
pub(crate) const CONTENDERS: [Contender; 20] = [
    other(
        REST,
        "the application alone",
        Way::Nothing,
        On::These(&["app"]),
    ),
    other(
        L0,
        "L0: one UPDATE of the whole table in one transaction, without any trigger",
        Way::Plain { trigger: false },
        On::Every,
    ),
    other(
        L1,
        "L1: the same with pgshift's sync trigger on the table, which it skips as pgshift's own \
         writes do",
        Way::Plain { trigger: true },
        On::These(&[
            "int0", "int2", "int5", "uuid", "toast", "parts", "big", "smallwal",
        ]),
    ),
    pgshift(
        "ctid-5k",
        "pgshift by blocks in one pass, `batch=5000`, one worker, duty 100 %",
        BATCHED,
        On::These(&[
            "int0", "int2", "int5", "uuid", "toast", "parts", "big", "smallwal",
        ]),
    ),
    pgshift(
        "ctid-5k-2w",
        "`ctid-5k` with two workers",
        BATCHED_TWO,
        On::These(&["int0", "int2"]),
    ),
    pgshift(
        "ctid",
        "pgshift by blocks in one pass, with chunks of the default working time, one worker, \
         duty 100 %",
        PLAIN,
        On::These(&["int0"]),
    ),
    Contender {
        name: "ctid-20ms",
        about: "`ctid` with `--chunk-target 20ms`",
        way: Way::Pgshift(Pgshift {
            options: PLAIN,
            arguments: &["--duty", "100%", "--chunk-target", "20ms"],
        }),
        on: On::These(&["int0"]),
    },
    pgshift(
        "ctid-2w",
        "`ctid` with two workers",
        PLAIN_TWO,
        On::These(&[]),
    ),
    pgshift(
        "keyset-5k",
        "pgshift by primary key, `batch=5000`, duty 100 %",
        KEYSET_BATCHED,
        On::These(&["int0", "uuid"]),
    ),
    pgshift(
        "keyset",
        "pgshift by primary key, with chunks of the default working time, duty 100 %",
        KEYSET,
        On::These(&[]),
    ),
    pgshift(
        "stripes-4",
        "pgshift by blocks in four passes over each window, `batch=5000`, duty 100 %",
        STRIPES_4,
        On::These(&[
            "int0", "int2", "int5", "uuid", "toast", "parts", "big", "smallwal",
        ]),
    ),
    pgshift(
        "stripes-8",
        "pgshift by blocks in eight passes over each window, `batch=5000`, duty 100 %",
        STRIPES_8,
        On::These(&["int0", "int2"]),
    ),
    pgshift(
        "vacuum-5",
        "pgshift by blocks in one pass, with a VACUUM after every 5 % of the table, `batch=5000`, \
         duty 100 %",
        VACUUM,
        On::These(&["int0", "int2"]),
    ),
    pgshift(
        "stripes-4-vacuum-5",
        "four passes and VACUUM, `batch=5000`, duty 100 %",
        BOTH,
        On::These(&["int0"]),
    ),
    pgshift(
        "auto",
        "pgshift without any option but duty 100 %: what it chooses by itself",
        &[],
        On::Every,
    ),
    pgshift(
        "auto-2w",
        "`auto` with two workers",
        &["workers=2"],
        On::These(&[
            "int0", "int2", "int5", "uuid", "toast", "parts", "big", "smallwal",
        ]),
    ),
    Contender {
        name: "default",
        about: "pgshift without any option: what it chooses by itself, under the default throttle \
                (half of the time)",
        way: Way::Pgshift(Pgshift {
            options: &[],
            arguments: &[],
        }),
        on: On::These(&["int0", "app"]),
    },
    other(
        TOUCH,
        "as view-and-trigger tools do: batches of 1,000 by key that assign the key to itself, and \
         a trigger that computes the value",
        Way::Touch,
        On::Every,
    ),
    other(
        "limit-loop",
        "`UPDATE … WHERE id IN (SELECT id … WHERE total_cents IS NULL LIMIT 5000)` until none is \
         left",
        Way::LimitLoop,
        On::These(&["int0"]),
    ),
    other(
        "keyset-sleep",
        "batches of 1,000 by key, each in a transaction of its own, and 10 ms of sleep after each",
        Way::KeysetSleep,
        On::These(&["int0", "app"]),
    ),
];

/// Contenders to run on a table: those named, or the usual ones. With names the two that all are
/// compared with stay.
pub(crate) fn on(table: &str, only: &[String]) -> Vec<Contender> {
    CONTENDERS
        .iter()
        .filter(|c| {
            let usual = match c.on {
                On::Every => true,
                On::These(tables) => tables.contains(&table),
            };
            let compared = [L0, L1, REST].contains(&c.name);
            if only.is_empty() || compared {
                usual
            } else {
                only.iter().any(|name| name == c.name)
            }
        })
        .copied()
        .collect()
}

#[cfg(test)]
#[allow(dead_code, unused_imports, reason = "run by tests/benches.rs")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::tables::{APPLICATION, TABLES};

    fn names(all: &[Contender]) -> Vec<&str> {
        all.iter().map(|c| c.name).collect()
    }

    #[test]
    fn names_are_unique_and_tables_are_there() {
        let unique: BTreeSet<&str> = CONTENDERS.iter().map(|c| c.name).collect();
        assert_eq!(unique.len(), CONTENDERS.len());
        for contender in CONTENDERS {
            let On::These(tables) = contender.on else {
                continue;
            };
            for name in tables {
                let known = TABLES.iter().any(|t| t.name == *name) || *name == APPLICATION.name;
                assert!(known, "{name}");
            }
        }
    }

    #[test]
    fn whatever_is_asked_for_the_measure_stays() {
        assert_eq!(names(&on("int0", &["keyset".into()])), [L0, L1, "keyset"]);
        assert_eq!(names(&on("toast", &["keyset".into()])), [L0, L1, "keyset"]);
        assert_eq!(
            names(&on("app", &["default".into()])),
            [REST, L0, "default"]
        );
        assert!(names(&on("uuid", &[])).contains(&TOUCH));
    }

    #[test]
    fn a_binary_without_an_option_is_plain_by_itself() {
        let old = |option: &str| !option.starts_with("stripes") && !option.starts_with("vacuum");
        let plain = Pgshift::at_full_duty(BATCHED);
        assert_eq!(plain.written(old), Ok(vec!["batch=5000"]));
        assert_eq!(plain.written(|_| true), Ok(BATCHED.to_vec()));
        assert_eq!(
            Pgshift::at_full_duty(STRIPES_4).written(old),
            Err("stripes=4")
        );
        assert_eq!(Pgshift::at_full_duty(VACUUM).written(old), Err("vacuum=5%"));
    }
}
