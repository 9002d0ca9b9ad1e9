//! `--metrics ADDR`: counters for Prometheus over HTTP.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use conveyor_engine::{Metrics, Snapshot};
use conveyor_model::{Error, PipelineId, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use conveyor_sidecar::prometheus;

/// Connections served at once; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 32;

type Pipelines = Arc<Vec<(PipelineId, Arc<Metrics>)>>;

/// Binds the address and serves `/metrics` and `/healthz` until the process ends.
///
/// # Errors
/// `BadInput` for an address outside loopback without `--insecure`, or one that cannot be bound.
pub async fn start(
    address: SocketAddr,
    insecure: bool,
    pipelines: Vec<(PipelineId, Arc<Metrics>)>,
) -> Result<()> {
    if !address.ip().is_loopback() && !insecure {
        return Err(Error::bad_input(
            "metrics-not-loopback",
            format!("--metrics {address} is reachable from other machines, without TLS or token"),
        )
        .help("use 127.0.0.1, or say --insecure"));
    }
    let listener = TcpListener::bind(address).await.map_err(|e| {
        Error::bad_input("metrics-bind", format!("the metrics address {address} cannot be bound"))
            .because(e)
            .help("choose another port")
    })?;
    let bound = listener.local_addr().unwrap_or(address);
    tracing::info!("metrics at http://{bound}/metrics");
    tokio::spawn(accept(listener, Arc::new(pipelines)));
    Ok(())
}

async fn accept(listener: TcpListener, pipelines: Pipelines) {
    let slots = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("a metrics connection failed: {error}");
                continue;
            }
        };
        let pipelines = pipelines.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, pipelines.clone()));
            let served = hyper::server::conn::http1::Builder::new()
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = served.await {
                tracing::debug!("a metrics connection ended early: {error}");
            }
            drop(slot);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    pipelines: Pipelines,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, kind, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => {
            let all: Vec<(String, Snapshot)> =
                pipelines.iter().map(|(id, m)| (id.to_string(), m.snapshot())).collect();
            match prometheus::render(all, &[], &[]) {
                Ok(text) => (StatusCode::OK, prometheus::CONTENT_TYPE, text),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string()),
            }
        }
        (&Method::GET, "/healthz") => (StatusCode::OK, "text/plain", "ok\n".to_string()),
        (&Method::GET, _) => (StatusCode::NOT_FOUND, "text/plain", "see /metrics and /healthz\n".to_string()),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".to_string()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    Ok(response)
}
