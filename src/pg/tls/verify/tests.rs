use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;

use super::*;

fn certificate(name: &str) -> CertificateDer<'static> {
    let path = format!(
        "{}/src/pg/tls/testdata/{name}.pem",
        env!("CARGO_MANIFEST_DIR")
    );
    CertificateDer::from_pem_file(path).unwrap()
}

fn verifier(check: Check, roots: &[&str]) -> Verifier {
    let files: Vec<_> = roots.iter().map(|name| certificate(name)).collect();
    let mut store = RootCertStore::empty();
    for file in &files {
        store.add(file.clone()).unwrap();
    }
    let provider = rustls::crypto::ring::default_provider();
    Verifier::new(
        check,
        store,
        files,
        provider.signature_verification_algorithms,
    )
}

/// 2030, or the given year.
fn verify_in(year: u64, verifier: &Verifier, leaf: &str, host: &str) -> Result<(), String> {
    let now = UnixTime::since_unix_epoch(Duration::from_hours((year - 1970) * 24 * 366));
    let name = ServerName::try_from(host.to_owned()).unwrap();
    verifier
        .verify_server_cert(&certificate(leaf), &[], &name, &[], now)
        .map(|_| ())
        .map_err(|error| super::super::explain(&error))
}

fn verify(verifier: &Verifier, leaf: &str, host: &str) -> Result<(), String> {
    verify_in(2030, verifier, leaf, host)
}

#[test]
fn the_chain_and_the_name_decide_as_in_libpq() {
    let full = verifier(Check::ChainAndName, &["ca"]);
    for (leaf, host, accepted) in [
        ("san", "db.test", true),
        ("san", "a.wild.test", true),
        ("san", "127.0.0.1", true),
        ("san", "127.0.0.2", false),
        ("san", "other.test", false),
        // With a subjectAltName the common name does not count.
        ("san", "ignored.test", false),
        ("common", "db.test", true),
        ("common", "other.test", false),
        ("v1", "db.test", true),
        ("v1", "other.test", false),
        // The authority's name is not its key.
        ("v1_impostor", "db.test", false),
        ("v1_by_notca", "db.test", false),
        ("own", "db.test", false),
    ] {
        let verified = verify(&full, leaf, host);
        assert_eq!(verified.is_ok(), accepted, "{leaf} {host}: {verified:?}");
    }
}

#[test]
fn verify_ca_minds_the_chain_and_not_the_name() {
    let chain = verifier(Check::Chain, &["ca"]);
    for (leaf, accepted) in [
        ("san", true),
        ("common", true),
        ("v1", true),
        ("v1_impostor", false),
        ("own", false),
    ] {
        assert_eq!(
            verify(&chain, leaf, "other.test").is_ok(),
            accepted,
            "{leaf}"
        );
    }
    let nothing = verifier(Check::Nothing, &[]);
    assert_eq!(verify(&nothing, "v1_impostor", "other.test"), Ok(()));
    let none = verifier(Check::Chain, &[]);
    assert!(verify(&none, "v1", "db.test").is_err());
}

#[test]
fn a_self_signed_certificate_is_trusted_where_it_is_the_root_itself() {
    let own = verifier(Check::ChainAndName, &["own"]);
    assert_eq!(verify(&own, "own", "db.test"), Ok(()));
    assert!(verify(&own, "own", "other.test").is_err());
    assert!(verify(&own, "san", "db.test").is_err());
}

#[test]
fn what_is_no_authority_cannot_sign() {
    let notca = verifier(Check::Chain, &["notca"]);
    assert!(verify(&notca, "v1_by_notca", "db.test").is_err());
}

#[test]
fn dates_count_in_every_path() {
    for (roots, leaf) in [(["ca"], "san"), (["ca"], "v1"), (["own"], "own")] {
        let verifier = verifier(Check::Chain, &roots);
        let early = verify_in(2000, &verifier, leaf, "db.test").unwrap_err();
        assert!(early.contains("not valid yet"), "{leaf}: {early}");
        let late = verify_in(2200, &verifier, leaf, "db.test").unwrap_err();
        assert!(late.contains("expired"), "{leaf}: {late}");
    }
}

#[test]
fn truncated_der_is_no_header() {
    assert_eq!(header(&[0x30, 0x03, 1, 2, 3]), Some((2, 3)));
    assert_eq!(header(&[0x30, 0x82, 0x01, 0x00]), Some((4, 256)));
    for der in [
        &[][..],
        &[0x30],
        &[0x30, 0x82, 1],
        &[0x30, 0x80],
        &[0x30, 0xff, 1, 1],
    ] {
        assert_eq!(header(der), None);
    }
    assert_eq!(
        signed_part(&CertificateDer::from(vec![0x30, 0x7f, 0x30, 0x7f])),
        None
    );
}
