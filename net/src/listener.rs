//! A port that yields connections whose other end is known, with the newest identity for each.
//!
//! tonic's own accept loop takes one certificate for the life of the process; this one asks [`Tls`] each time.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use conveyor_model::{Error, Result};
use futures::Stream;
use rustls::ServerConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::connection::Connection;
use crate::exposure::{Exposure, check_exposure};
use crate::limits::{HANDSHAKE_TIMEOUT, MAX_CONNECTIONS, MAX_HANDSHAKES};
use crate::peer::PeerName;
use crate::port::{Port, Wire};
use crate::tls::Tls;

/// Pause after a connection could not be taken (no file descriptors left, for one): the next try would fail as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who calls at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// Processes of the cluster alone, over gRPC: no connection without a certificate.
    Peers,
    /// Processes of the cluster and others, over gRPC: a certificate that is shown is checked, others need a token.
    Grpc,
    /// Anybody over HTTP/1.1 or HTTP/2: a certificate that is shown is checked, others need a token.
    Rest,
}

/// A bound port. As a stream it never ends and yields no errors: what goes wrong with one connection is logged.
pub struct Listener {
    port: Port,
    tls: Option<Arc<Tls>>,
    callers: Callers,
    slots: Arc<Semaphore>,
    handshakes: JoinSet<Option<Connection>>,
    pause: Option<Pin<Box<Sleep>>>,
    full: bool,
}

impl Listener {
    /// Binds the port, if [`check_exposure`] allows it. Without `tls` connections are plain.
    ///
    /// # Errors
    /// `BadInput` if the address is too open, or cannot be bound, or `tls` has no certificate.
    pub async fn bind(exposure: &Exposure<'_>, tls: Option<Arc<Tls>>) -> Result<Self> {
        check_exposure(exposure, tls.is_some())?;
        let address = exposure.address;
        if let Some(tls) = &tls {
            tls.server(exposure.callers)?;
        }
        let port = Port::bind(address).await.map_err(|e| {
            Error::bad_input("listen-bind", format!("{} cannot listen at {address}", exposure.what))
                .because(e)
                .help("choose another address or port, or end the process that has it")
        })?;
        Ok(Self {
            port,
            tls,
            callers: exposure.callers,
            slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            handshakes: JoinSet::new(),
            pause: None,
            full: false,
        })
    }

    /// The address that was bound; it has the port that the system chose for port 0.
    ///
    /// # Errors
    /// `Runtime` if the system does not say.
    pub fn local_address(&self) -> Result<SocketAddr> {
        self.port
            .local_address()
            .map_err(|e| Error::runtime("listen-address", "the listener has no address").because(e))
    }

    /// Another number of connections than the table's, for tests.
    #[cfg(test)]
    pub(crate) fn set_places(&mut self, places: usize) {
        self.slots = Arc::new(Semaphore::new(places));
    }

    /// The next connection, after its handshake. Cancel-safe: what is under way goes on at the next call.
    pub async fn accept(&mut self) -> Connection {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Connection> {
        loop {
            while let Poll::Ready(Some(done)) = self.handshakes.poll_join_next(cx) {
                match done {
                    Ok(Some(connection)) => return Poll::Ready(connection),
                    Ok(None) => {}
                    Err(error) => tracing::error!("a handshake failed: {error}"),
                }
            }
            // `poll_join_next` wakes this task when there is room.
            if self.handshakes.len() >= MAX_HANDSHAKES {
                return Poll::Pending;
            }
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match ready!(self.port.poll_accept(cx)) {
                Ok((stream, address)) => {
                    if let Some(connection) = self.take(stream, address) {
                        return Poll::Ready(connection);
                    }
                }
                Err(error) => {
                    tracing::warn!("a connection could not be taken: {error}");
                    self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }

    /// A plain connection is ready; one with TLS begins its handshake.
    fn take(&mut self, stream: Wire, address: SocketAddr) -> Option<Connection> {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            if !std::mem::replace(&mut self.full, true) {
                tracing::warn!(
                    "there are {MAX_CONNECTIONS} connections: {address} and others are turned away"
                );
            }
            return None;
        };
        self.full = false;
        if let Err(error) = stream.set_nodelay() {
            tracing::debug!("{address} left at once: {error}");
            return None;
        }
        let Some(tls) = &self.tls else { return Some(Connection::plain(stream, address, Some(slot))) };
        match tls.server(self.callers) {
            Ok(config) => {
                self.handshakes.spawn(shake(stream, address, config, slot));
            }
            Err(error) => tracing::error!("{address} was turned away: {error}"),
        }
        None
    }
}

impl Stream for Listener {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_accept(cx).map(|connection| Some(Ok(connection)))
    }
}

/// The handshake of one connection; none if it fails, which costs the listener nothing but its place.
async fn shake(
    stream: Wire,
    address: SocketAddr,
    config: Arc<ServerConfig>,
    slot: OwnedSemaphorePermit,
) -> Option<Connection> {
    let stream = match timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::info!("no TLS with {address}: {error}");
            return None;
        }
        Err(_) => {
            tracing::info!("no TLS with {address}: its handshake took over {HANDSHAKE_TIMEOUT:?}");
            return None;
        }
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let name = match certificate.map(PeerName::of_certificate).transpose() {
        Ok(name) => name,
        Err(error) => {
            tracing::info!("{address} was turned away: {error}");
            return None;
        }
    };
    Some(Connection::tls(stream.into(), address, name, Some(slot)))
}
