use std::sync::Mutex;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::pg::error::from_pool;

fn target(url: &str) -> Target {
    Target::resolve(ConnInfo::parse(Some(url), &|_| None).unwrap(), &|_| None).unwrap()
}

/// What a fake server does with one connection.
#[derive(Clone, Copy)]
enum Answer {
    /// Accepts and says nothing.
    Silence,
    /// Has no TLS and refuses the startup with this SQLSTATE.
    Refuse(&'static str),
    /// Says that it has TLS, and speaks something else.
    BrokenTls(&'static str),
}

/// A fake server; what it was sent first is noted: `tls` or `plain`.
async fn server(answer: Answer) -> (u16, Arc<Mutex<Vec<&'static str>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let log = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&log);
    tokio::spawn(async move {
        let mut silent = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let code = match answer {
                Answer::Silence => {
                    silent.push(stream);
                    continue;
                }
                Answer::Refuse(code) | Answer::BrokenTls(code) => code,
            };
            let length = stream.read(&mut buffer).await.unwrap();
            // SSLRequest is 8 bytes long.
            if length == 8 {
                noted.lock().unwrap().push("tls");
                if matches!(answer, Answer::BrokenTls(_)) {
                    let _ = stream.write_all(b"S").await;
                    let _ = stream.read(&mut buffer).await;
                    let _ = stream.write_all(b"nonsense").await;
                    continue;
                }
                let _ = stream.write_all(b"N").await;
                if stream.read(&mut buffer).await.unwrap_or(0) == 0 {
                    continue;
                }
            } else {
                noted.lock().unwrap().push("plain");
            }
            let body = format!("SFATAL\0VFATAL\0C{code}\0Mno\0\0");
            let mut message = vec![b'E'];
            message.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
            message.extend(body.as_bytes());
            let _ = stream.write_all(&message).await;
        }
    });
    (port, log)
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left_in_time_for_the_next() {
    let (silent, _) = server(Answer::Silence).await;
    let (other, log) = server(Answer::Refuse("57P03")).await;
    let start = Instant::now();
    let url =
        format!("postgres://u:hunter2@127.0.0.1:{silent},127.0.0.1:{other}/d?connect_timeout=1");
    let error = target(&url).connect().await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.message().contains("no answer within 1 s"), "{error}");
    assert_eq!(*log.lock().unwrap(), ["tls"]);
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn wrong_credentials_are_not_carried_to_the_next_server() {
    for (code, tried) in [("28P01", 0), ("57P03", 1), ("53300", 1)] {
        let (first, _) = server(Answer::Refuse(code)).await;
        let (second, log) = server(Answer::Refuse("57P03")).await;
        let url = format!("postgres://u@127.0.0.1:{first},127.0.0.1:{second}/d");
        let error = target(&url).connect().await.unwrap_err();
        assert_eq!(log.lock().unwrap().len(), tried, "{code}");
        assert_eq!(error.sqlstate(), Some(code));
    }
}

#[tokio::test]
async fn each_sslmode_tries_what_libpq_tries() {
    for (mode, answer, expected) in [
        ("disable", Answer::Refuse("28000"), vec!["plain"]),
        ("allow", Answer::Refuse("28000"), vec!["plain", "tls"]),
        ("allow", Answer::Refuse("28P01"), vec!["plain"]),
        ("prefer", Answer::BrokenTls("57P03"), vec!["tls", "plain"]),
        ("prefer", Answer::Refuse("28P01"), vec!["tls"]),
        ("require", Answer::BrokenTls("57P03"), vec!["tls"]),
        ("require", Answer::Refuse("57P03"), vec!["tls"]),
        ("verify-full", Answer::Refuse("57P03"), vec!["tls"]),
    ] {
        let (port, log) = server(answer).await;
        let url = format!("postgres://u@127.0.0.1:{port}/d?sslmode={mode}");
        let info = ConnInfo::parse(Some(&url), &|_| None).unwrap();
        let Ok(target) = Target::resolve(info, &|_| None) else {
            // verify-full on a machine without authorities.
            continue;
        };
        let error = target.connect().await.unwrap_err();
        assert_eq!(*log.lock().unwrap(), expected, "{mode}: {error}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_said_to_be_one() {
    let (port, _) = server(Answer::Refuse("57P03")).await;
    let error = target(&format!("postgres://u@127.0.0.1:{port}/d?sslmode=require"))
        .connect()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.message().contains("does not support TLS"), "{error}");
}

#[tokio::test]
async fn a_pool_fails_with_the_same_error_as_a_connection() {
    let (port, _) = server(Answer::Refuse("28P01")).await;
    let target = target(&format!("postgres://u@127.0.0.1:{port}/d"));
    let alone = target.connect().await.unwrap_err();
    let pooled = from_pool(target.pool(1).unwrap().get().await.unwrap_err());
    assert_eq!(pooled.kind(), ErrorKind::Usage);
    assert_eq!(pooled.message(), alone.message());
    assert_eq!(pooled.what_next(), alone.what_next());
    assert_eq!(pooled.sqlstate(), Some("28P01"));
}

#[test]
fn each_host_has_its_own_password_from_the_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "a:1:d:u:first\nb:*:*:*:second\n").unwrap();
    let text = format!(
        "host=a,b,c port=1 user=u dbname=d passfile={}",
        file.path().display()
    );
    let found: Vec<Option<String>> = target(&text)
        .settings
        .servers
        .iter()
        .map(|server| server.password.as_ref().map(|p| p.reveal().to_owned()))
        .collect();
    assert_eq!(found, [Some("first".into()), Some("second".into()), None]);
    let given = target(&format!("{text} password=given"));
    assert!(
        given
            .settings
            .servers
            .iter()
            .all(|s| s.password.as_ref().unwrap().reveal() == "given")
    );
}

#[test]
fn neither_display_nor_debug_shows_the_password() {
    let target = target("postgres://me:hunter2@h1,h2:7/shop");
    assert_eq!(target.to_string(), "postgres://me@h1:5432,h2:7/shop");
    assert_eq!(
        format!("{target:?}"),
        "Target(postgres://me@h1:5432,h2:7/shop)"
    );
    assert_eq!(format!("{target:?}").find("hunter2"), None);
}

#[test]
fn user_and_database_have_defaults() {
    let target = target("postgres://h");
    assert!(!target.user().is_empty());
    assert_eq!(target.dbname(), target.user());
    assert_eq!(super::environment("PGSHIFT_NO_SUCH_VARIABLE"), None);
}
