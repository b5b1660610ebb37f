//! Checking server certificates to the degree that `sslmode` asks for.
//!
//! webpki does the work. Around it stands what libpq (OpenSSL) accepts and webpki does not
//! read, because PostgreSQL's documentation (19.9.5 "Creating Certificates") makes just such
//! certificates: no subjectAltName (then the common name counts), version 1 signed directly
//! by a root, and a self-signed one that is its own root.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::certificate::Version;
use x509_cert::der::asn1::{PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::BasicConstraints;

/// id-at-commonName.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// id-ce-subjectAltName.
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");

/// How much of a server certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Nothing: `require` and below without a root certificate.
    Nothing,
    /// That an authority signed it.
    Chain,
    /// That an authority signed it for the host.
    ChainAndName,
}

/// The verifier of all modes.
#[derive(Debug)]
pub(super) struct Verifier {
    check: Check,
    roots: RootCertStore,
    /// The root certificates of a file, whole.
    files: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(
        check: Check,
        roots: RootCertStore,
        files: Vec<CertificateDer<'static>>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self {
            check,
            roots,
            files,
            algorithms,
        }
    }

    fn chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.files.iter().any(|root| root == leaf) {
            return valid_at(&parse(leaf)?, now);
        }
        let certificate = parse(leaf)?;
        if certificate.tbs_certificate.version == Version::V1 {
            return self.directly_signed(leaf, &certificate, now);
        }
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(leaf)?,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )
    }

    /// A version 1 certificate: it has no extensions, so its issuer's name, its dates and the
    /// signature are all there is to check.
    fn directly_signed(
        &self,
        leaf: &CertificateDer<'_>,
        certificate: &Certificate,
        now: UnixTime,
    ) -> Result<(), Error> {
        valid_at(certificate, now)?;
        let message = signed_part(leaf).ok_or(CertificateError::BadEncoding)?;
        let signature = certificate
            .signature
            .as_bytes()
            .ok_or(CertificateError::BadEncoding)?;
        for root in &self.files {
            let root = parse(root)?;
            if root.tbs_certificate.subject != certificate.tbs_certificate.issuer {
                continue;
            }
            valid_at(&root, now)?;
            if !may_sign(&root) {
                continue;
            }
            let key = &root.tbs_certificate.subject_public_key_info;
            let signed = identifier(&certificate.signature_algorithm);
            let keyed = identifier(&key.algorithm);
            let key = key.subject_public_key.as_bytes();
            let verified = self.algorithms.all.iter().any(|algorithm| {
                Some(algorithm.signature_alg_id().as_ref()) == signed.as_deref()
                    && Some(algorithm.public_key_alg_id().as_ref()) == keyed.as_deref()
                    && key.is_some_and(|key| {
                        algorithm.verify_signature(key, message, signature).is_ok()
                    })
            });
            if verified {
                return Ok(());
            }
        }
        Err(CertificateError::UnknownIssuer.into())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.check != Check::Nothing {
            self.chain(leaf, intermediates, now)?;
        }
        if self.check == Check::ChainAndName {
            verify_name(leaf, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    // Checked in every mode: channel binding rests on the server having the certificate's key.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match parse(certificate) {
            // webpki reads no version 1, but a key is a key.
            Ok(parsed) if parsed.tbs_certificate.version == Version::V1 => {
                let key = parsed
                    .tbs_certificate
                    .subject_public_key_info
                    .to_der()
                    .map_err(|_| CertificateError::BadEncoding)?;
                verify_tls13_signature_with_raw_key(
                    message,
                    &SubjectPublicKeyInfoDer::from(key),
                    signature,
                    &self.algorithms,
                )
            }
            _ => verify_tls13_signature(message, certificate, signature, &self.algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The names of the subjectAltName; without that extension, the common name (RFC 2818, 3.1,
/// as libpq).
fn verify_name(leaf: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    let certificate = parse(leaf)?;
    let extensions = certificate.tbs_certificate.extensions.iter().flatten();
    if extensions
        .into_iter()
        .any(|e| e.extn_id == SUBJECT_ALT_NAME)
    {
        return verify_server_name(&ParsedCertificate::try_from(leaf)?, name);
    }
    let presented: Vec<String> = common_names(&certificate);
    // libpq takes the last one, the most specific.
    match presented.last() {
        Some(common) if name_matches(common, &name.to_str()) => Ok(()),
        _ => Err(CertificateError::NotValidForNameContext {
            expected: name.to_owned(),
            presented,
        }
        .into()),
    }
}

fn common_names(certificate: &Certificate) -> Vec<String> {
    let names = certificate.tbs_certificate.subject.0.iter();
    names
        .flat_map(|part| part.0.iter())
        .filter(|attribute| attribute.oid == COMMON_NAME)
        .filter_map(|attribute| {
            let value = &attribute.value;
            None.or_else(|| {
                value
                    .decode_as::<Utf8StringRef<'_>>()
                    .ok()
                    .map(|s| s.to_string())
            })
            .or_else(|| {
                value
                    .decode_as::<PrintableStringRef<'_>>()
                    .ok()
                    .map(|s| s.to_string())
            })
            .or_else(|| {
                value
                    .decode_as::<TeletexStringRef<'_>>()
                    .ok()
                    .map(|s| s.to_string())
            })
        })
        .collect()
}

/// Case does not matter; `*.` stands for exactly one label, never for a whole address.
pub(super) fn name_matches(pattern: &str, host: &str) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return !host.is_empty();
    }
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    match (pattern.strip_prefix("*."), host.split_once('.')) {
        (Some(rest), Some((first, domain))) => {
            !is_address
                && !first.is_empty()
                && !rest.is_empty()
                && rest.eq_ignore_ascii_case(domain)
        }
        _ => false,
    }
}

fn parse(certificate: &CertificateDer<'_>) -> Result<Certificate, Error> {
    Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding.into())
}

fn valid_at(certificate: &Certificate, now: UnixTime) -> Result<(), Error> {
    let validity = &certificate.tbs_certificate.validity;
    let now = now.as_secs();
    if now < validity.not_before.to_unix_duration().as_secs() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after.to_unix_duration().as_secs() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// Whether a root is an authority: version 3 says so, earlier ones cannot.
fn may_sign(root: &Certificate) -> bool {
    root.tbs_certificate.version != Version::V3
        || root
            .tbs_certificate
            .get::<BasicConstraints>()
            .is_ok_and(|found| found.is_some_and(|(_, constraints)| constraints.ca))
}

/// The DER contents of an `AlgorithmIdentifier`, the form in which pki-types names algorithms.
fn identifier(algorithm: &x509_cert::spki::AlgorithmIdentifierOwned) -> Option<Vec<u8>> {
    let der = algorithm.to_der().ok()?;
    let (header, length) = header(&der)?;
    der.get(header..header + length).map(<[u8]>::to_vec)
}

/// The signed bytes of a certificate as they came: the first element inside it, header too.
fn signed_part<'a>(certificate: &'a CertificateDer<'_>) -> Option<&'a [u8]> {
    let (outer, _) = header(certificate)?;
    let inside = certificate.get(outer..)?;
    let (inner, length) = header(inside)?;
    inside.get(..inner + length)
}

/// Length of an element's header and of its contents (X.690, 8.1.3).
fn header(der: &[u8]) -> Option<(usize, usize)> {
    let first = usize::from(*der.get(1)?);
    if first < 0x80 {
        return Some((2, first));
    }
    let bytes = der.get(2..2 + (first & 0x7f))?;
    if bytes.is_empty() || bytes.len() > 4 {
        return None;
    }
    let length = bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b));
    Some((2 + bytes.len(), length))
}

#[cfg(test)]
mod tests;
