//! TLS as libpq does it (PostgreSQL documentation, 34.19 "SSL Support"), by rustls.

mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CertificateError, ClientConfig, RootCertStore};

use super::conninfo::{ConnInfo, RootCert, SslMode};
use crate::{Error, Result};
use verify::{Check, Verifier};

/// The TLS client of these settings.
///
/// Authorities are `sslrootcert`, else `~/.postgresql/root.crt` if there is one, else, for
/// verify-full, the operating system's. With a root certificate the chain is checked in every
/// mode, as in libpq. `home` is the user's home directory.
///
/// # Errors
/// [`ErrorKind::Usage`](crate::ErrorKind::Usage), naming the file and what is wrong with it.
pub fn client_config(info: &ConnInfo, home: Option<&Path>) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal(format!("TLS: {error}")))?;
    if info.sslmode == SslMode::Disable {
        return Ok(builder
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth());
    }
    let authorities = authorities(info, home)?;
    let check = match (info.sslmode, &authorities) {
        (SslMode::VerifyFull, _) => Check::ChainAndName,
        (_, Some(_)) => Check::Chain,
        (_, None) => Check::Nothing,
    };
    let authorities = authorities.unwrap_or_else(|| Authorities {
        roots: RootCertStore::empty(),
        files: Vec::new(),
    });
    let verifier = Verifier::new(check, authorities.roots, authorities.files, algorithms);
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match client_certificate(info, home)? {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let chain = read_certificates(&certificate, "sslcert")?;
            let private = read_key(&key)?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|error| {
                    Error::usage(format!(
                        "client certificate {} and key {} cannot be used: {error}",
                        certificate.display(),
                        key.display()
                    ))
                    .hint("the key must be the one the certificate was made for")
                })
        }
    }
}

/// The TLS client for servers that are none of PostgreSQL: chain and name are checked against the
/// operating system's authorities (or those that `SSL_CERT_FILE` names).
///
/// # Errors
/// [`ErrorKind::Usage`](crate::ErrorKind::Usage) where there are none.
pub fn public_client() -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal(format!("TLS: {error}")))?
        .with_root_certificates(system_authorities()?.roots)
        .with_no_client_auth())
}

/// Who may sign server certificates.
struct Authorities {
    roots: RootCertStore,
    /// The certificates of a file as they are: trusted also where the server itself shows one.
    files: Vec<CertificateDer<'static>>,
}

fn authorities(info: &ConnInfo, home: Option<&Path>) -> Result<Option<Authorities>> {
    let default = || {
        home.map(|home| home.join(".postgresql/root.crt"))
            .filter(|path| path.exists())
    };
    let file = match &info.sslrootcert {
        Some(RootCert::System) => return system_authorities().map(Some),
        Some(RootCert::File(path)) => Some(path.clone()),
        None => default(),
    };
    let Some(path) = file else {
        return match info.sslmode {
            SslMode::VerifyFull => system_authorities().map(Some),
            // Any public authority signs for anyone: a chain to one proves nothing.
            SslMode::VerifyCa => Err(Error::usage("sslmode=verify-ca needs a root certificate")
                .hint(
                    "give sslrootcert=FILE, put one at ~/.postgresql/root.crt, or use \
                     sslmode=verify-full",
                )),
            _ => Ok(None),
        };
    };
    let files = read_certificates(&path, "sslrootcert")?;
    let mut roots = RootCertStore::empty();
    for (number, certificate) in (1..).zip(&files) {
        roots.add(certificate.clone()).map_err(|error| {
            Error::usage(format!(
                "sslrootcert {}: certificate {number} cannot be an authority: {}",
                path.display(),
                explain(&error)
            ))
        })?;
    }
    Ok(Some(Authorities { roots, files }))
}

fn system_authorities() -> Result<Authorities> {
    let loaded = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(loaded.certs);
    if added == 0 {
        let why = loaded.errors.first().map(ToString::to_string);
        return Err(Error::usage(format!(
            "the operating system has no usable certificate authorities{}",
            why.map_or_else(String::new, |why| format!(": {why}"))
        ))
        .hint("install its ca-certificates package, or give sslrootcert=FILE"));
    }
    Ok(Authorities {
        roots,
        files: Vec::new(),
    })
}

/// Certificate and key file: those given, else libpq's defaults if they are there.
fn client_certificate(info: &ConnInfo, home: Option<&Path>) -> Result<Option<(PathBuf, PathBuf)>> {
    let default = |name: &str| home.map(|home| home.join(".postgresql").join(name));
    let certificate = match &info.sslcert {
        Some(path) => path.clone(),
        None => match default("postgresql.crt").filter(|path| path.exists()) {
            Some(path) => path,
            None => return Ok(None),
        },
    };
    match info.sslkey.clone().or_else(|| default("postgresql.key")) {
        Some(key) => Ok(Some((certificate, key))),
        None => Err(Error::usage(format!(
            "client certificate {} has no key",
            certificate.display()
        ))
        .hint("give sslkey=FILE")),
    }
}

fn read_file(path: &Path, parameter: &str) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        Error::usage(format!(
            "{parameter} {} cannot be read: {error}",
            path.display()
        ))
    })
}

fn read_certificates(path: &Path, parameter: &str) -> Result<Vec<CertificateDer<'static>>> {
    let text = read_file(path, parameter)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(Error::usage(format!(
            "{parameter} {} holds no certificate",
            path.display()
        ))
        .hint("it must be in PEM form: -----BEGIN CERTIFICATE-----")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(Error::usage(format!(
            "{parameter} {} is damaged: {error}",
            path.display()
        ))),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let text = read_file(path, "sslkey")?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        // As libpq: 0600, or 0640 where root owns it.
        if let Ok(metadata) = std::fs::metadata(path) {
            let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
            if metadata.permissions().mode() & forbidden != 0 {
                return Err(Error::usage(format!(
                    "sslkey {} can be read by group or others",
                    path.display()
                ))
                .hint(format!("chmod 0600 {}", path.display())));
            }
        }
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        let encrypted = text
            .windows(b"ENCRYPTED".len())
            .any(|part| part == b"ENCRYPTED");
        let why = if encrypted {
            "is protected by a passphrase, which is not supported"
        } else {
            "holds no private key in PEM form"
        };
        Error::usage(format!("sslkey {} {why}", path.display()))
            .hint("openssl pkey -in OLD -out NEW writes one without a passphrase")
    })
}

/// What is wrong, in words that say what to look at.
pub(super) fn explain(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(certificate) = error else {
        return match error {
            rustls::Error::AlertReceived(alert) => {
                format!("the server ended the handshake: {alert:?}")
            }
            other => other.to_string(),
        };
    };
    match certificate {
        CertificateError::UnknownIssuer => {
            "no known authority signed the server's certificate".to_owned()
        }
        CertificateError::NotValidForName => {
            "the server's certificate is for another host".to_owned()
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "the server's certificate is not for {}{}",
            expected.to_str(),
            if presented.is_empty() {
                String::new()
            } else {
                let names: Vec<&str> = presented.iter().map(|name| plain_name(name)).collect();
                format!(", but for {}", names.join(", "))
            }
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet".to_owned()
        }
        CertificateError::BadEncoding => {
            "a certificate is not in a form that can be read".to_owned()
        }
        CertificateError::Other(other) => match &*other.0.to_string() {
            "CaUsedAsEndEntity" => "the server shows the certificate of an authority, which \
                                    sslrootcert does not hold"
                .to_owned(),
            "UnsupportedCertVersion" => "the server's certificate is X.509 version 1, which \
                                         needs TLS 1.3 and sslrootcert to hold its signer"
                .to_owned(),
            other => format!("the server's certificate cannot be accepted: {other}"),
        },
        other => format!("the server's certificate cannot be accepted: {other}"),
    }
}

/// What to do about it.
pub(super) fn hint_for(error: &rustls::Error) -> Option<&'static str> {
    match error {
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::Other(_),
        ) => Some("give the certificate of the authority that signed it: sslrootcert=FILE"),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Some(
            "connect by a name that the certificate is for (hostaddr=ADDRESS can say where \
             it is), or use sslmode=verify-ca",
        ),
        rustls::Error::InvalidCertificate(_) => Some("renew the server's certificate"),
        _ => None,
    }
}

/// webpki names what a certificate is for in its own form: `DnsName("db.example.com")`.
fn plain_name(presented: &str) -> &str {
    presented
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'))
        .map_or(presented, |name| name.trim_matches('"'))
}

#[cfg(test)]
mod tests;
