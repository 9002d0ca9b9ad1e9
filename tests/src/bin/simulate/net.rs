//! turmoil's network behind the seam of `conveyor-net`, with connections that break while both ends live.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use conveyor_model::simulation;
use conveyor_net::simulation::{Accept, Connected, Network};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use crate::world::with;

/// The network of the process that asks.
pub(crate) struct Turmoil;

type Accepting = Pin<Box<dyn Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send>>;

struct Port {
    listener: Arc<TcpListener>,
    address: SocketAddr,
    accepting: Option<Accepting>,
}

impl Network for Turmoil {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Accept>>> {
        Box::pin(async move {
            let listener = Arc::new(TcpListener::bind(address).await?);
            let address = listener.local_addr()?;
            Ok(Box::new(Port { listener, address, accepting: None }) as Box<dyn Accept>)
        })
    }

    fn connect(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<Connected>> {
        let host = host.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            let address = stream.peer_addr()?;
            Ok((Box::new(Line(Some(stream))) as _, address))
        })
    }
}

impl Accept for Port {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Connected>> {
        let listener = &self.listener;
        let accepting = self.accepting.get_or_insert_with(|| {
            let listener = listener.clone();
            Box::pin(async move { listener.accept().await })
        });
        let accepted = ready!(accepting.as_mut().poll(cx));
        self.accepting = None;
        let (stream, address) = accepted?;
        Poll::Ready(Ok((Box::new(Line(Some(stream))), address)))
    }

    fn local_address(&self) -> SocketAddr {
        self.address
    }
}

/// A connection. While connections break, any write may be its last: what was written arrives, what comes back is lost.
struct Line(Option<TcpStream>);

impl Line {
    fn open(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.0.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::ConnectionReset.into())
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.open()?.poll_read(cx, into)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(self.open()?.poll_write(cx, bytes));
        if simulation::happens(with(|world| world.breaking)) {
            self.0 = None;
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.open()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.open()?.poll_shutdown(cx)
    }
}
