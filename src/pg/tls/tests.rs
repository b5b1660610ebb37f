use std::fs;

use super::*;
use crate::ErrorKind;

fn info(text: &str) -> ConnInfo {
    ConnInfo::parse(Some(text), &|_| None).unwrap()
}

fn failed(text: &str) -> String {
    let error = client_config(&info(text), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    error.to_string()
}

#[test]
fn names_match_as_certificates_mean_them() {
    for (pattern, host, expected) in [
        ("db.example.com", "DB.example.COM", true),
        ("*.example.com", "db.example.com", true),
        ("*.example.com", "a.db.example.com", false),
        ("*.example.com", "example.com", false),
        ("*.com.", "a.com", false),
        ("*", "db", false),
        ("*.0.0.1", "127.0.0.1", false),
        ("127.0.0.1", "127.0.0.1", true),
        ("", "", false),
    ] {
        assert_eq!(
            verify::name_matches(pattern, host),
            expected,
            "{pattern} {host}"
        );
    }
}

#[test]
fn a_wrong_file_is_named_with_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    fs::write(path("empty"), "nothing").unwrap();
    fs::write(
        path("damaged"),
        "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    fs::write(
        path("notacert"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    for (name, why) in [
        ("missing", "cannot be read"),
        ("empty", "holds no certificate"),
        ("damaged", "damaged"),
        ("notacert", "certificate 1"),
    ] {
        let text = failed(&format!("sslmode=verify-full sslrootcert={}", path(name)));
        assert!(text.contains(&path(name)) && text.contains(why), "{text}");
    }
    // A file that was asked for is never passed over in silence.
    assert!(failed(&format!("sslmode=prefer sslrootcert={}", path("missing"))).contains("missing"));
    assert!(failed(&format!("sslcert={} sslkey=/none", path("empty"))).contains("sslcert"));
    assert!(failed(&format!("sslcert={}", path("empty"))).contains("has no key"));
}

#[test]
fn verify_ca_needs_a_root_and_the_weaker_modes_do_not() {
    assert!(failed("sslmode=verify-ca").contains("verify-ca"));
    for mode in ["disable", "allow", "prefer", "require"] {
        client_config(&info(&format!("sslmode={mode}")), None).unwrap();
    }
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".postgresql")).unwrap();
    fs::write(home.path().join(".postgresql/root.crt"), "x").unwrap();
    let error = client_config(&info("sslmode=require"), Some(home.path())).unwrap_err();
    assert!(error.to_string().contains("root.crt"), "{error}");
    client_config(&info("sslmode=disable"), Some(home.path())).unwrap();
}

#[test]
fn certificate_errors_are_in_plain_words() {
    let error = rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
        expected: "db.test".try_into().unwrap(),
        presented: vec![
            r#"DnsName("localhost")"#.into(),
            "IpAddress(127.0.0.1)".into(),
            "common".into(),
        ],
    });
    assert_eq!(
        explain(&error),
        "the server's certificate is not for db.test, but for localhost, 127.0.0.1, common"
    );
    assert!(hint_for(&error).unwrap().contains("verify-ca"));
}
