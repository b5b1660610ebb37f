//! The address of a gate or of Prometheus. Its secrets are never shown.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whom it is meant.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// An HTTP address. [`fmt::Display`] and [`fmt::Debug`] leave out credentials and query.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `https`.
    pub tls: bool,
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query.
    target: String,
    /// `user:password` of the URL, percent-decoded.
    pub userinfo: Option<Secret>,
    /// A header with a secret value.
    pub header: Option<(String, Secret)>,
}

impl Endpoint {
    /// Path and query, to be sent; not to be shown.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The same place with a path below it and a query, whose values are encoded here.
    #[must_use]
    pub fn below(&self, path: &str, query: &[(&str, &str)]) -> Self {
        let base = self.target.split('?').next().unwrap_or_default();
        let query: Vec<String> = query
            .iter()
            .map(|(key, value)| format!("{key}={}", percent(value)))
            .collect();
        Self {
            target: format!("{}{path}?{}", base.trim_end_matches('/'), query.join("&")),
            ..self.clone()
        }
    }

    /// Host and port as the `Host` header wants them.
    pub fn authority(&self) -> String {
        let standard = if self.tls { 443 } else { 80 };
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == standard {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

/// All but unreserved characters (RFC 3986, section 2.3) as `%XX`.
fn percent(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

fn unpercent(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

impl FromStr for Endpoint {
    type Err = String;

    /// Errors do not repeat the text: it may have a password.
    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text
            .split('#')
            .next()
            .unwrap_or_default()
            .parse()
            .map_err(|e| format!("this is not a URL such as https://gate.example/go: {e}"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("a URL that begins with http:// or https:// is wanted".to_owned()),
        };
        let authority = uri.authority().ok_or("the URL names no host")?;
        let host = authority.host().trim_matches(['[', ']']);
        if host.is_empty() {
            return Err("the URL names no host".to_owned());
        }
        let userinfo = match authority.as_str().rsplit_once('@') {
            None => None,
            Some((userinfo, _)) => Some(
                unpercent(userinfo)
                    .map(Secret::new)
                    .ok_or("user and password of the URL are not percent-encoded rightly")?,
            ),
        };
        Ok(Self {
            tls,
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            target: uri
                .path_and_query()
                .map_or("/", hyper::http::uri::PathAndQuery::as_str)
                .to_owned(),
            userinfo,
            header: None,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let path = self.target.split('?').next().unwrap_or_default();
        let path = if path == "/" { "" } else { path };
        write!(f, "{scheme}://{}{path}", self.authority())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        text.parse().expect(text)
    }

    #[test]
    fn the_parts_of_a_url() {
        let e = endpoint("https://ops:p%40ss@gate.example:8443/go/now?token=geheim#top");
        assert!(e.tls);
        assert_eq!((e.host.as_str(), e.port), ("gate.example", 8443));
        assert_eq!(e.target(), "/go/now?token=geheim");
        assert_eq!(e.userinfo.as_ref().map(Secret::reveal), Some("ops:p@ss"));
        for shown in [e.to_string(), format!("{e:?}")] {
            assert_eq!(shown, "https://gate.example:8443/go/now");
        }
        let six = endpoint("http://[::1]:9090");
        assert_eq!(
            (six.host.as_str(), six.authority()),
            ("::1", "[::1]:9090".into())
        );
        assert_eq!(endpoint("http://a").port, 80);
    }

    #[test]
    fn a_query_is_encoded() {
        let e = endpoint("http://prometheus:9090/base/").below(
            "/api/v1/query",
            &[("query", "max(lag{job=\"a b\"}) > 1&x"), ("timeout", "2s")],
        );
        assert_eq!(
            e.target(),
            "/base/api/v1/query?query=max%28lag%7Bjob%3D%22a%20b%22%7D%29%20%3E%201%26x&timeout=2s"
        );
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_repeated() {
        for text in [
            "",
            "gate",
            "ftp://u:geheim@x",
            "http://",
            "http://u:geheim%@x/",
            "http://u:geheim@",
        ] {
            let error = text.parse::<Endpoint>().expect_err(text);
            assert!(!error.contains("geheim"), "{error}");
        }
    }
}
