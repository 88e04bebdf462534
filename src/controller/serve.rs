//! Health, readiness, metrics and the page over HTTP. Nothing here is secret, and nothing changes anything,
//! so there is neither TLS nor a login. docs/controller.md says how to put them in front.
//!
//! A connection serves one request and lives for seconds. If there are too many, the oldest one
//! ends: probes are answered even while others hold their connections open.

use super::metrics::{CONTENT_TYPE, Metrics};
use super::overview::Observed;
use super::page::{Page, Pages};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE as TYPE, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::libc;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{sleep, timeout};

/// How many connections may be open.
const CONNECTIONS: usize = 100;

/// How long a client may take to send its request.
const REQUEST: Duration = Duration::from_secs(5);

/// How long a connection may live. A scrape of ten thousand pools takes less than a second.
const CONNECTION: Duration = Duration::from_secs(20);

/// How large the head of a request may be, in bytes, and how many headers it may have.
const HEAD: usize = 16 * 1024;
const HEADERS: usize = 64;

/// What is served.
pub struct Served {
    /// The metrics.
    pub metrics: Rc<Metrics>,
    /// What the controller sees.
    pub observed: Rc<dyn Observed>,
    /// Whether this replica writes.
    pub leading: watch::Receiver<bool>,
    /// The page.
    pub pages: Pages,
}

/// Opens the port. If a kernel without IPv6 is asked for every address of it, every address of IPv4
/// is meant.
///
/// # Errors
/// The port is taken, or the address is not one of this host.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error)
            if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                && [Some(libc::EAFNOSUPPORT), Some(libc::EADDRNOTAVAIL)]
                    .contains(&error.raw_os_error()) =>
        {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        other => other,
    }
}

/// Answers requests. It never returns: drop it to stop. Open connections end with the runtime.
pub async fn serve(listener: TcpListener, served: Served) {
    let served = Rc::new(served);
    let mut connections: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // No descriptor is free, or the client has gone.
                tracing::debug!("cannot accept a connection: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        connections.retain(|connection| !connection.is_finished());
        while CONNECTIONS <= connections.len() {
            if let Some(oldest) = connections.pop_front() {
                oldest.abort();
            }
        }
        connections.push_back(spawn_local(connection(stream, Rc::clone(&served))));
    }
}

async fn connection(stream: TcpStream, served: Rc<Served>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let served = Rc::clone(&served);
        async move { Ok::<_, Infallible>(answer(&served, request.method(), request.uri()).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST)
        .max_buf_size(HEAD)
        .max_headers(HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A client that goes away is not our error.
    let _ = timeout(CONNECTION, connection).await;
}

async fn answer(served: &Served, method: &Method, uri: &Uri) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let body = "only GET and HEAD are allowed\n".to_owned();
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, body);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let leading = *served.leading.borrow();
    match uri.path() {
        // The event loop has answered, so it is alive.
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" if served.observed.is_synced() => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the controller has not read all objects of the API server yet\n".to_owned(),
        ),
        "/metrics" => {
            let mut response =
                text(StatusCode::OK, served.metrics.text(&*served.observed, leading));
            response.headers_mut().insert(TYPE, HeaderValue::from_static(CONTENT_TYPE));
            response
        }
        path => match served.pages.get(path, uri.query().unwrap_or_default(), leading).await {
            Some(page) => html(page, served.pages.policy()),
            None => text(
                StatusCode::NOT_FOUND,
                "here are /, /search, /overlaps, /healthz, /readyz and /metrics\n".to_owned(),
            ),
        },
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Returns an answer that a browser shows and that can do nothing in it.
fn html(page: Page, policy: &str) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = text(status, page.html);
    let headers = response.headers_mut();
    headers.insert(TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    if let Ok(policy) = HeaderValue::from_str(policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // It shows one moment, and names of pods: no proxy keeps it.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
