//! Every limit of every server and client in one table, and the builders that apply them.
//!
//! Nothing outside decides how much memory, how many tasks or how long a process spends on it.

use std::time::Duration;

use tonic::transport::{Endpoint, Server};

use crate::dialer::Traffic;

/// Longest message of control: plans and manifests travel as references, snapshots in parts. Bytes.
pub const MAX_CONTROL_MESSAGE: usize = 16 << 20;
/// Longest message with rows: half of the largest window of an edge, and room for its headers. Bytes.
pub const MAX_DATA_MESSAGE: usize = (32 << 20) + (1 << 20);
/// Longest body of a REST request: a manifest document has 1 MiB at most, and an `apply` several of them. Bytes.
pub const MAX_REST_BODY: usize = 4 << 20;
/// Longest backup of a cluster's control state that is restored: some ten thousand pipelines. Bytes.
pub const MAX_BACKUP: usize = 64 << 20;
/// Longest list of headers of one request, as HTTP/2 counts them. Bytes.
pub const MAX_HEADER_LIST: u32 = 16 << 10;
/// Headers of one HTTP/1 request.
pub const MAX_HEADERS: usize = 64;
/// Longest bearer token. Bytes.
pub const MAX_TOKEN: usize = 512;
/// Streams of one connection at a time.
pub const MAX_STREAMS: u32 = 1024;
/// The same of an HTTP/2 connection to REST.
pub const MAX_REST_STREAMS: u32 = 64;
/// Streams that the caller reset before they were looked at, until the connection is closed ("rapid reset").
pub const MAX_PENDING_RESETS: usize = 20;
/// Streams that were reset because of the caller's mistakes, until the connection is closed ("made you reset").
pub const MAX_ERROR_RESETS: usize = 64;
/// Connections of one listener; one more is closed at once.
pub const MAX_CONNECTIONS: usize = 1024;
/// TLS handshakes of one listener at a time; more wait in the kernel's queue.
pub const MAX_HANDSHAKES: usize = 64;
/// Time for a TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time to reach another process, with name look-up and handshake.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the headers of an HTTP/1 request.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time in which a REST request is answered.
pub const REST_TIMEOUT: Duration = Duration::from_secs(30);
/// Time without a byte after which the other side is asked whether it lives, and again until it is given up.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// After this a connection takes no new calls and ends with its last, so that an old certificate is not used for ever.
pub const MAX_CONNECTION_AGE: Duration = Duration::from_secs(3600);
/// Largest file with a certificate or a key. Bytes.
pub const MAX_IDENTITY_FILE: u64 = 1 << 20;
/// Largest file of tokens. Bytes.
pub const MAX_TOKEN_FILE: u64 = 1 << 20;

/// HTTP/2 window of one stream with rows: the credits of the edge are to be the brake, not this. Bytes.
pub const DATA_STREAM_WINDOW: u32 = 16 << 20;
/// HTTP/2 window of one connection with rows: a stream that is not read must not stop the others. Bytes.
pub const DATA_CONNECTION_WINDOW: u32 = 1 << 30;
/// Longest HTTP/2 frame with rows. Bytes.
pub const DATA_FRAME: u32 = 1 << 20;
/// HTTP/2 window of one stream of control. Bytes.
pub const CONTROL_STREAM_WINDOW: u32 = 1 << 20;
/// HTTP/2 window of one connection of control. Bytes.
pub const CONTROL_CONNECTION_WINDOW: u32 = 4 << 20;

/// A gRPC server with all limits. Message sizes are set on each service.
pub fn server(traffic: Traffic) -> Server {
    let server = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADER_LIST)
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        .http2_max_local_error_reset_streams(Some(MAX_ERROR_RESETS))
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .max_connection_age(MAX_CONNECTION_AGE);
    match traffic {
        Traffic::Control => server
            .initial_stream_window_size(CONTROL_STREAM_WINDOW)
            .initial_connection_window_size(CONTROL_CONNECTION_WINDOW),
        Traffic::Data => server
            .initial_stream_window_size(DATA_STREAM_WINDOW)
            .initial_connection_window_size(DATA_CONNECTION_WINDOW)
            .max_frame_size(DATA_FRAME),
    }
}

/// The client's side of the same limits.
pub(crate) fn endpoint(endpoint: Endpoint, traffic: Traffic) -> Endpoint {
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_max_header_list_size(MAX_HEADER_LIST)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    match traffic {
        Traffic::Control => endpoint
            .initial_stream_window_size(CONTROL_STREAM_WINDOW)
            .initial_connection_window_size(CONTROL_CONNECTION_WINDOW),
        Traffic::Data => endpoint
            .initial_stream_window_size(DATA_STREAM_WINDOW)
            .initial_connection_window_size(DATA_CONNECTION_WINDOW)
            .max_frame_size(DATA_FRAME),
    }
}
