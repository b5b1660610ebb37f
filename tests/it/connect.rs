//! Connections to a real server: `PGSHIFT_TEST_URL` is a primary, `PGSHIFT_TEST_STANDBY_URL`
//! its standby. A test whose server is not given passes with a note.

use std::time::Duration;

use pgshift::ErrorKind;
use pgshift::pg::connect::{Target, environment};
use pgshift::pg::conninfo::ConnInfo;
use pgshift::pg::error::{from_pg, from_pool};
use pgshift::pg::pooler::{self, Pooling};
use pgshift::pg::{session, sqlstate};

fn given(variable: &str) -> Option<String> {
    let url = environment(variable);
    if url.is_none() {
        eprintln!("skipped: {variable} is not set");
    }
    url
}

fn target(url: &str) -> Target {
    Target::new(Some(url)).unwrap()
}

/// `host:port` of a URL's first server.
fn host_of(url: &str) -> String {
    let info = ConnInfo::parse(Some(url), &environment).unwrap();
    info.hosts[0].to_string()
}

#[tokio::test]
async fn a_session_is_ours_by_name_and_of_a_supported_version() {
    let Some(url) = given("PGSHIFT_TEST_URL") else {
        return;
    };
    let client = target(&url).connect().await.unwrap();
    let name: String = client
        .query_one("SELECT current_setting('application_name')", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(name, "pgshift");
    assert!(session::supported_version(&client).await.unwrap() >= session::OLDEST_VERSION);
    assert_eq!(
        pooler::pooling(&target(&url)).await.unwrap(),
        Pooling::Session
    );
}

#[tokio::test]
async fn a_standby_is_refused_alone_and_passed_over_before_the_primary() {
    let (Some(primary), Some(standby)) =
        (given("PGSHIFT_TEST_URL"), given("PGSHIFT_TEST_STANDBY_URL"))
    else {
        return;
    };
    let error = target(&standby).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.message().contains("standby"), "{error}");
    assert!(error.what_next().unwrap().contains("primary"));
    let pooled = target(&standby).pool(1).unwrap().get().await.unwrap_err();
    assert_eq!(from_pool(pooled).kind(), ErrorKind::Refused);

    let both = primary.replacen(
        &host_of(&primary),
        &format!("{},{}", host_of(&standby), host_of(&primary)),
        1,
    );
    if both != primary {
        let client = target(&both).connect().await.unwrap();
        let standby: bool = client
            .query_one("SELECT pg_is_in_recovery()", &[])
            .await
            .unwrap()
            .get(0);
        assert!(!standby);
    }
}

#[tokio::test]
async fn notifications_arrive_and_the_channel_ends_with_the_connection() {
    let Some(url) = given("PGSHIFT_TEST_URL") else {
        return;
    };
    let target = target(&url);
    let (listening, mut notifications) = target.connect_listening().await.unwrap();
    listening
        .batch_execute("LISTEN pgshift_connect_test")
        .await
        .unwrap();
    let other = target.connect().await.unwrap();
    other
        .batch_execute("NOTIFY pgshift_connect_test, 'hello'")
        .await
        .unwrap();
    let notification = notifications.recv().await.unwrap();
    assert_eq!(notification.payload(), "hello");

    let pid: i32 = listening
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0);
    other
        .execute("SELECT pg_terminate_backend($1)", &[&pid])
        .await
        .unwrap();
    assert!(notifications.recv().await.is_none());
    let lost = listening.simple_query("SELECT 1").await.unwrap_err();
    assert!(sqlstate::is_connection_lost(&lost));
    assert!(from_pg(lost).is_connection());
}

#[tokio::test]
async fn server_errors_are_told_apart() {
    let Some(url) = given("PGSHIFT_TEST_URL") else {
        return;
    };
    let target = target(&url);
    let client = target.connect().await.unwrap();
    let query = "SELECT 'é', nope";
    let error = client.simple_query(query).await.unwrap_err();
    let position = sqlstate::position(&error).unwrap();
    assert_eq!(&query[sqlstate::byte_offset(query, position)..], "nope");
    assert_eq!(from_pg(error).sqlstate(), Some("42703"));

    let token = client.cancel_token();
    // A request that comes before the query has no effect, so it is repeated.
    let ask = async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            target.cancel(&token).await.unwrap();
        }
    };
    let canceled = tokio::select! {
        ran = client.simple_query("SELECT pg_sleep(30)") => ran.unwrap_err(),
        () = ask => unreachable!("asks for ever"),
    };
    assert!(sqlstate::is_query_canceled(&canceled) && !sqlstate::is_retryable(&canceled));

    // A cancel request may still be on its way: another session.
    let client = target.connect().await.unwrap();
    client.batch_execute("BEGIN READ ONLY").await.unwrap();
    let read_only = client
        .batch_execute("CREATE TABLE no ()")
        .await
        .unwrap_err();
    assert!(sqlstate::is_read_only(&read_only));
    assert_eq!(from_pg(read_only).kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn a_lock_not_had_in_time_is_a_lock_error() {
    let Some(url) = given("PGSHIFT_TEST_URL") else {
        return;
    };
    let target = target(&url);
    let holder = target.connect().await.unwrap();
    let waiter = target.connect().await.unwrap();
    let key = "7241338";
    holder
        .batch_execute(&format!("SELECT pg_advisory_lock({key})"))
        .await
        .unwrap();
    let error = waiter
        .batch_execute(&format!(
            "SET lock_timeout = '20ms'; SELECT pg_advisory_lock({key})"
        ))
        .await
        .unwrap_err();
    assert!(sqlstate::is_lock_timeout(&error) && sqlstate::is_retryable(&error));
    assert_eq!(from_pg(error).kind(), ErrorKind::Lock);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_the_users_mistake() {
    let Some(url) = given("PGSHIFT_TEST_URL") else {
        return;
    };
    let separator = if url.contains('?') { '&' } else { '?' };
    let error = target(&format!("{url}{separator}dbname=pgshift_no_such_database"))
        .connect()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(error.sqlstate(), Some("3D000"));
}
