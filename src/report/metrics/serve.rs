//! `/metrics` and `/healthz` over HTTP.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::{Exposition, Metrics};
use crate::error::{Error, Result};

/// Clients at a time; a scraper is one.
const MOST_CLIENTS: usize = 16;
/// A client that has sent no whole request by then is dropped.
const PATIENCE: Duration = Duration::from_secs(30);
/// Rest after an `accept` that failed, as for want of file descriptors.
const REST: Duration = Duration::from_millis(200);

/// Where metrics are served.
#[derive(Debug)]
pub struct Listening(std::net::TcpListener);

impl Listening {
    /// Takes an address such as `127.0.0.1:9187`; port 0 takes a free one.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] where it is no address, or cannot be had.
    pub fn at(address: &str) -> Result<Self> {
        let bound = std::net::TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        bound.map(Self).map_err(|e| {
            Error::usage(format!("metrics cannot be served on {address}: {e}"))
                .left("nothing was started")
                .hint("name a free address as HOST:PORT, such as 127.0.0.1:9187")
        })
    }

    /// The address that it has.
    ///
    /// # Errors
    /// Where the operating system does not tell.
    pub fn address(&self) -> Result<SocketAddr> {
        self.0
            .local_addr()
            .map_err(|e| Error::usage(format!("metrics cannot be served: {e}")))
    }

    /// Serves until the runtime ends. Must be called within one.
    ///
    /// # Errors
    /// Where the listener cannot be used.
    pub fn serve(self, metrics: Arc<Metrics>) -> Result<()> {
        let listener = TcpListener::from_std(self.0)
            .map_err(|e| Error::usage(format!("metrics cannot be served: {e}")))?;
        tokio::spawn(accept(listener, metrics));
        Ok(())
    }
}

async fn accept(listener: TcpListener, metrics: Arc<Metrics>) {
    let room = Arc::new(Semaphore::new(MOST_CLIENTS));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("metrics: {error}");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let metrics = metrics.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(&metrics, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!("a client of the metrics: {error}");
            }
            drop(place);
        });
    }
}

fn answer<B>(metrics: &Metrics, request: &Request<B>) -> Response<String> {
    let get = [Method::GET, Method::HEAD].contains(request.method());
    match request.uri().path() {
        "/metrics" | "/healthz" if !get => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
            let allowed = hyper::header::HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allowed);
            response
        }
        "/metrics" => {
            let accept = request.headers().get(ACCEPT).and_then(|v| v.to_str().ok());
            let exposition = Exposition::wanted(accept);
            typed(
                StatusCode::OK,
                exposition.content_type(),
                metrics.text(exposition),
            )
        }
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        _ => text(
            StatusCode::NOT_FOUND,
            "/metrics and /healthz are here\n".to_owned(),
        ),
    }
}

fn text(status: StatusCode, body: String) -> Response<String> {
    typed(status, "text/plain; charset=utf-8", body)
}

fn typed(status: StatusCode, media: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let media = hyper::header::HeaderValue::from_static(media);
    response.headers_mut().insert(CONTENT_TYPE, media);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: Method, path: &str, accept: Option<&str>) -> Response<String> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        let metrics = Metrics::new(crate::report::metrics::tests::clock);
        answer(&metrics, &request.body(()).expect("a request"))
    }

    #[test]
    fn answers_by_path_method_and_accept() {
        let open = ask(Method::GET, "/metrics", None);
        assert_eq!(open.status(), 200);
        let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert_eq!(open.headers()[CONTENT_TYPE], media);
        assert!(open.body().ends_with("# EOF\n"));
        let plain = ask(
            Method::GET,
            "/metrics?x=1",
            Some("text/plain;version=0.0.4"),
        );
        assert_eq!(
            plain.headers()[CONTENT_TYPE],
            "text/plain; version=0.0.4; charset=utf-8"
        );
        assert!(!plain.body().contains("EOF"));
        assert_eq!(ask(Method::GET, "/healthz", None).body(), "ok\n");
        assert_eq!(ask(Method::GET, "/", None).status(), 404);
        assert_eq!(ask(Method::POST, "/metrics", None).status(), 405);
    }

    #[test]
    fn an_address_in_use_is_the_users_error() {
        let first = Listening::at("127.0.0.1:0").expect("a free port");
        let taken = first.address().expect("an address").to_string();
        let error = Listening::at(&taken).expect_err("taken");
        assert_eq!(error.kind(), crate::ErrorKind::Usage);
        assert!(error.message().contains(&taken), "{error}");
        assert!(Listening::at("nonsense").is_err());
    }
}
