//! The log of a database against its state: is the chain whole, is an event lost or doubled?

use pgshift::store::events;

use crate::support::Db;

/// Steps of closed runs are told as done once; those of an abandoned run too, if they were done.
const STEPS: &str = "
    SELECT format('run %s step %s (%s) is %s and told as done %s times', s.run_id, s.ordinal,
                  s.title, s.state, told)
    FROM pgshift.step s, LATERAL (
        SELECT count(*) AS told FROM pgshift.event e
        WHERE e.run_id = s.run_id AND e.kind = 'step_done'
          AND (e.detail->>'step')::int = s.ordinal) e
    WHERE told <> CASE s.state WHEN 'done' THEN 1 ELSE 0 END
    ORDER BY s.run_id, s.ordinal";

/// A step is told as begun before it is told as done, and a run's end once, after all else of it.
const RUNS: &str = "
    SELECT format('run %s is %s and its end is told %s times', r.id, r.state, told)
    FROM pgshift.run r, LATERAL (
        SELECT count(*) AS told FROM pgshift.event e
        WHERE e.run_id = r.id AND e.kind = 'run_finished') e
    WHERE told <> CASE r.state WHEN 'done' THEN 1 ELSE 0 END
    UNION ALL
    SELECT format('event %s (%s) of run %s comes after its end', e.seq, e.kind, e.run_id)
    FROM pgshift.event e JOIN pgshift.event f
      ON f.run_id = e.run_id AND f.kind = 'run_finished' AND e.seq > f.seq
    -- A repair works under the epoch of the last run, whose end it may be after.
    WHERE e.kind <> 'repaired'
    UNION ALL
    SELECT format('run %s: step %s is done, and its beginning was not told before', d.run_id,
                  d.detail->>'step')
    FROM pgshift.event d
    WHERE d.kind = 'step_done' AND NOT EXISTS (
        SELECT FROM pgshift.event b WHERE b.run_id = d.run_id AND b.kind = 'step_started'
          AND b.detail->>'step' = d.detail->>'step' AND b.seq < d.seq)
    UNION ALL
    SELECT format('run %s is done and its step %s is not', r.id, s.ordinal)
    FROM pgshift.run r JOIN pgshift.step s ON s.run_id = r.id AND s.state <> 'done'
    WHERE r.state = 'done'";

/// What is wrong with the log.
pub(crate) async fn wrong_with(db: &Db) -> Vec<String> {
    // One of its own: after a failover the first is of a server that is gone.
    let client = db.client().await;
    let (_, faults) = events::verify(&client, None).await.expect("the log");
    let mut wrong = Vec::new();
    for sql in [STEPS, RUNS] {
        let rows = client.query(sql, &[]).await.expect(sql);
        wrong.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    }
    wrong.extend(faults.iter().map(|fault| format!("the chain: {fault:?}")));
    wrong
}

/// The steps that the last finished run did, with the rows that it changed.
pub(super) async fn done(db: &Db) -> Vec<String> {
    db.rows(
        "SELECT concat_ws(' ', r.kind, s.ordinal, s.phase, s.title, s.result->>'rows')
         FROM pgshift.run r JOIN pgshift.step s ON s.run_id = r.id
         WHERE r.id = (SELECT max(id) FROM pgshift.run WHERE state = 'done')
         ORDER BY s.ordinal",
    )
    .await
}
