//! HTTP/1.1 and HTTP/2 for people and tools: the connections of a [`Listener`] under the table's limits.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::rt::{Read, Write};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::codegen::http::{Request, Response};
use tower::{Service, ServiceExt as _};

use crate::connection::Connection;
use crate::limits::{
    CONTROL_CONNECTION_WINDOW, CONTROL_STREAM_WINDOW, HEADER_TIMEOUT, KEEP_ALIVE, MAX_ERROR_RESETS,
    MAX_HEADER_LIST, MAX_HEADERS, MAX_PENDING_RESETS, MAX_REST_STREAMS,
};
use crate::listener::Listener;

/// Time for requests under way to end after the server was told to stop.
const GRACE: Duration = Duration::from_secs(5);

type BoxError = Box<dyn StdError + Send + Sync>;

/// Serves until `stop`, then lets requests under way end, for five seconds at most. Each request has the caller's
/// [`crate::PeerInfo`] among its extensions. HTTP/2 is spoken where TLS has agreed on it, HTTP/1.1 otherwise.
pub async fn serve_http<S, B>(mut listener: Listener, service: S, stop: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let mut connections = JoinSet::new();
    loop {
        // All are cancel-safe: a connection that is not taken now is taken later.
        tokio::select! {
            () = stop.cancelled() => break,
            connection = listener.accept() => {
                connections.spawn(serve(connection, service.clone(), stop.clone()));
            }
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!("serving an HTTP connection failed: {error}");
                }
            }
        }
    }
    drop(listener);
    // Each ends within the grace, by itself.
    while connections.join_next().await.is_some() {}
}

async fn serve<S, B>(connection: Connection, service: S, stop: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let (info, h2) = (connection.info().clone(), connection.is_h2());
    let address = info.address;
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(info.clone());
        service.clone().oneshot(request)
    });
    let io = TokioIo::new(connection);
    let ended = if h2 { over_h2(io, service, stop).await } else { over_h1(io, service, stop).await };
    if let Err(error) = ended {
        tracing::debug!("an HTTP connection of {address} ended early: {error}");
    }
}

async fn over_h1<I, S, B>(io: I, service: S, stop: CancellationToken) -> hyper::Result<()>
where
    I: Read + Write + Unpin,
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_LIST as usize)
        .serve_connection(io, service);
    tokio::pin!(connection);
    // Cancel-safe: the connection is polled on after the other branch.
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    timeout(GRACE, connection).await.unwrap_or(Ok(()))
}

async fn over_h2<I, S, B>(io: I, service: S, stop: CancellationToken) -> hyper::Result<()>
where
    I: Read + Write + Unpin,
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_concurrent_streams(MAX_REST_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .initial_stream_window_size(CONTROL_STREAM_WINDOW)
        .initial_connection_window_size(CONTROL_CONNECTION_WINDOW)
        .serve_connection(io, service);
    tokio::pin!(connection);
    // Cancel-safe: the connection is polled on after the other branch.
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    timeout(GRACE, connection).await.unwrap_or(Ok(()))
}
