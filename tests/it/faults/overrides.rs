//! What a person says by plain SQL, as `docs/throttle.md` tells.

use std::time::{Duration, Instant};

use super::limits::{held_by, released};
use super::pause::{goes_on, stands_still};
use super::{ID, Scene};

const ROWS: u32 = 100_000;
/// From the COMMIT of the INSERT to the hold in the log.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Sets an override by hand.
async fn say(scene: &Scene, key: &str, value: &str, expires: &str) -> Instant {
    scene
        .db
        .execute(&format!(
            "INSERT INTO pgshift.override (migration_id, key, value, set_by, expires_at)
             VALUES ('{ID}', '{key}', '{value}', 'alice, by hand', {expires})"
        ))
        .await;
    Instant::now()
}

async fn unsay(scene: &Scene, key: &str) -> Instant {
    let delete = format!("DELETE FROM pgshift.override WHERE key = '{key}'");
    scene.db.execute(&delete).await;
    Instant::now()
}

#[track_caller]
fn at_once(since: Instant) {
    let after = since.elapsed();
    assert!(after < AT_ONCE, "{after:?}");
}

/// At the least duty pauses between chunks are seconds long; a word must not wait for their end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_written_by_hand_take_effect_within_a_second() {
    let scene = Scene::orders("by_hand", ROWS).await;
    let apply = scene.spawn(&["apply", "--duty", "0.01"]);
    scene.backfilling().await;

    let said = say(&scene, "pause", "", "NULL").await;
    let reason = held_by(&scene, "paused", 5).await;
    at_once(said);
    assert_eq!(reason, "paused by alice, by hand");
    stands_still(&scene).await;
    let said = unsay(&scene, "pause").await;
    released(&scene, "paused").await;
    at_once(said);
    goes_on(&scene).await;

    // A limit, for a time.
    let soon = "clock_timestamp() + interval '2 s'";
    let window: String = scene
        .one(
            "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC' + interval '2 h', 'HH24:MI-')
                 || to_char(clock_timestamp() AT TIME ZONE 'UTC' + interval '3 h', 'HH24:MI')",
        )
        .await;
    let said = say(&scene, "run-between", &window, soon).await;
    let reason = held_by(&scene, "closed", 5).await;
    at_once(said);
    assert!(reason.starts_with("outside of its hours"), "{reason}");
    released(&scene, "closed").await;
    let open = said.elapsed();
    assert!(
        (Duration::from_secs(2)..Duration::from_secs(2) + AT_ONCE).contains(&open),
        "{open:?}"
    );

    // More work, at once: at the duty from before, this would take a minute.
    say(&scene, "duty", "100%", "NULL").await;
    let (_, took) = super::ended_within(Duration::from_secs(30), apply).await;
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert_eq!(scene.wrong_orders().await, 0);
    assert_eq!(scene.state().await, "ready");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_written_by_hand_holds_as_blind_and_is_named() {
    let scene = Scene::orders("nonsense", ROWS).await;
    let apply = scene.spawn(&["apply", "--duty", "0.05"]);
    scene.backfilling().await;
    for (n, (key, value, why)) in [
        ("max-lag", "soonish", "\"soonish\" is not a duration"),
        ("max-lagg", "5s", "there is no limit \"max-lagg\""),
        ("duty", "NaN", "NaN is not above 0"),
    ]
    .into_iter()
    .enumerate()
    {
        let said = say(&scene, key, value, "NULL").await;
        let held = format!(
            "SELECT EXISTS (SELECT FROM pgshift.event WHERE kind = 'held'
                AND detail->>'reason' LIKE 'override {key} cannot be read: %')"
        );
        scene.until(key, &held).await;
        at_once(said);
        let reason: String = scene
            .one(
                "SELECT detail->>'reason' FROM pgshift.event WHERE kind = 'held'
                 ORDER BY seq DESC LIMIT 1",
            )
            .await;
        assert!(reason.contains(why), "{reason}");
        if n == 0 {
            stands_still(&scene).await;
        }
        let said = unsay(&scene, key).await;
        let gone = format!(
            "SELECT count(*) = {} FROM pgshift.event WHERE kind = 'released'",
            n + 1
        );
        scene.until("the release", &gone).await;
        at_once(said);
    }
    goes_on(&scene).await;
    scene.done(&["throttle", "set", ID, "duty=100%"]).await;
    apply.wait().await.expect(0);
    assert_eq!(scene.wrong_orders().await, 0);
}
