//! One connection, plain or TLS, and who is at its other end.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsStream;
use tonic::transport::server::Connected;

use crate::peer::PeerName;
use crate::port::Wire;

/// Who is at the other end. tonic puts it into the extensions of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Address of the other end.
    pub address: SocketAddr,
    /// Name in its certificate, checked against the authority; none without TLS or without a certificate.
    pub name: Option<PeerName>,
    /// Whether the connection is TLS.
    pub tls: bool,
}

/// A connection that was accepted or made.
pub struct Connection {
    io: Io,
    info: PeerInfo,
    /// The listener's place, free again when the connection ends.
    _slot: Option<OwnedSemaphorePermit>,
}

enum Io {
    Plain(Wire),
    Tls(Box<TlsStream<Wire>>),
}

impl Connection {
    pub(crate) fn plain(stream: Wire, address: SocketAddr, slot: Option<OwnedSemaphorePermit>) -> Self {
        Self { io: Io::Plain(stream), info: PeerInfo { address, name: None, tls: false }, _slot: slot }
    }

    pub(crate) fn tls(
        stream: TlsStream<Wire>,
        address: SocketAddr,
        name: Option<PeerName>,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { io: Io::Tls(Box::new(stream)), info: PeerInfo { address, name, tls: true }, _slot: slot }
    }

    /// Whether both sides have agreed on HTTP/2.
    pub(crate) fn is_h2(&self) -> bool {
        match &self.io {
            Io::Plain(_) => false,
            Io::Tls(io) => io.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// Who is at the other end.
    pub fn info(&self) -> &PeerInfo {
        &self.info
    }
}

impl Connected for Connection {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Io::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Io::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Io::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(io) => io.is_write_vectored(),
            Io::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(io) => Pin::new(io).poll_flush(cx),
            Io::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Io::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
