use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> Vec<(&'static str, String)> {
    Params::parse(text).unwrap().0.into_iter().collect()
}

fn failed(text: &str) -> String {
    let error = Params::parse(text).unwrap_err();
    format!("{error} / {}", error.what_next().unwrap_or(""))
}

/// The forms of libpq's own regression list (`src/interfaces/libpq/t/001_uri.pl`).
#[test]
fn reads_the_url_forms_of_libpq() {
    for (url, expected) in [
        (
            "postgresql://uri-user:secret@host:12345/db",
            "dbname=db host=host password=secret port=12345 user=uri-user",
        ),
        ("postgresql://uri-user@", "user=uri-user"),
        ("postgresql://", ""),
        ("postgres:///", ""),
        ("postgres:///db", "dbname=db"),
        ("postgresql://host:12345/", "host=host port=12345"),
        ("postgresql://host/db?", "dbname=db host=host"),
        ("postgresql://%68ost/", "host=host"),
        (
            "postgresql://host/db?u%73er=someotheruser&port=12345",
            "dbname=db host=host port=12345 user=someotheruser",
        ),
        (
            "postgresql://[::1]:12345/db",
            "dbname=db host=::1 port=12345",
        ),
        ("postgresql://[2001:db8::1234]/", "host=2001:db8::1234"),
        ("postgres://host:/", "host=host"),
        ("postgres://:12345/", "port=12345"),
        (
            "postgres://otheruser@:12345/db?host=/path/to/socket",
            "dbname=db host=/path/to/socket port=12345 user=otheruser",
        ),
        (
            "postgres://%2Fvar%2Flib%2Fpostgresql/dbname",
            "dbname=dbname host=/var/lib/postgresql",
        ),
        ("postgresql://host?ssl=true", "host=host sslmode=require"),
        (
            "postgres://u@h1:1,h2,[::1]:3/db?target_session_attrs=any",
            "dbname=db host=h1,h2,::1 port=1,,3 target_session_attrs=any user=u",
        ),
        (
            "postgres://h:5432/db?user=me@corp",
            "dbname=db host=h port=5432 user=me@corp",
        ),
    ] {
        let got: Vec<String> = parsed(url)
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        assert_eq!(got.join(" "), expected, "{url}");
    }
}

#[test]
fn refuses_what_libpq_refuses() {
    for (url, part) in [
        ("postgre://h", "scheme"),
        ("postgres://[::1", "without `]`"),
        ("postgres://[]", "empty"),
        ("postgres://[::1]z", "follows the `]`"),
        ("postgresql://host?zzz", "no `=`"),
        ("postgresql://host?user=a=b", "two `=`"),
        ("postgres://host?dbname=%XXfoo", "hexadecimal"),
        ("postgresql://a%00b", "%00"),
        ("postgresql://%1", "hexadecimal"),
        ("postgresql://%ff", "UTF-8"),
        ("postgresql://host:70000", "port"),
        ("postgresql://host?uzer=", "`uzer`"),
        (
            "postgresql://host?sslpassword=x",
            "`sslpassword` is not supported",
        ),
        ("host=h uzer=x", "`uzer`"),
        ("justaword", "not `parameter=value`"),
        ("host='h", "closing quote"),
        ("= x", "not `parameter=value`"),
    ] {
        assert!(failed(url).contains(part), "{url}: {}", failed(url));
    }
}

#[test]
fn reads_pairs_with_quotes_and_escapes() {
    assert_eq!(
        parsed(r"host = 'a b'  port=1 password=it\'s\\x dbname='' user='o\'k'"),
        [
            ("dbname", String::new()),
            ("host", "a b".into()),
            ("password", r"it's\x".into()),
            ("port", "1".into()),
            ("user", "o'k".into()),
        ]
    );
    assert_eq!(Params::parse("dbname=''").unwrap().get("dbname"), None);
}

#[test]
fn no_message_repeats_a_badly_escaped_password() {
    for url in [
        "postgres://u:hunter2@s3cret@host/db",
        "postgres://u:hunter2/s3cret@host/db",
        "postgres://u:12/s3cret@host/db",
        "postgres://u:hunter2?s3cret@host/db",
        "postgres://u:hunter2?a=s3cret@host/db",
        "postgres://u:hunter2?s3cret@host/db?a=b",
        "postgres://u:12?s3cret=x@host/db",
        "postgres://u:hunter2%s3cret@host/db",
        "postgres://u:[hunter2s3cret",
        "host=h password=hunter2 s3cret",
        "host=h password=hunter2 s3cret=x",
        "host=h password='hunter2 s3cret",
    ] {
        let text = failed(url);
        assert!(
            !text.contains("hunter2") && !text.contains("s3cret"),
            "{url}: {text}"
        );
        let debug = format!("{:?}", Params::parse(url).unwrap_err());
        assert!(
            !debug.contains("hunter2") && !debug.contains("s3cret"),
            "{debug}"
        );
    }
    let params = Params::parse("postgres://u:hunter2@h").unwrap();
    assert!(!format!("{params:?}").contains("hunter2"));
}

#[test]
fn the_environment_fills_only_what_is_not_said() {
    let env = |name: &str| match name {
        "PGHOST" => Some("envhost".to_owned()),
        "PGUSER" => Some("envuser".to_owned()),
        "PGPASSWORD" => Some("envpass".to_owned()),
        "PGAPPNAME" => Some("psql".to_owned()),
        "PGPORT" => Some(String::new()),
        _ => None,
    };
    let mut params = Params::parse("postgres://me@/db").unwrap();
    params.fill(&env);
    assert_eq!(params.get("host"), Some("envhost"));
    assert_eq!(params.get("user"), Some("me"));
    assert_eq!(params.get("password"), Some("envpass"));
    assert_eq!(params.get("application_name"), None);
    assert_eq!(params.get("port"), None);
}

proptest! {
    #[test]
    fn any_text_survives_a_url(
        user in "[^\0]{1,12}", password in "[^\0]{1,12}", db in "[^\0]{1,12}",
        host in "[a-z0-9/.:-]{1,12}", port in 1u16.., options in "[^\0]{1,12}",
    ) {
        let url = format!(
            "postgres://{}:{}@{}:{port}/{}?options={}",
            encode(&user), encode(&password), encode(&host), encode(&db), encode(&options),
        );
        let params = Params::parse(&url).unwrap();
        prop_assert_eq!(params.get("user"), Some(&*user));
        prop_assert_eq!(params.get("password"), Some(&*password));
        prop_assert_eq!(params.get("dbname"), Some(&*db));
        prop_assert_eq!(params.get("host"), Some(&*host));
        prop_assert_eq!(params.get("options"), Some(&*options));
        prop_assert_eq!(params.get("port"), Some(&*port.to_string()));
    }

    #[test]
    fn any_text_survives_pairs(value in "[^\0]{1,20}") {
        let quoted = value.replace('\\', r"\\").replace('\'', r"\'");
        let params = Params::parse(&format!("password='{quoted}' host=h")).unwrap();
        prop_assert_eq!(params.get("password"), Some(&*value));
        prop_assert_eq!(params.get("host"), Some("h"));
    }

    #[test]
    fn no_input_panics(text in ".{0,60}", rest in "[a-z:/?@%=&,\\[\\]0-9]{0,40}") {
        let _ = Params::parse(&text);
        let _ = Params::parse(&format!("postgres://{rest}"));
    }
}
