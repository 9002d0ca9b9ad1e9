//! turmoil's network behind the seam of `conveyor-net`.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use conveyor_net::simulation::{Accept, Connected, Network};
use futures::future::BoxFuture;
use turmoil::net::{TcpListener, TcpStream};

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
            Ok((Box::new(stream) as _, address))
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
        Poll::Ready(Ok((Box::new(stream), address)))
    }

    fn local_address(&self) -> SocketAddr {
        self.address
    }
}
