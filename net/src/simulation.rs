//! A simulated network in place of the machine's, for one thread.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// Two ways of bytes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream and who is at its other end.
pub type Connected = (Box<dyn Stream>, SocketAddr);

/// A port that was bound.
pub trait Accept: Send {
    /// The next stream.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Connected>>;
    /// The address that was bound.
    fn local_address(&self) -> SocketAddr;
}

/// The network, as the process that asks sees it.
pub trait Network: Send + Sync {
    /// Binds a port.
    fn bind(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Accept>>>;
    /// Connects to a port.
    fn connect(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<Connected>>;
}

thread_local! {
    static NETWORK: RefCell<Option<Arc<dyn Network>>> = const { RefCell::new(None) };
}

/// From here on this thread has this network and no other.
pub fn install(network: Arc<dyn Network>) {
    NETWORK.set(Some(network));
}

pub(crate) fn current() -> Option<Arc<dyn Network>> {
    NETWORK.with_borrow(Clone::clone)
}
