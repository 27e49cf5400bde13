//! The administration HTTP listener: metrics, liveness, readiness, statistics.
//!
//! | path | answer |
//! | --- | --- |
//! | `GET /metrics` | OpenMetrics text |
//! | `GET /healthz` | 200 while the process works; 503 with the reason otherwise |
//! | `GET /readyz` | 200 while mail can be accepted; 503 with the reason otherwise |
//! | `GET /stats/summary` | the numbers of the console's `summary` as JSON |
//! | `DELETE /stats/summary` | sets them to zero |
//! | `GET /stats/queues/mailq` | the longest queues as JSON; `domain`, `binding`, `ip`, `limit` |
//!
//! Paths and JSON names of the statistics are those of Momentum's HTTP interface. There is no authentication: the
//! listener belongs on loopback.

use crate::command::{MailqQuery, Summary, mailq_json};
use crate::view::Services;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use ph_eventlog::metrics;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

/// Connections at one time.
const CONNECTIONS_MAX: usize = 64;
/// Seconds that a client has for the head of a request, and that a connection may last.
const HEAD_TIMEOUT_S: u64 = 10;
const CONNECTION_MAX_S: u64 = 300;
/// Octets of a request's head.
const HEAD_MAX: usize = 16 << 10;

type Answer = Response<Full<Bytes>>;

/// Serves a listener until `stop` becomes true (or its sender is gone).
pub async fn serve_http(listener: TcpListener, services: Arc<Services>, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (services, mut stop) = (Arc::clone(&services), stop.clone());
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(|request| {
                let services = Arc::clone(&services);
                async move { Ok::<_, Infallible>(answer(&services, &request)) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(HEAD_TIMEOUT_S))
                .max_buf_size(HEAD_MAX)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // An error is the client's: it went away or sent no HTTP.
                result = tokio::time::timeout(Duration::from_secs(CONNECTION_MAX_S), connection) => drop(result),
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
    }
}

fn answer(services: &Services, request: &Request<Incoming>) -> Answer {
    route(services, request.method(), request.uri().path(), request.uri().query().unwrap_or_default())
}

fn route(services: &Services, method: &Method, path: &str, query: &str) -> Answer {
    let get = method == Method::GET || method == Method::HEAD;
    match path {
        "/metrics" if get => reply(StatusCode::OK, metrics::CONTENT_TYPE, metrics::render_openmetrics()),
        "/healthz" if get => health(services.server.live()),
        "/readyz" if get => health(services.server.ready()),
        "/stats/summary" if get => json(&Summary::of(services).json().to_json()),
        "/stats/summary" if method == Method::DELETE => {
            services.log.stats().reset(services.clock.now());
            services.server.reset_dns_stats();
            reply(StatusCode::NO_CONTENT, TEXT, String::new())
        }
        "/stats/queues/mailq" if get => json(&mailq_json(&mailq_query(query).rows(services)).to_json()),
        "/metrics" | "/healthz" | "/readyz" | "/stats/queues/mailq" => not_allowed("GET, HEAD"),
        "/stats/summary" => not_allowed("GET, HEAD, DELETE"),
        _ => reply(StatusCode::NOT_FOUND, TEXT, "not found\n".to_owned()),
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

fn health(state: Result<(), String>) -> Answer {
    match state {
        Ok(()) => reply(StatusCode::OK, TEXT, "ok\n".to_owned()),
        Err(reason) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{}\n", crate::doc::clean(&reason))),
    }
}

fn json(value: &serde_json::Value) -> Answer {
    reply(StatusCode::OK, "application/json", format!("{value}\n"))
}

fn not_allowed(methods: &'static str) -> Answer {
    let mut answer = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "method not allowed\n".to_owned());
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    answer
}

fn reply(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn mailq_query(query: &str) -> MailqQuery {
    let mut wanted = MailqQuery::default();
    let mut of_ip = None;
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decoded(value);
        match key {
            "domain" if !value.is_empty() => wanted.domains = vec![value.to_lowercase()],
            "binding" if !value.is_empty() => wanted.bindings = vec![value],
            // The name that bindings of one address have by custom; a binding named outright wins.
            "ip" if !value.is_empty() => of_ip = Some(format!("ip_{value}")),
            "limit" => wanted.limit = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    if wanted.bindings.is_empty() {
        wanted.bindings.extend(of_ip);
    }
    wanted
}

/// `%XX` and `+` resolved; what is no escape stays.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = |digit: u8| (digit as char).to_digit(16).map(|value| value as u8);
        rest = after;
        match (byte, after) {
            (b'%', [high, low, tail @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = tail;
                }
                _ => bytes.push(byte),
            },
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_leniently() {
        let wanted = mailq_query("domain=Example.COM&ip=1.2.3.4&limit=50&x=%zz");
        assert_eq!(wanted.domains, ["example.com"]);
        assert_eq!(wanted.bindings, ["ip_1.2.3.4"]);
        assert_eq!(wanted.limit, 50);
        assert_eq!(mailq_query("binding=a%20b&ip=1.2.3.4&limit=-1").bindings, ["a b"]);
        assert_eq!(mailq_query("limit=x").limit, 0);
        assert_eq!(percent_decoded("a%2Fb%zz%4+c%"), "a/b%zz%4 c%");
    }
}
