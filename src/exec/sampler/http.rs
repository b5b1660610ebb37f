//! One GET by HTTP/1.1, over TLS where asked for.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::error::{Error, Result};
use crate::pg::tls;
use crate::throttle::endpoint::{Endpoint, Secret};

/// No answer that is looked at is longer.
const LONGEST: usize = 1 << 20;

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// The status code.
    pub(super) status: u16,
    /// The body; empty where it was not asked for.
    pub(super) body: String,
}

/// Asks; redirections are not followed. The caller sets the time that it may take.
///
/// # Errors
/// [`crate::ErrorKind::Connection`], naming host and port: no answer was had.
/// [`crate::ErrorKind::Usage`] where a header cannot be sent.
pub(super) async fn get(url: &Endpoint, body: bool) -> Result<Answer> {
    let lost = |what: &dyn std::fmt::Display| Error::connection(format!("{url}: {what}"));
    let stream = TcpStream::connect((url.host.as_str(), url.port))
        .await
        .map_err(|e| lost(&e))?;
    if !url.tls {
        return talk(url, stream, body).await;
    }
    let config = tls::public_client()?;
    let name = ServerName::try_from(url.host.clone()).map_err(|e| lost(&e))?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|e| lost(&e))?;
    talk(url, stream, body).await
}

async fn talk(
    url: &Endpoint,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    body: bool,
) -> Result<Answer> {
    let lost = |what: &dyn std::fmt::Display| Error::connection(format!("{url}: {what}"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| lost(&e))?;
    let talk = async {
        let answer = sender
            .send_request(request(url)?)
            .await
            .map_err(|e| lost(&e))?;
        let status = answer.status().as_u16();
        if !body {
            return Ok(Answer {
                status,
                body: String::new(),
            });
        }
        let bytes = Limited::new(answer.into_body(), LONGEST)
            .collect()
            .await
            .map_err(|e| lost(&e))?
            .to_bytes();
        Ok(Answer {
            status,
            body: String::from_utf8_lossy(&bytes).into_owned(),
        })
    };
    // Both in this future: what is dropped in time leaves no task behind.
    let mut connection = std::pin::pin!(connection);
    let mut talk = std::pin::pin!(talk);
    tokio::select! {
        biased;
        answer = &mut talk => answer,
        ended = &mut connection => match ended {
            Err(error) => Err(lost(&error)),
            Ok(()) => talk.await,
        },
    }
}

fn request(url: &Endpoint) -> Result<hyper::Request<Empty<Bytes>>> {
    let mut request = hyper::Request::get(url.target())
        .header(HOST, url.authority())
        .header(ACCEPT, "*/*")
        .header(USER_AGENT, concat!("pgshift/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|e| Error::usage(format!("{url}: no request can be made of it: {e}")))?;
    let secret = |text: &str| {
        let mut value = HeaderValue::from_str(text).map_err(|_| {
            Error::usage(format!(
                "{url}: its secret has characters that no header can have"
            ))
        })?;
        value.set_sensitive(true);
        Ok::<_, Error>(value)
    };
    if let Some(userinfo) = url.userinfo.as_ref().map(Secret::reveal) {
        let text = if userinfo.contains(':') {
            userinfo.to_owned()
        } else {
            format!("{userinfo}:")
        };
        let value = secret(&format!("Basic {}", base64(text.as_bytes())))?;
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    if let Some((name, value)) = &url.header {
        let name = HeaderName::try_from(name)
            .map_err(|_| Error::usage(format!("{name:?} is no name of an HTTP header")))?;
        request.headers_mut().insert(name, secret(value.reveal())?);
    }
    Ok(request)
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            if n <= chunk.len() {
                out.push(char::from(DIGITS[(bits >> (18 - 6 * n) & 63) as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }

    #[test]
    fn secrets_are_sent_and_not_shown() {
        let mut url: Endpoint = "http://ops:geheim@gate:8080/go?key=k"
            .parse()
            .expect("a URL");
        let sent = request(&url).expect("a request");
        assert_eq!(sent.uri(), "/go?key=k");
        assert_eq!(sent.headers()[HOST], "gate:8080");
        assert_eq!(sent.headers()[AUTHORIZATION], "Basic b3BzOmdlaGVpbQ==");
        assert!(!format!("{sent:?}").contains("b3BzO"));
        url.header = Some(("X-Key".into(), Secret::new("a\nb")));
        let error = request(&url).expect_err("a line break");
        assert!(!error.to_string().contains("geheim"), "{error}");
    }
}
