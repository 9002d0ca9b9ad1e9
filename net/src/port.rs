//! A bound port and what comes in at it: the machine's, or a simulated one.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

#[cfg(feature = "simulation")]
use crate::simulation;

/// A bound port.
pub(crate) enum Port {
    /// Of the machine.
    System(TcpListener),
    /// Of a simulation.
    #[cfg(feature = "simulation")]
    Simulated(Box<dyn simulation::Accept>),
}

/// Bytes to and from another process, not yet known who it is.
pub(crate) enum Wire {
    /// Of the machine.
    System(TcpStream),
    /// Of a simulation.
    #[cfg(feature = "simulation")]
    Simulated(Box<dyn simulation::Stream>),
}

impl Port {
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Self> {
        #[cfg(feature = "simulation")]
        if let Some(network) = simulation::current() {
            return network.bind(address).await.map(Self::Simulated);
        }
        TcpListener::bind(address).await.map(Self::System)
    }

    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::System(tcp) => tcp.local_addr(),
            #[cfg(feature = "simulation")]
            Self::Simulated(port) => Ok(port.local_address()),
        }
    }

    pub(crate) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Wire, SocketAddr)>> {
        match self {
            Self::System(tcp) => {
                let (stream, address) = ready!(tcp.poll_accept(cx))?;
                Poll::Ready(Ok((Wire::System(stream), address)))
            }
            #[cfg(feature = "simulation")]
            Self::Simulated(port) => {
                let (stream, address) = ready!(port.poll_accept(cx))?;
                Poll::Ready(Ok((Wire::Simulated(stream), address)))
            }
        }
    }
}

impl Wire {
    /// Connects to a port, and says which address that was.
    pub(crate) async fn connect(host: &str, port: u16) -> io::Result<(Self, SocketAddr)> {
        #[cfg(feature = "simulation")]
        if let Some(network) = simulation::current() {
            let (stream, address) = network.connect(host, port).await?;
            return Ok((Self::Simulated(stream), address));
        }
        let stream = TcpStream::connect((host, port)).await?;
        let address = stream.peer_addr()?;
        Ok((Self::System(stream), address))
    }

    /// Small writes go at once.
    pub(crate) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::System(stream) => stream.set_nodelay(true),
            #[cfg(feature = "simulation")]
            Self::Simulated(_) => Ok(()),
        }
    }
}

/// Calls a method of the stream that it is.
macro_rules! inner {
    ($self:expr, $io:ident => $call:expr) => {
        match $self.get_mut() {
            Self::System($io) => $call,
            #[cfg(feature = "simulation")]
            Self::Simulated($io) => $call,
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        inner!(self, io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        inner!(self, io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        inner!(self, io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::System(io) => io.is_write_vectored(),
            #[cfg(feature = "simulation")]
            Self::Simulated(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inner!(self, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inner!(self, io => Pin::new(io).poll_shutdown(cx))
    }
}
