//! What the server and other sessions say reaches a terminal only as text.

use super::{plain, run};
use crate::lifecycle::Project;

const SETUP: &str = "CREATE TABLE t (id int PRIMARY KEY, a int);
    CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE WARNING E'\\x1b[2J\\x07 warned\\r\\n%', NEW.id;
        RAISE EXCEPTION E'\\x1b[2J\\x07 refused\\r\\n%', NEW.id
            USING HINT = E'\\x1b[31m hint', DETAIL = E'\\x1b[31m detail'; END $$;
    INSERT INTO t SELECT n, n FROM generate_series(1, 100) n;
    CREATE TRIGGER shout BEFORE UPDATE ON t FOR EACH ROW WHEN (NEW.id = 50)
        EXECUTE FUNCTION shout();";

#[tokio::test]
async fn messages_of_the_server() {
    let project = Project::new(
        "hostile_messages",
        SETUP,
        "-- pgshift: expand\nALTER TABLE t ADD COLUMN b int;\n\
         -- pgshift: backfill\nUPDATE t SET b = a;",
    )
    .await;
    let id = project.id.clone();
    for more in [&[][..], &["--log-format", "json"]] {
        let args = [&["-vv"], more, &["apply", &id, "--duty", "1"]].concat();
        let output = project.cli.run(&args).await;
        plain("apply", &output);
        assert_ne!(output.code, Some(0), "{output:?}");
        assert!(output.stderr.contains("refused"), "{output:?}");
    }
    run(&project, 0, &["status", &id]).await;
    run(&project, 0, &["status"]).await;
    run(&project, 0, &["log", &id]).await;
    run(&project, 0, &["revert", &id, "--duty", "1"]).await;
}

/// Who is in the way is told with its query and its name.
#[tokio::test]
async fn words_of_other_sessions() {
    let project = Project::new("hostile_sessions", SETUP, "ALTER TABLE t ADD COLUMN b int;").await;
    let id = project.id.clone();
    let other = project.db.client().await;
    other
        .batch_execute(
            "SET application_name = 'x\u{1b}[2J\u{9b}31m';
             BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE; SELECT '\u{1b}[2J\u{7}\u{202e}'",
        )
        .await
        .expect("the other session");
    let args = ["apply", &id, "--lock-budget", "2s"];
    let output = project.cli.run(&args).await;
    plain("apply", &output);
    assert_eq!(output.code, Some(4), "{output:?}");
    run(&project, 0, &["status"]).await;
    run(&project, 0, &["log"]).await;
    let doctor = project.cli.run(&["doctor"]).await;
    plain("doctor", &doctor);
    other.batch_execute("ROLLBACK").await.expect("the end");
}
