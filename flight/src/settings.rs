//! Settings of edges between processes, and the components that they need.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use conveyor_model::{Clock, Result};
use tonic::transport::{Channel, Endpoint, Server};

/// Compression of rows on the wire. It costs more time than a local network takes; off unless somebody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// None.
    #[default]
    None,
    /// LZ4 frames, column buffer by column buffer.
    Lz4,
    /// Zstandard, column buffer by column buffer.
    Zstd,
}

/// Settings of an exchange.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Compression of what is sent. What is received says by itself how it is compressed.
    pub compression: Compression,
    /// HTTP/2 window of one stream, in bytes.
    pub stream_window: u32,
    /// HTTP/2 window of one connection, in bytes.
    pub connection_window: u32,
    /// Largest HTTP/2 frame taken, in bytes: 16 KiB to 16 MiB.
    pub frame_bytes: u32,
    /// Column buffers of at least so many bytes are sent from where they are; smaller ones are copied together.
    pub copy_below: usize,
    /// Largest message taken from another process, in bytes.
    pub message_bytes: usize,
    /// Time for a connection to be made and for a stream to be opened.
    pub open_timeout: Duration,
    /// Wait before the second attempt to connect; it doubles from attempt to attempt.
    pub backoff_first: Duration,
    /// Longest wait between attempts.
    pub backoff_most: Duration,
    /// An end without a connection for so long gives up: its channel is closed.
    pub gone_after: Duration,
    /// A connection without any sign of life is asked for one after this time, and given up after as long again.
    pub keep_alive: Duration,
    /// Longest time for which a credit that nobody waits for is held back.
    pub credit_delay: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            compression: Compression::None,
            stream_window: 16 << 20,
            connection_window: 256 << 20,
            frame_bytes: 1 << 20,
            copy_below: 64 << 10,
            message_bytes: 160 << 20,
            open_timeout: Duration::from_secs(5),
            backoff_first: Duration::from_millis(10),
            backoff_most: Duration::from_secs(1),
            gone_after: Duration::from_secs(30),
            keep_alive: Duration::from_secs(5),
            credit_delay: Duration::from_millis(10),
        }
    }
}

impl Settings {
    /// An endpoint with the HTTP/2 settings of these edges.
    pub fn endpoint(&self, endpoint: Endpoint) -> Endpoint {
        endpoint
            .initial_stream_window_size(self.stream_window)
            .initial_connection_window_size(self.connection_window)
            .max_frame_size(self.frame_bytes)
            .connect_timeout(self.open_timeout)
            .http2_keep_alive_interval(self.keep_alive)
            .keep_alive_timeout(self.keep_alive)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true)
    }

    /// A server with the HTTP/2 settings of these edges. Each channel takes a stream, so their number is not limited here but by
    /// who may open them.
    pub fn server(&self, server: Server) -> Server {
        server
            .initial_stream_window_size(self.stream_window)
            .initial_connection_window_size(self.connection_window)
            .max_frame_size(self.frame_bytes)
            .max_concurrent_streams(None)
            .http2_keepalive_interval(Some(self.keep_alive))
            .http2_keepalive_timeout(Some(self.keep_alive))
            .tcp_nodelay(true)
    }
}

/// What a connection to a peer is for. The two never share one, so that credits are never behind data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Frames of channels.
    Data,
    /// Credits.
    Control,
}

/// Makes connections to other processes.
#[async_trait]
pub trait Dial: Send + Sync {
    /// A new connection to `peer` (`host:port`), with the settings of [`Settings::endpoint`].
    ///
    /// # Errors
    /// `Unavailable` where another attempt may help.
    async fn dial(&self, peer: &str, lane: Lane) -> Result<Channel>;
}

/// What an exchange needs from outside.
#[derive(Clone)]
pub struct Components {
    /// Makes connections.
    pub dial: Arc<dyn Dial>,
    /// Measures rates and waits.
    pub clock: Arc<dyn Clock>,
    /// Made at random when the process started: two processes at one address are told apart.
    pub boot: String,
}

impl fmt::Debug for Components {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Components").field("boot", &self.boot).finish_non_exhaustive()
    }
}
