//! Secrets stay with whom they were given to: in no output, plan, state, metric, session or process
//! list, whatever the command and however it fails.

use std::time::Duration;

use crate::lifecycle::Project;
use crate::support::{Cli, Output};

const SECRET: &str = "geheim-7Kx";
const SETUP: &str = "CREATE TABLE t (id int PRIMARY KEY, a int);
    INSERT INTO t SELECT n, n FROM generate_series(1, 3000) n;";
const TWICE: &str = "-- pgshift: expand\nALTER TABLE t ADD COLUMN b int;\n\
    -- pgshift: backfill\nUPDATE t SET b = a * 2;\n\
    -- pgshift: contract\nALTER TABLE t ALTER COLUMN b SET NOT NULL;";

#[track_caller]
fn kept(what: &str, output: &Output) {
    for text in [&output.stdout, &output.stderr] {
        let at = text.find(SECRET).or_else(|| text.find("7Kx"));
        assert!(at.is_none(), "{what} tells the secret:\n{text}");
    }
}

/// The URL with a user's password put in; the server asks for none, so it connects.
fn with_password(url: &str) -> String {
    url.replace("postgres@", &format!("postgres:{SECRET}@"))
}

/// A host of the tests' own machine at which nobody answers.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its number").to_string()
}

/// All that the database keeps and shows.
async fn database_keeps(project: &Project, more: &str) {
    let tables: Vec<String> = project
        .db
        .rows(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
             WHERE schemaname = 'pgshift'",
        )
        .await;
    assert!(tables.len() > 5, "{tables:?}");
    for table in tables {
        let found: i64 = project
            .db
            .one(&format!(
                "SELECT count(*) FROM {table} x WHERE x::text LIKE '%7Kx%'"
            ))
            .await;
        assert_eq!(found, 0, "{table} {more}");
    }
}

/// What each session of the database is called and asks now.
async fn sessions_keep(project: &Project) {
    let told: Vec<String> = project
        .db
        .rows(
            "SELECT application_name || ' ' || query FROM pg_stat_activity
             WHERE pid <> pg_backend_pid()
               AND (application_name || query) LIKE '%7' || 'Kx%'",
        )
        .await;
    assert!(told.is_empty(), "{told:?}");
}

/// Every command, as wordy as can be.
async fn life(project: &Project, cli: &Cli, what: &str) {
    let id = project.id.as_str();
    let prometheus = cli.dir().join("m.prom").to_string_lossy().into_owned();
    let mut told = Vec::new();
    for (args, code) in [
        (&["doctor"][..], None),
        (&["plan", id, "--out", "plan.json"], Some(0)),
        (&["--format", "json", "plan", id], Some(0)),
        (
            &[
                "apply",
                id,
                "--duty",
                "1",
                "--metrics-textfile",
                &prometheus,
            ],
            Some(0),
        ),
        (&["status", id], Some(0)),
        (&["--format", "json", "status", id], Some(0)),
        (&["verify", id], Some(0)),
        (&["throttle", id], None),
        (&["repair", id], Some(0)),
        (&["snapshot", "--out", "snapshot.json"], None),
        (&["contract", id], Some(0)),
        (&["log", id], Some(0)),
        (&["--format", "json", "log"], Some(0)),
        (&["revert", id, "--duty", "1"], Some(0)),
        (
            &["--log-format", "json", "apply", id, "--duty", "1"],
            Some(0),
        ),
        (&["revert", id, "--duty", "1"], Some(0)),
    ] {
        // -vvv has the log of every library too.
        let args = [&["--yes", "-vvv"], args].concat();
        let output = cli.run(&args).await;
        kept(&format!("{what} {args:?}"), &output);
        if let Some(code) = code {
            told.push(output.expect(code));
        }
    }
    assert!(
        told.iter().any(|o| o.stderr.contains("DEBUG")),
        "-vvv tells more"
    );
    for file in ["plan.json", "m.prom", "snapshot.json"] {
        let text = std::fs::read_to_string(cli.dir().join(file)).unwrap_or_default();
        assert!(!text.contains("7Kx"), "{what}: {file}");
    }
    database_keeps(project, what).await;
    sessions_keep(project).await;
}

/// A command line in another project folder, with the same migration.
fn elsewhere(project: &Project) -> Cli {
    let cli = Cli::offline();
    cli.migration(&project.id, TWICE);
    cli
}

#[tokio::test]
async fn of_the_database() {
    let project = Project::new("secrets", SETUP, TWICE).await;
    let url = project.db.url();
    let cli = elsewhere(&project).env("DATABASE_URL", &with_password(&url));
    life(&project, &cli, "in the URL").await;
    let cli = elsewhere(&project)
        .env("DATABASE_URL", &url)
        .env("PGPASSWORD", SECRET);
    life(&project, &cli, "PGPASSWORD").await;
    let passfile = elsewhere(&project);
    let path = passfile.file("passfile", &format!("*:*:*:*:{SECRET}\n"));
    let path = path.to_string_lossy().into_owned();
    std::process::Command::new("chmod")
        .args(["600", &path])
        .status()
        .expect("chmod");
    let passfile = passfile.env("DATABASE_URL", &url).env("PGPASSFILE", &path);
    life(&project, &passfile, "PGPASSFILE").await;
    let config = elsewhere(&project);
    config.file(
        "pgshift.toml",
        &format!("database-url = \"{}\"\n", with_password(&url)),
    );
    life(&project, &config, "pgshift.toml").await;
}

/// Nobody there, a wrong password, words that cannot be read.
#[tokio::test]
async fn in_failures() {
    let nobody = nobody();
    let cli = Cli::offline();
    cli.migration("1", "SELECT 1;");
    let urls = [
        format!("postgres://u:{SECRET}@{nobody}/x"),
        format!("postgres://{nobody}/x?user=u&password={SECRET}"),
        format!("postgres://{nobody}/x?sslpassword={SECRET}&user=u"),
        format!("postgres://u:{SECRET}@[/x"),
        format!("postgres://u:{SECRET}@h:port/x"),
        format!("postgres://u:{SECRET}@{nobody}/x?nonsense=1"),
        format!("postgres://u:{SECRET}%zz@{nobody}/x"),
        format!("postgres://u:a/b@{SECRET}@{nobody}/x"),
        format!("mysql://u:{SECRET}@{nobody}/x"),
        format!("host=127.0.0.1 port=1 user=u password={SECRET}"),
        format!("host=127.0.0.1 port=1 user=u password = '{SECRET}'"),
        format!("host=127.0.0.1 port=x user=u password='{SECRET}'"),
        format!("host=127.0.0.1 port=1 password='{SECRET}"),
        format!("host=127.0.0.1 port=1 nonsense password='{SECRET}'"),
        format!("password={SECRET} nonsense=1"),
        format!("{SECRET}@host"),
    ];
    for url in &urls {
        for variable in [
            "DATABASE_URL",
            "PGSHIFT_DIRECT_URL",
            "PGSHIFT_PGBOUNCER_URL",
        ] {
            let other = Cli::offline().env(variable, url);
            other.migration("1", "SELECT 1;");
            let other = match variable {
                "DATABASE_URL" => other,
                _ => other.env("DATABASE_URL", &format!("postgres://u@{nobody}/x")),
            };
            let output = other.run(&["-vvv", "plan"]).await;
            kept(&format!("{variable}={url}"), &output);
            assert_ne!(output.code, Some(0), "{output:?}");
            let output = other
                .run(&["--format", "json", "apply", "--reconnect-budget", "100ms"])
                .await;
            kept(&format!("{variable}={url}"), &output);
        }
        let output = cli.run(&["-vvv", "status", "--database-url", url]).await;
        kept(url, &output);
        for text in [
            format!("database-url = \"{url}\"\nx = 1\n"),
            format!("database-url = \"{url}\" x\n"),
            format!("pgbouncer-url = [\"{url}\"]\n"),
        ] {
            let config = Cli::offline();
            config.migration("1", "SELECT 1;");
            config.file("pgshift.toml", &text);
            let output = config.run(&["-vvv", "plan"]).await;
            kept(&text, &output);
            assert_ne!(output.code, Some(0), "{output:?}");
        }
    }
}

/// Gates and Prometheus: credentials and tokens in their addresses.
#[tokio::test]
async fn of_gates() {
    let project = Project::new("secrets_gates", SETUP, TWICE).await;
    let nobody = nobody();
    let id = project.id.as_str();
    for gate in [
        format!("http://ops:{SECRET}@{nobody}/go"),
        format!("http://{nobody}/go?token={SECRET}"),
        format!("http://{SECRET}@{nobody}/go"),
        format!("https://ops:{SECRET}@{nobody}/go"),
        format!("ftp://ops:{SECRET}@{nobody}/go"),
        format!("http://ops:{SECRET}@[/go"),
        format!("http://ops:{SECRET}%@{nobody}/"),
    ] {
        for more in [&[][..], &["--format", "json"], &["--log-format", "json"]] {
            let args = [more, &["-vvv", "apply", id, "--gate", &gate]].concat();
            let output = project.cli.run(&args).await;
            kept(&gate, &output);
            assert_ne!(output.code, Some(0), "{output:?}");
        }
        let config = elsewhere(&project).env("DATABASE_URL", &project.db.url());
        for text in [
            format!("[throttle]\ngate = \"{gate}\"\n"),
            format!("[[throttle.gate]]\nurl = \"{gate}\"\n"),
            format!("[[throttle.prometheus]]\nurl = \"{gate}\"\nquery = \"up\"\nabove = 1\n"),
            format!("gate = \"{gate}\" x\n"),
        ] {
            config.file("pgshift.toml", &text);
            let output = config.run(&["-vvv", "apply", id]).await;
            kept(&text, &output);
            assert_ne!(output.code, Some(0), "{text} {output:?}");
        }
    }
    // One that answers, as long as it runs.
    let gate = gate_that_says_go().await;
    let url = format!("http://ops:{SECRET}@{gate}/go?token={SECRET}");
    let running = project.cli.spawn(&[
        "-vvv",
        "apply",
        id,
        "--gate",
        &url,
        "--duty",
        "0.05",
        "--batch",
        "20",
        "--metrics-textfile",
        "m.prom",
    ]);
    project.db.backfilling(Duration::from_mins(1)).await;
    sessions_keep(&project).await;
    running.interrupt();
    let output = running.wait().await;
    kept("a gate", &output);
    let output = project.cli.run(&["--yes", "-vvv", "status", id]).await;
    kept("status", &output);
    let metrics = std::fs::read_to_string(project.cli.dir().join("m.prom"));
    assert!(!metrics.expect("the metrics").contains("7Kx"));
    database_keeps(&project, "a gate").await;
}

/// Answers 200 to everything.
async fn gate_that_says_go() -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("its number").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while let Ok(1..) = stream.read(&mut request).await {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// What others see of the process: its title and the sessions of the server.
#[tokio::test]
async fn in_the_process_list() {
    let project = Project::new("secrets_process", SETUP, TWICE).await;
    let cli = elsewhere(&project).env("DATABASE_URL", &with_password(&project.db.url()));
    let running = cli.spawn(&["apply", &project.id, "--duty", "0.05", "--batch", "20"]);
    project.db.backfilling(Duration::from_mins(1)).await;
    let pid = running.pid().expect("running");
    if let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) {
        let line = String::from_utf8_lossy(&line).into_owned();
        assert!(!line.contains("7Kx"), "{line}");
    }
    sessions_keep(&project).await;
    running.interrupt();
    kept("apply", &running.wait().await);
}
