//! A change of a column's type by pgshift against the same by ALTER TABLE … ALTER COLUMN … TYPE, on
//! tables made at random with everything that a table can have: the same catalog and the same rows
//! in the end, and what was there before after a revert.
//!
//! `PGSHIFT_TEST_CASES=500` runs so many cases, `PGSHIFT_TEST_SEED=7` begins at that one,
//! `PGSHIFT_TEST_WRONG=50` goes on until so many are wrong. Where pgshift refuses a table while planning, it must say why
//! and what else to do; after a plan nothing may fail.

mod case;
mod generate;
mod judge;
mod mutations;
mod names;
mod run;
mod types;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use futures_util::stream;

use super::support::{Db, message};
use case::Build;
use generate::case;
use judge::Picture;
use run::{NOT_A_CASE, Rooms, Route, Tally, Verdict, build, empty, run, shrink};

/// Cases of an ordinary run, from seed 1.
const CASES: u64 = 12;
/// Seeds that once found something, whatever the number of cases.
const AGAIN: &[u64] = &[];
/// The share that may be refused, 0 to 1.
const REFUSED_AT_MOST: f64 = 0.25;
/// Wrong cases after which no more are run; the first is made smaller.
const ENOUGH: u64 = 5;
/// Cases at a time.
const AT_A_TIME: usize = 2;

fn number(variable: &str) -> Option<u64> {
    std::env::var_os(variable)?.to_str()?.parse().ok()
}

/// The major version of the servers.
async fn major() -> u32 {
    let db = Db::create("retype_random_version").await;
    let version: i32 = db
        .one("SELECT current_setting('server_version_num')::int")
        .await;
    version as u32 / 10_000
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_as_a_direct_change_does() {
    let major = major().await;
    let (first, cases) = (number("PGSHIFT_TEST_SEED"), number("PGSHIFT_TEST_CASES"));
    let again = AGAIN.iter().copied().filter(|_| cases.is_none());
    let seeds: Vec<u64> = (first.unwrap_or(1)..)
        .take(cases.unwrap_or(CASES) as usize)
        .chain(again)
        .collect();
    let rooms = Rooms::default();
    let mut tally = Tally::default();
    let mut kinds: BTreeSet<&str> = BTreeSet::new();
    let mut verdicts = stream::iter(seeds)
        .map(|seed| {
            let rooms = &rooms;
            async move {
                let case = case(seed, major, None);
                let verdict = run(&case, Route::of(seed), rooms).await;
                (case, verdict)
            }
        })
        .buffer_unordered(AT_A_TIME);
    let mut wrong = Vec::new();
    while let Some((case, verdict)) = verdicts.next().await {
        tally.add(&verdict, &case);
        match verdict {
            Verdict::Wrong(why) => {
                eprintln!("PGSHIFT_TEST_SEED={} is wrong: {why}", case.seed);
                wrong.push((case, why));
                if wrong.len() as u64 == number("PGSHIFT_TEST_WRONG").unwrap_or(ENOUGH) {
                    break;
                }
            }
            Verdict::Same => kinds.extend(case.kinds()),
            _ => {}
        }
    }
    drop(verdicts);
    eprintln!("{}", tally.text());
    if let Some((case, why)) = wrong.into_iter().next() {
        let route = Route::of(case.seed);
        assert!(!why.starts_with(NOT_A_CASE), "{why}\n{}", case.text());
        let (small, less) = shrink(&case, route, why, &rooms).await;
        panic!(
            "{route:?}, in the smallest case: {less}\n\n{}",
            small.text()
        );
    }
    if tally.same == 0 {
        eprintln!("SKIPPED: pgshift plans none of these changes yet");
        return;
    }
    eprintln!("with {kinds:?}");
    assert!(
        tally.share_refused() <= REFUSED_AT_MOST,
        "more than {:.0} % are refused:\n{}",
        REFUSED_AT_MOST * 100.0,
        tally.text()
    );
}

/// Made twice it is the same, and in another order of columns too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_case_twice_is_equal() {
    let major = major().await;
    let room = Rooms::default().take().await;
    let mut possible = 0;
    for seed in 1..=16 {
        let case = case(seed, major, None);
        if build(&case, Build::Direct, false, &room.one).await.is_err() {
            continue;
        }
        possible += 1;
        let again = build(&case, Build::Direct, true, &room.two).await;
        again.expect("the same");
        let mut differences = Picture::take(&room.one)
            .await
            .differences(&Picture::take(&room.two).await, false);
        // ALTER TYPE makes the parts of indexes anew in no fixed order, and so are those of the same
        // columns numbered.
        differences.retain(|d| case.partitions.is_none() || !d.contains(" index "));
        assert!(
            differences.is_empty(),
            "{}\n{}",
            differences.join("\n"),
            case.text()
        );
    }
    assert!(possible > 8, "{possible} of the changes are possible");
}

/// Whatever a case has, the judge sees when it comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_feature_is_seen() {
    let major = major().await;
    let room = Rooms::default().take().await;
    let db = &room.one;
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut missed: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 1..=30 {
        let case = case(seed, major, Some([1.0, 0.5][(seed % 2) as usize]));
        let statements = case.statements(Build::Before, false);
        if statements
            .iter()
            .all(|(kind, _)| kind.is_none_or(|kind| seen.contains(kind)))
        {
            continue;
        }
        empty(&case, db).await;
        let client = db.client().await;
        let mut before: Option<Picture> = None;
        for (kind, sql) in statements {
            let new = kind.filter(|kind| !seen.contains(kind));
            if new.is_some() && before.is_none() {
                before = Some(Picture::take(db).await);
            }
            let done = client.batch_execute(&sql).await;
            done.unwrap_or_else(|e| panic!("{} in:\n{sql}\n{}", message(&e), case.text()));
            let Some((kind, was)) = new.zip(before.take()) else {
                continue;
            };
            let is = Picture::take(db).await;
            if was.differences(&is, false).is_empty() {
                // It may say again what another said: then another case must tell.
                missed.insert(kind, seed);
            } else {
                seen.insert(kind);
                missed.remove(kind);
            }
            before = Some(is);
        }
    }
    eprintln!("{} kinds of features: {seen:?}", seen.len());
    // A dropped column is there to be no difference.
    missed.remove("dropped column");
    assert!(missed.is_empty(), "not seen, and in which seed: {missed:?}");
    assert!(seen.len() > 75, "{} kinds: {seen:?}", seen.len());
}
