use std::time::Duration;

use pgshift::ErrorKind;
use pgshift::pg::probes::{
    Removal, blocked_by, blockers_of, horizon, is_in_recovery, oldest_snapshot_age, relation_state,
    replicas, wal_lsn, would_block,
};
use tokio_postgres::Client;

use super::{connect, in_database, run};

async fn pid(client: &Client) -> i32 {
    client
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0)
}

async fn oid(client: &Client, table: &str) -> u32 {
    client
        .query_one("SELECT $1::text::regclass::oid", &[&table])
        .await
        .unwrap()
        .get(0)
}

/// Until the backend `waiter` waits for a lock.
async fn waits(client: &Client, waiter: i32) {
    for _ in 0..500 {
        let sql = "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND NOT granted
                                  AND waitstart IS NOT NULL)";
        if client.query_one(sql, &[&waiter]).await.unwrap().get(0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("pid {waiter} does not wait");
}

#[test]
fn those_in_the_way_of_a_lock_are_named() {
    in_database(|db| async move {
        let (us, writer) = (db.connect().await, db.connect().await);
        run(
            &us,
            "CREATE TABLE t (a int); CREATE TABLE u (a int); INSERT INTO t VALUES (1)",
        )
        .await;
        let relations = [oid(&us, "t").await, oid(&us, "u").await];
        let conflicting = ["RowExclusiveLock"];
        assert_eq!(would_block(&us, &relations, &conflicting).await?, []);
        run(
            &writer,
            "SET application_name = 'the writer'; BEGIN; INSERT INTO u VALUES (1);\nUPDATE t\n SET a = 2",
        )
        .await;
        run(&us, "BEGIN; INSERT INTO t VALUES (2)").await;
        let found = would_block(&us, &relations, &conflicting).await?;
        assert_eq!(
            found.len(),
            1,
            "our own locks are not in our way: {found:?}"
        );
        let blocker = &found[0];
        assert_eq!(blocker.pid, Some(pid(&writer).await));
        assert_eq!(blocker.application_name.as_deref(), Some("the writer"));
        assert_eq!(blocker.state.as_deref(), Some("idle in transaction"));
        assert_eq!(
            blocker.locks,
            [
                "RowExclusiveLock on public.t",
                "RowExclusiveLock on public.u"
            ]
        );
        let query = blocker.query.as_deref().unwrap();
        assert!(
            query.ends_with("INSERT INTO u VALUES (1); UPDATE t SET a = 2"),
            "{query}"
        );
        assert!(blocker.transaction_age.unwrap() < Duration::from_mins(1));
        run(&us, "COMMIT").await;
        assert_eq!(
            would_block(&us, &relations, &["AccessExclusiveLock"]).await?,
            []
        );
        assert_eq!(would_block(&us, &[], &conflicting).await?, []);
        run(&writer, "COMMIT").await;
        assert_eq!(would_block(&us, &relations, &conflicting).await?, []);
        Ok(())
    });
}

#[test]
fn waiters_and_their_blockers_are_paired() {
    in_database(|db| async move {
        let (us, holder, waiter) = (db.connect().await, db.connect().await, db.connect().await);
        run(&us, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await;
        let (holding, waiting) = (pid(&holder).await, pid(&waiter).await);
        run(&holder, "BEGIN; UPDATE t SET a = 2").await;
        assert_eq!(blockers_of(&us, waiting).await?, []);
        assert_eq!(blocked_by(&us, &[holding]).await?, []);

        let waiter = tokio::spawn(async move {
            run(&waiter, "ALTER TABLE t ADD COLUMN b int").await;
            waiter
        });
        waits(&us, waiting).await;
        let blockers = blockers_of(&us, waiting).await?;
        assert_eq!(blockers.len(), 1);
        assert_eq!(blockers[0].pid, Some(holding));
        assert_eq!(blockers[0].locks, ["RowExclusiveLock on public.t"]);
        let blocked = blocked_by(&us, &[holding, 1]).await?;
        assert_eq!(blocked.len(), 1);
        assert_eq!((blocked[0].pid, &*blocked[0].by), (waiting, &[holding][..]));
        assert!(blocked[0].waited.unwrap() < Duration::from_mins(1));
        assert_eq!(
            blocked[0].query.as_deref(),
            Some("ALTER TABLE t ADD COLUMN b int")
        );
        assert_eq!(blocked_by(&us, &[1]).await?, []);
        run(&holder, "COMMIT").await;
        let waiter = waiter.await.unwrap();

        // A row lock: the waiter waits for the transaction, not for the relation.
        run(&holder, "BEGIN; UPDATE t SET a = 3").await;
        let waiter = tokio::spawn(async move { run(&waiter, "UPDATE t SET a = 4").await });
        waits(&us, waiting).await;
        let blockers = blockers_of(&us, waiting).await?;
        assert_eq!(blockers[0].pid, Some(holding));
        assert_eq!(blockers[0].locks, ["ExclusiveLock"]);
        assert_eq!(blocked_by(&us, &[holding]).await?[0].pid, waiting);
        run(&holder, "COMMIT").await;
        waiter.await.unwrap();
        Ok(())
    });
}

#[test]
fn prepared_transactions_block_too() {
    in_database(|db| async move {
        let (us, other) = (db.connect().await, db.connect().await);
        let allowed = us
            .query_one(
                "SELECT current_setting('max_prepared_transactions')::int",
                &[],
            )
            .await
            .unwrap();
        if allowed.get::<_, i32>(0) == 0 {
            return Ok(());
        }
        run(&us, "CREATE TABLE t (a int)").await;
        let gid = db.name.clone();
        run(
            &other,
            &format!("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION '{gid}'"),
        )
        .await;
        let found = would_block(&us, &[oid(&us, "t").await], &["RowExclusiveLock"]).await?;
        let waiting = pid(&other).await;
        let waiter =
            tokio::spawn(async move { run(&other, "ALTER TABLE t ADD COLUMN b int").await });
        waits(&us, waiting).await;
        let blockers = blockers_of(&us, waiting).await?;
        let oldest = oldest_snapshot_age(&us).await?;
        // A prepared transaction outlives the session and would keep the database.
        run(&us, &format!("ROLLBACK PREPARED '{gid}'")).await;
        waiter.await.unwrap();
        for found in [found, blockers] {
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(
                (found[0].pid, &found[0].prepared),
                (None, &Some(gid.clone()))
            );
            assert_eq!(found[0].locks, ["RowExclusiveLock on public.t"]);
            assert!(found[0].transaction_age.is_some() && found[0].user.is_some());
            assert!(found[0].to_string().starts_with("prepared transaction"));
        }
        assert!(oldest.is_some());
        Ok(())
    });
}

#[test]
fn a_rewrite_changes_the_filenode() {
    in_database(|db| async move {
        let client = db.connect().await;
        run(
            &client,
            "CREATE TABLE t AS SELECT g AS a FROM generate_series(1, 10000) g; CREATE VIEW v AS SELECT 1",
        )
        .await;
        let t = oid(&client, "t").await;
        let before = relation_state(&client, t).await?.unwrap();
        assert!(before.blocks > 10);
        assert_eq!(relation_state(&client, t).await?, Some(before));
        run(&client, "VACUUM FULL t").await;
        let full = relation_state(&client, t).await?.unwrap();
        assert_ne!(full.filenode, before.filenode);
        assert!(full.blocks > 10);
        run(&client, "TRUNCATE t").await;
        let empty = relation_state(&client, t).await?.unwrap();
        assert_ne!(empty.filenode, full.filenode);
        assert_eq!(empty.blocks, 0);
        assert_eq!(
            relation_state(&client, oid(&client, "v").await).await?,
            None
        );
        run(&client, "DROP TABLE t").await;
        assert_eq!(relation_state(&client, t).await?, None);
        Ok(())
    });
}

#[test]
fn wal_grows_with_writes() {
    in_database(|db| async move {
        let client = db.connect().await;
        assert!(!is_in_recovery(&client).await?);
        let before = wal_lsn(&client).await?;
        run(
            &client,
            "CREATE TABLE t AS SELECT g AS a FROM generate_series(1, 10000) g",
        )
        .await;
        assert!(wal_lsn(&client).await? - before > 100_000);
        for replica in replicas(&client).await? {
            assert!(!replica.state.is_empty());
            assert!(replica.replay_bytes.is_none_or(|b| b >= 0));
            // Nothing missing is no lag; no replay is no reading.
            match replica.replay_bytes {
                Some(0) => assert_eq!(replica.replay_lag, Some(Duration::ZERO)),
                None => assert_eq!(replica.replay_lag, None),
                Some(_) => {}
            }
        }
        Ok(())
    });
}

#[test]
fn a_transaction_with_an_id_holds_dead_rows_between_its_statements() {
    in_database(|db| async move {
        let (us, writer) = (db.connect().await, db.connect().await);
        // Asked before: a query with parameters keeps its snapshot until the next one.
        let pid = pid(&writer).await;
        run(
            &writer,
            "SET application_name = 'the writer'; BEGIN; SELECT pg_current_xact_id()",
        )
        .await;
        for _ in 0..10 {
            run(&us, "SELECT pg_current_xact_id()").await;
        }
        let xmin = us
            .query_one(
                "SELECT backend_xmin IS NULL FROM pg_stat_activity WHERE pid = $1",
                &[&pid],
            )
            .await
            .unwrap();
        assert!(xmin.get::<_, bool>(0), "no snapshot between statements");
        let oldest = oldest_snapshot_age(&us).await?.unwrap();
        assert!(oldest.transactions >= 10, "{oldest:?}");
        assert!(!oldest.is_old(), "{oldest:?}");
        Ok(())
    });
}

/// A query prunes by its own snapshot, which looks at all of the server; VACUUM does not.
#[test]
fn pruning_waits_for_transactions_of_other_databases() {
    in_database(|db| async move {
        let mut elsewhere = db.config.clone();
        elsewhere.dbname("postgres");
        let (us, writer) = (db.connect().await, connect(&elsewhere).await);
        run(&writer, "BEGIN").await;
        let id = writer
            .query_one("SELECT pg_current_xact_id()::text::bigint", &[])
            .await
            .unwrap();
        for _ in 0..10 {
            run(&us, "SELECT pg_current_xact_id()").await;
        }
        let pruned = horizon(&us, Removal::Pruning).await?;
        assert!(pruned.oldest <= id.get(0), "{pruned:?}");
        assert!(pruned.oldest + 10 <= pruned.next, "{pruned:?}");
        let vacuumed = horizon(&us, Removal::Vacuum).await?;
        assert!(vacuumed.oldest >= pruned.oldest, "{vacuumed:?}");
        Ok(())
    });
}

#[test]
fn the_oldest_snapshot_is_found_and_what_is_hidden_is_an_error() {
    in_database(|db| async move {
        let (us, reader) = (db.connect().await, db.connect().await);
        run(
            &reader,
            "SET application_name = 'the reader'; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1",
        )
        .await;
        for _ in 0..10 {
            run(&us, "SELECT pg_current_xact_id()").await;
        }
        let oldest = oldest_snapshot_age(&us).await?.unwrap();
        assert!(oldest.transactions >= 10, "{oldest:?}");
        if oldest.holder.starts_with("pid") {
            assert!(oldest.age.is_some());
        }
        let role = format!("{}_role", db.name);
        run(&us, &format!("CREATE ROLE {role}; SET ROLE {role}")).await;
        let hidden = oldest_snapshot_age(&us).await;
        let hidden_streams = replicas(&us).await;
        run(
            &us,
            &format!("RESET ROLE; GRANT pg_monitor TO {role}; SET ROLE {role}"),
        )
        .await;
        let seen = oldest_snapshot_age(&us).await;
        let streams = replicas(&us).await;
        run(&us, &format!("RESET ROLE; DROP ROLE {role}")).await;
        let error = hidden.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.message().contains("pg_monitor"), "{error}");
        assert!(error.what_next().unwrap().starts_with("GRANT pg_monitor"));
        assert!(seen?.is_some());
        if !streams?.is_empty() {
            assert_eq!(hidden_streams.unwrap_err().kind(), ErrorKind::Refused);
        }
        Ok(())
    });
}
