use proptest::prelude::*;

use super::*;

fn info(text: &str) -> ConnInfo {
    ConnInfo::parse(Some(text), &|_| None).unwrap()
}

fn failed(text: &str) -> String {
    let error = ConnInfo::parse(Some(text), &|_| None).unwrap_err();
    format!("{error} / {}", error.what_next().unwrap_or(""))
}

#[test]
fn defaults_are_ours_where_libpq_would_wait_or_read_a_standby() {
    let info = info("");
    assert_eq!(
        info.hosts,
        [Host {
            name: HostName::Default,
            addr: None,
            port: 5432
        }]
    );
    assert_eq!(info.user, None);
    assert_eq!(info.application_name, "pgshift");
    assert_eq!(info.sslmode, SslMode::Prefer);
    assert!(info.read_write);
    assert_eq!(info.connect_timeout, Some(Duration::from_secs(10)));
    assert_eq!(info.keepalive, Keepalive::default());
    assert!(!info.random_order);
}

#[test]
fn hosts_addresses_and_ports_pair_up() {
    let hosts = info("host=a,/run/pg,,d hostaddr=10.0.0.1,,,::1 port=1,,3,4").hosts;
    let host = |name, addr: Option<&str>, port| Host {
        name,
        addr: addr.map(|a| a.parse().unwrap()),
        port,
    };
    assert_eq!(
        hosts,
        [
            host(HostName::Tcp("a".into()), Some("10.0.0.1"), 1),
            host(HostName::Unix("/run/pg".into()), None, 5432),
            host(HostName::Default, None, 3),
            host(HostName::Tcp("d".into()), Some("::1"), 4),
        ]
    );
    assert_eq!(
        info("host=a,b port=7")
            .hosts
            .iter()
            .map(|h| h.port)
            .collect::<Vec<_>>(),
        [7, 7]
    );
    assert_eq!(info("hostaddr=10.0.0.1,10.0.0.2").hosts.len(), 2);
    assert!(failed("host=a,b hostaddr=10.0.0.1").contains("2 hosts"));
    assert!(failed("host=a,b,c port=1,2").contains("2 ports for 3 hosts"));
    assert!(failed("host=a hostaddr=b").contains("not an IP address"));
    assert!(failed("host=a port=0").contains("1 to 65535"));
    assert!(failed("host=@abstract").contains("abstract"));
}

#[test]
fn session_attributes_that_cannot_serve_are_refused_by_name() {
    assert!(!info("target_session_attrs=any").read_write);
    assert!(info("target_session_attrs=read-write").read_write);
    for other in ["read-only", "primary", "standby", "prefer-standby"] {
        let text = failed(&format!("target_session_attrs={other}"));
        assert!(
            text.contains(other) && text.contains("not supported"),
            "{text}"
        );
    }
    assert!(failed("target_session_attrs=zzz").contains("unknown value"));
}

#[test]
fn tls_settings() {
    assert_eq!(info("sslmode=verify-ca").sslmode, SslMode::VerifyCa);
    assert_eq!(
        info("sslrootcert=/ca.pem").sslrootcert,
        Some(RootCert::File("/ca.pem".into()))
    );
    assert_eq!(info("sslrootcert=system").sslmode, SslMode::VerifyFull);
    assert!(failed("sslrootcert=system sslmode=require").contains("verify-full"));
    assert!(failed("sslmode=on").contains("`sslmode`"));
    assert!(failed("sslnegotiation=direct").contains("`sslnegotiation`"));
}

#[test]
fn times_and_switches() {
    assert_eq!(
        info("connect_timeout=3").connect_timeout,
        Some(Duration::from_secs(3))
    );
    assert_eq!(info("connect_timeout=0").connect_timeout, None);
    assert_eq!(info("connect_timeout=-1").connect_timeout, None);
    assert!(failed("connect_timeout=soon").contains("`connect_timeout`"));
    let keepalive = info(
        "keepalives=0 keepalives_idle=5 keepalives_interval=0 keepalives_count=9 \
         tcp_user_timeout=1500",
    )
    .keepalive;
    assert!(!keepalive.enabled);
    assert_eq!(keepalive.idle, Duration::from_secs(5));
    assert_eq!(keepalive.interval, Keepalive::default().interval);
    assert_eq!(keepalive.count, 9);
    assert_eq!(keepalive.user_timeout, Duration::from_millis(1500));
    assert!(info("load_balance_hosts=random").random_order);
    assert_eq!(
        info("channel_binding=require").channel_binding,
        ChannelBinding::Require
    );
    assert!(failed("gssencmode=require").contains("`gssencmode`"));
    assert_eq!(info("application_name=x").application_name, "x");
}

#[test]
fn a_service_is_refused_only_where_it_would_decide_the_host() {
    let env = |name: &str| (name == "PGSERVICE").then(|| "prod".to_owned());
    assert!(
        ConnInfo::parse(None, &env)
            .unwrap_err()
            .to_string()
            .contains("PGSERVICE")
    );
    assert!(ConnInfo::parse(Some("postgres://h/db"), &env).is_ok());
}

#[test]
fn neither_display_nor_debug_shows_the_password() {
    let info = info("postgres://u:hunter2@h1,[::1]:7,%2Frun%2Fpg/d%20b");
    let shown = "postgres://u@h1:5432,[::1]:7,%2Frun%2Fpg:5432/d%20b";
    assert_eq!(info.to_string(), shown);
    assert_eq!(format!("{info:?}"), format!("ConnInfo({shown})"));
    assert_eq!(format!("{:?}", info.password), "Some(***)");
    assert_eq!(info.password.unwrap().reveal(), "hunter2");
}

fn any_host() -> impl Strategy<Value = Host> {
    let name = prop_oneof![
        "[a-z][a-z0-9._-]{0,10}".prop_map(HostName::Tcp),
        Just(HostName::Tcp("::1".to_owned())),
        Just(HostName::Tcp("fe80::1%eth0".to_owned())),
        "/[a-zA-Z /.:@-]{0,10}[a-z]".prop_map(|path| HostName::Unix(path.into())),
        Just(HostName::Default),
    ];
    (name, 1u16..).prop_map(|(name, port)| Host {
        name,
        addr: None,
        port,
    })
}

proptest! {
    #[test]
    fn the_shown_url_leads_to_the_same_place(
        hosts in proptest::collection::vec(any_host(), 1..4),
        user in proptest::option::of("[^\0]{1,8}"), dbname in proptest::option::of("[^\0]{1,8}"),
    ) {
        let original = ConnInfo { hosts, user, dbname, ..info("") };
        prop_assert_eq!(ConnInfo::parse(Some(&original.to_string()), &|_| None).unwrap(), original);
    }
}
