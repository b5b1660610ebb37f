//! Tampering with the log, as a superuser: each kind is found and named by number.

use super::{ID, TWO_WAYS, plain, ready};

async fn broken(sql: &str, expected: &str) {
    let (db, cli) = ready("chain", &plain(100), TWO_WAYS).await;
    let whole = cli
        .run(&["--format", "json", "log", "--verify"])
        .await
        .expect(0)
        .json();
    let last = whole["entries"].as_i64().unwrap();
    assert!(last > 8, "{whole}");
    assert_eq!(whole["faults"], serde_json::json!([]));
    db.execute(&sql.replace("{last}", &last.to_string())).await;
    let output = cli.run(&["log", "--verify"]).await.expect(1);
    let expected = expected
        .replace("{last}", &last.to_string())
        .replace("{last-1}", &(last - 1).to_string())
        .replace("{last+1}", &(last + 1).to_string());
    assert!(
        output.stderr.contains(&expected),
        "{expected}: {}",
        output.stderr
    );
    let noted = whole["last"].as_str().unwrap();
    let json = cli
        .run(&["--format", "json", "log", "--verify", "--noted", noted])
        .await;
    assert_eq!(json.code, Some(1));
    // What was found stays found when the log goes on.
    cli.run(&["contract", ID]).await.expect(0);
    let output = cli.run(&["log", "--verify"]).await.expect(1);
    let first = expected.split(';').next().unwrap().trim();
    if !first.contains("put after") && !first.contains(&format!("entry {last} was edited")) {
        assert!(output.stderr.contains(first), "{first}: {}", output.stderr);
    }
}

#[tokio::test]
async fn an_edited_entry() {
    broken(
        "UPDATE pgshift.event SET actor = 'nobody' WHERE seq = 4",
        "entry 4 was edited",
    )
    .await;
}

#[tokio::test]
async fn an_entry_deleted_in_the_middle() {
    broken(
        "DELETE FROM pgshift.event WHERE seq IN (3, 4, 6)",
        "entries 3 to 4 missing; entry 6 missing",
    )
    .await;
}

#[tokio::test]
async fn entries_deleted_at_the_end() {
    broken(
        "DELETE FROM pgshift.event WHERE seq > {last} - 2",
        "entries {last-1} to {last} missing",
    )
    .await;
}

#[tokio::test]
async fn all_entries_deleted() {
    broken("DELETE FROM pgshift.event", "entries 1 to {last} missing").await;
}

#[tokio::test]
async fn two_entries_swapped() {
    broken(
        "UPDATE pgshift.event e SET at = o.at, kind = o.kind, detail = o.detail, actor = o.actor
         FROM pgshift.event o WHERE e.seq IN (3, 5) AND o.seq = 8 - e.seq",
        "entry 3 was edited; entry 5 was edited",
    )
    .await;
}

#[tokio::test]
async fn an_entry_inserted() {
    broken(
        "INSERT INTO pgshift.event SELECT {last} + 1, at, migration_id, run_id, actor, kind, detail,
             pgshift.event_hash(hash, {last} + 1, at, migration_id, run_id, actor, kind, detail)
         FROM pgshift.event WHERE seq = {last}",
        "entry {last+1} put after the end",
    )
    .await;
    broken(
        "UPDATE pgshift.event SET seq = -seq WHERE seq >= 4;
         UPDATE pgshift.event SET seq = 1 - seq WHERE seq < 0;
         INSERT INTO pgshift.event SELECT 4, at, migration_id, run_id, actor, kind, detail, hash
         FROM pgshift.event WHERE seq = 3",
        "entry 4 was edited; entry 5 was edited",
    )
    .await;
}

#[tokio::test]
async fn the_last_entry_written_anew() {
    broken(
        "UPDATE pgshift.event e SET actor = 'nobody', hash = pgshift.event_hash(p.hash, e.seq, e.at,
             e.migration_id, e.run_id, 'nobody', e.kind, e.detail)
         FROM pgshift.event p WHERE e.seq = {last} AND p.seq = e.seq - 1",
        "entry {last} was edited",
    )
    .await;
}

#[tokio::test]
async fn the_head_removed() {
    broken(
        "DELETE FROM pgshift.event_head",
        "the head of the log is gone",
    )
    .await;
}

/// Who sets the head back too leaves no trace in the database; an entry noted elsewhere shows it.
#[tokio::test]
async fn a_noted_entry_shows_a_cut_with_its_head() {
    let (db, cli) = ready("chain_noted", &plain(10), TWO_WAYS).await;
    let whole = cli
        .run(&["--format", "json", "log", "--verify"])
        .await
        .expect(0)
        .json();
    let noted = whole["last"].as_str().unwrap().to_owned();
    cli.run(&["log", "--verify", "--noted", &noted])
        .await
        .expect(0);
    db.execute(
        "DELETE FROM pgshift.event WHERE seq = (SELECT max(seq) FROM pgshift.event);
         UPDATE pgshift.event_head SET (seq, hash) =
             (SELECT seq, hash FROM pgshift.event ORDER BY seq DESC LIMIT 1)",
    )
    .await;
    cli.run(&["log", "--verify"]).await.expect(0);
    let output = cli
        .run(&["log", "--verify", "--noted", &noted])
        .await
        .expect(1);
    let (last, _) = noted.split_once(':').unwrap();
    assert!(
        output.stderr.contains(&format!("entry {last} missing")),
        "{}",
        output.stderr
    );
    cli.run(&["log", "--verify", "--noted", "x"])
        .await
        .expect(2);
}
