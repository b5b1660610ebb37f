//! Lives of a migration at random on a real server, held against a model of the documentation:
//! commands in any order, killed, interrupted, disconnected, with others at the same time, an
//! edited file, and the application writing meanwhile. After each of them exit code, state, schema,
//! rows, log and what the status says to do next must be the model's.

mod machine;
mod rows;
mod world;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures_util::StreamExt as _;

use crate::points::{Row, seed, table};
use machine::{Command, Machine, State};
use world::{Disturbance, File, Schemas, World};

/// Lives at a time.
const ABREAST: usize = 4;
/// Commands of a life.
const COMMANDS: usize = 24;
/// How long the short form begins new lives.
const SHORT: Duration = Duration::from_secs(15);

const FILES: [File; 2] = [
    File {
        name: "model",
        text: "-- pgshift: expand
ALTER TABLE orders ADD COLUMN total_cents bigint;

-- pgshift: backfill
UPDATE orders SET total_cents = round(total * 100)::bigint;

-- pgshift: reverse
UPDATE orders SET total = total_cents / 100.0;

-- pgshift: contract
ALTER TABLE orders ALTER COLUMN total_cents SET NOT NULL;
ALTER TABLE orders DROP COLUMN total;
",
        contract: true,
    },
    File {
        name: "model_plain",
        text: "CREATE INDEX orders_note ON orders (note);
ALTER TABLE orders ADD CONSTRAINT orders_total CHECK (total >= 0);
CREATE TABLE refunds (id bigint PRIMARY KEY, of bigint NOT NULL REFERENCES orders);
",
        contract: false,
    },
];

/// The next command: mostly one that leads somewhere, and at times any.
fn next(rng: &mut Rng, machine: &Machine) -> (Command, Disturbance) {
    if rng.u8(0..10) == 0 {
        return (
            Command::WORDS[rng.usize(..Command::WORDS.len())],
            Disturbance::Nothing,
        );
    }
    let end = rng.u8(0..4) == 0;
    let leads = |command: &Command| {
        let outcome = machine.outcome(*command);
        let there = outcome.path.last().copied();
        // The last state ends the life: not too soon.
        let on = end || there != Some(State::Purged) || machine.state == State::Purging;
        outcome.codes == [0] && there != Some(machine.state) && on
    };
    let leading: Vec<Command> = Command::RUNS.into_iter().filter(leads).collect();
    let any = leading.is_empty() || rng.u8(0..5) == 0;
    let from = if any { &Command::RUNS[..] } else { &leading };
    let command = from[rng.usize(..from.len())];
    let ms = rng.u64(20..700);
    let disturbance = match rng.u8(0..10) {
        0..=2 => Disturbance::Kill(ms),
        3 => Disturbance::Interrupt(ms),
        4 => Disturbance::Terminate(ms),
        5 => Disturbance::Beside,
        6 => Disturbance::Together(Command::RUNS[rng.usize(..Command::RUNS.len())]),
        _ => Disturbance::Nothing,
    };
    (command, disturbance)
}

/// One life; what was wrong in it, with its story.
async fn live(file: File, schemas: &Schemas, mut rng: Rng) -> (Row, usize, Option<String>) {
    let mut world = World::new(file, rng.fork()).await;
    for _ in 0..COMMANDS {
        let (command, disturbance) = next(&mut rng, &world.machine);
        world.run(command, disturbance).await;
        world.check(schemas).await;
        if !world.wrong.is_empty() {
            break;
        }
    }
    let mut row = Row::default();
    let reverted = world.machine.state == State::Reverted;
    row.count(reverted, world.wrong.len(), 0);
    if world.wrong.is_empty() {
        return (row, world.overlaps, None);
    }
    let url = world.project.db.url();
    let text = format!(
        "== {}\n{:#?}\n{}the database stays for a look: {url}",
        file.name, world.wrong, world.story
    );
    let overlaps = world.overlaps;
    std::mem::forget(world);
    (row, overlaps, Some(text))
}

async fn lives(time: Duration) -> (Row, Vec<String>) {
    let mut rng = Rng::with_seed(seed());
    let mut schemas = Vec::new();
    for file in FILES {
        schemas.push(World::schemas(file).await);
    }
    let begun = Instant::now();
    let numbers = (0_usize..).take_while(|_| begun.elapsed() < time);
    let mut all = futures_util::stream::iter(numbers)
        .map(|n| {
            // Two of three have all phases.
            let which = usize::from(n % 3 == 2);
            live(FILES[which], &schemas[which], rng.fork())
        })
        .buffer_unordered(ABREAST);
    let (mut sum, mut bad) = (Row::default(), Vec::new());
    let (mut lived, mut overlaps) = (0, 0);
    while let Some((row, held, wrong)) = all.next().await {
        sum += row;
        lived += 1;
        overlaps += held;
        bad.extend(wrong);
    }
    eprintln!("{lived} lives; beside {overlaps} live runs others tried theirs");
    if lived > 12 && overlaps == 0 {
        bad.push("no run was held for others to try theirs".to_owned());
    }
    table::write(&BTreeMap::from([(
        "commands at random, against the model",
        sum.clone(),
    )]));
    (sum, bad)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_commands_in_any_order_agree_with_the_model() {
    let (_, bad) = lives(SHORT).await;
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// For `scripts/faults.sh`: for as long as it is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the long form, for scripts/faults.sh"]
async fn lives_at_random_agree_with_the_model() {
    let (_, bad) = lives(table::time()).await;
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
