//! Every durable write of a run, disturbed: the process is aborted before or after it, or its reply
//! is lost; and again in the recovery. What comes of it is what comes of an undisturbed run.
//!
//! The points are in `src/fault.rs`, compiled in with the feature `fault-points`, which
//! `scripts/test.sh` sets. The short form meets every point once, every example and every
//! command but purge; `scripts/faults.sh --points` runs the long one.

mod case;
pub(crate) mod history;
mod outside;
mod reference;
pub(crate) mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures_util::StreamExt as _;
use pgshift::fault;

use case::{Case, Verdict, Way};
use reference::{Leg, Reference};
pub(crate) use table::Row;

use crate::examples;

/// Runs at a time; each is a process of pgshift that waits for its server most of the time.
const ABREAST: usize = 4;
/// Pairs of points in the short form.
const PAIRS: usize = 6;

pub(crate) fn seed() -> u64 {
    let seed = std::env::var_os("PGSHIFT_TEST_SEED")
        .and_then(|seed| seed.to_str()?.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    eprintln!("PGSHIFT_TEST_SEED={seed}");
    seed
}

async fn references(purge: bool) -> Vec<Reference> {
    let names: BTreeSet<String> = std::fs::read_dir(examples::folder())
        .expect("migrations-examples/")
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    futures_util::stream::iter(&names)
        .map(|name| Reference::of(name, purge))
        .buffered(ABREAST)
        .collect()
        .await
}

/// Where a point can be met: example, leg, how often it is passed there.
type Places = BTreeMap<String, Vec<(usize, Leg, u64)>>;

fn places(references: &[Reference]) -> Places {
    let mut places = Places::new();
    for (example, reference) in references.iter().enumerate() {
        for (leg, station) in &reference.stations {
            for (point, times) in station.passings() {
                let of = places.entry(point.to_owned()).or_default();
                of.push((example, *leg, times));
            }
            // Undisturbed runs of examples end before the first sign of life, and leave no index
            // unfinished: `case` brings about that these are passed.
            let passes = |write: &str| station.passed.contains(&format!("{write}.before"));
            let waits = passes("step_ddl") || passes("chunk");
            let builds = *leg == Leg::Apply && passes("concurrent");
            for (write, there) in [(case::HEARTBEAT, waits), (case::LEFTOVER, builds)] {
                for side in fault::Side::ALL.into_iter().filter(|_| there) {
                    let point = format!("{write}.{}", side.name());
                    places.entry(point).or_default().push((example, *leg, 1));
                }
            }
        }
    }
    places
}

fn way(rng: &mut Rng) -> Way {
    if rng.u8(0..3) == 0 {
        Way::Back
    } else {
        Way::On
    }
}

/// The first passing, the last, or one between.
fn some(rng: &mut Rng, times: u64) -> u64 {
    match rng.u8(0..3) {
        0 => 1,
        1 => times,
        _ => rng.u64(1..=times),
    }
}

fn one(rng: &mut Rng, point: &str, (example, leg, times): (usize, Leg, u64)) -> Case {
    Case {
        example,
        leg,
        faults: vec![format!("{point}:{}", some(rng, times))],
        way: way(rng),
        on: rng.u8(0..3) == 0,
    }
}

/// Every point once; every example and every leg among them, and pairs.
fn short(rng: &mut Rng, places: &Places, examples: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut missing: BTreeSet<usize> = (0..examples).collect();
    let mut legs: BTreeSet<Leg> = places.values().flatten().map(|place| place.1).collect();
    let mut points: Vec<&String> = places.keys().collect();
    rng.shuffle(&mut points);
    for point in points {
        let places = &places[point];
        let wanted: Vec<_> = places
            .iter()
            .filter(|(example, leg, _)| missing.contains(example) || legs.contains(leg))
            .collect();
        let choice = if wanted.is_empty() {
            places.iter().collect()
        } else {
            wanted
        };
        let place = *choice[rng.usize(..choice.len())];
        missing.remove(&place.0);
        legs.remove(&place.1);
        cases.push(one(rng, point, place));
    }
    assert!(
        missing.is_empty() && legs.is_empty(),
        "{missing:?} {legs:?}"
    );
    for _ in 0..PAIRS {
        cases.push(pair(rng, places));
    }
    cases
}

/// Two faults, the second in the recovery of the first.
fn pair(rng: &mut Rng, places: &Places) -> Case {
    let points: Vec<&String> = places.keys().collect();
    let point = points[rng.usize(..points.len())];
    let of = &places[point];
    let place = of[rng.usize(..of.len())];
    let mut case = one(rng, point, place);
    // What a recovery passes is not known before; most points come early in it.
    let second = points[rng.usize(..points.len())];
    case.faults
        .push(format!("{second}:{}", 1 + rng.u64(0..3) / 2));
    case
}

/// Every point of every leg of every example at its first, last and some other passing, with as
/// many pairs among them.
fn long(rng: &mut Rng, places: &Places) -> Vec<Case> {
    let mut cases = Vec::new();
    for (point, of) in places {
        for place in of {
            let between = rng.u64(1..=place.2);
            let passings: BTreeSet<u64> = [1, place.2, between].into();
            for passing in passings {
                let mut case = one(rng, point, *place);
                case.faults = vec![format!("{point}:{passing}")];
                cases.push(case);
                cases.push(pair(rng, places));
            }
        }
    }
    rng.shuffle(&mut cases);
    cases
}

/// Runs cases until the time is up, and gives a row for each kind.
async fn all(
    cases: &[Case],
    references: &[Reference],
    time: Duration,
) -> (BTreeMap<&'static str, Row>, String) {
    let begun = Instant::now();
    let mut rows: BTreeMap<&'static str, Row> = BTreeMap::new();
    let mut bad = Vec::new();
    let mut runs = futures_util::stream::iter(cases)
        .take_while(|_| std::future::ready(begun.elapsed() < time))
        .map(|case| async move { (case, case::run(case, &references[case.example]).await) })
        .buffer_unordered(ABREAST);
    while let Some((case, verdict)) = runs.next().await {
        let Verdict {
            reverted,
            wrong,
            lost,
            story,
            ..
        } = &verdict;
        let row = rows.entry(case.kind()).or_default();
        row.count(*reverted, wrong.len(), lost.len());
        if !verdict.good() {
            let name = &references[case.example].name;
            let found = format!("wrong: {wrong:#?}\nlog: {lost:#?}\n{story}");
            bad.push(format!("== {name} {case:?}\n{found}"));
        }
    }
    (rows, bad.join("\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(
    not(feature = "fault-points"),
    ignore = "needs the feature fault-points"
)]
async fn at_every_point_nothing_is_lost() {
    let mut rng = Rng::with_seed(seed());
    let begun = Instant::now();
    let references = references(false).await;
    let places = places(&references);
    let passed: BTreeSet<&str> = places.keys().map(String::as_str).collect();
    let points: Vec<String> = fault::points().collect();
    let never: Vec<&String> = points
        .iter()
        .filter(|point| !passed.contains(point.as_str()))
        // These are of other commands: see `outside`.
        .filter(|point| {
            let of = |write: &fault::Write| point.starts_with(&format!("{}.", write.name()));
            !fault::Write::OUTSIDE.iter().any(of)
        })
        .collect();
    assert!(never.is_empty(), "no example passes {never:?}");
    let cases = short(&mut rng, &places, references.len());
    eprintln!("{} cases after {:?}", cases.len(), begun.elapsed());
    let (rows, bad) = all(&cases, &references, Duration::from_mins(10)).await;
    table::write(&rows);
    eprintln!("{:?}", begun.elapsed());
    assert!(bad.is_empty(), "{bad}");
}

/// For `scripts/faults.sh`: as many as `PGSHIFT_FAULTS_MINUTES` allow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the long form, for scripts/faults.sh"]
async fn at_every_point_of_every_example() {
    let mut rng = Rng::with_seed(seed());
    let references = references(true).await;
    let cases = long(&mut rng, &places(&references));
    let (rows, bad) = all(&cases, &references, table::time()).await;
    table::write(&rows);
    assert!(bad.is_empty(), "{bad}");
}
