//! Connections to other processes: the newest identity for each, and nobody believed for another.

use std::net::SocketAddr;
use std::sync::Arc;

use conveyor_model::{Error, Kind, Result};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::{Service, service_fn};

use crate::connection::Connection;
use crate::limits::{self, CONNECT_TIMEOUT};
use crate::peer::{PeerName, Role};
use crate::port::Wire;
use crate::tls::Tls;

/// Who has to be at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// Any process of this role: a sidecar never passes for a router.
    Role(Role),
    /// This process and no other.
    Name(PeerName),
}

/// What a connection carries, which decides its windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Small messages that must not wait.
    Control,
    /// Rows, under the credits of their edge.
    Data,
}

/// What is spoken over TLS: both sides agree on it in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    fn alpn(self) -> &'static [u8] {
        match self {
            Protocol::Http1 => b"http/1.1",
            Protocol::Http2 => b"h2",
        }
    }
}

/// Makes channels to other processes. Cheap to clone.
#[derive(Clone)]
pub struct Dialer {
    tls: Option<Arc<Tls>>,
}

impl Dialer {
    /// Dials with TLS, or plainly without.
    pub fn new(tls: Option<Arc<Tls>>) -> Self {
        Self { tls }
    }

    /// Whether connections are TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// A channel to `host:port` that connects when it is used, and again after it broke. Calls fail with `UNAVAILABLE` while
    /// it cannot.
    ///
    /// # Errors
    /// `BadInput` if the address is none.
    pub fn channel(&self, address: &str, expect: Expect, traffic: Traffic) -> Result<Channel> {
        Ok(endpoint(address, traffic)?.connect_with_connector_lazy(self.connector(expect)))
    }

    /// As [`Self::channel`], but connected when it returns.
    ///
    /// # Errors
    /// `BadInput` if the address is none, or another process than expected is there; `Unavailable` if nobody is.
    pub async fn connect(&self, address: &str, expect: Expect, traffic: Traffic) -> Result<Channel> {
        let endpoint = endpoint(address, traffic)?;
        endpoint.connect_with_connector(self.connector(expect)).await.map_err(|error| {
            let (kind, code) =
                ours(&error).map_or((Kind::Unavailable, "peer-unreachable"), |e| (e.kind(), e.code()));
            Error::new(kind, code, format!("{address} cannot be reached")).because(error)
        })
    }

    /// One connection, for HTTP/1.1.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn dial(&self, address: &str, expect: &Expect) -> Result<Connection> {
        self.dial_uri(&uri(address)?, expect, Protocol::Http1).await
    }

    fn connector(
        &self,
        expect: Expect,
    ) -> impl Service<Uri, Response = TokioIo<Connection>, Error = Error, Future: Send> + Send + 'static {
        let dialer = self.clone();
        service_fn(move |uri: Uri| {
            let (dialer, expect) = (dialer.clone(), expect.clone());
            async move { dialer.dial_uri(&uri, &expect, Protocol::Http2).await.map(TokioIo::new) }
        })
    }

    async fn dial_uri(&self, uri: &Uri, expect: &Expect, protocol: Protocol) -> Result<Connection> {
        let (host, port) = parts(uri)?;
        match timeout(CONNECT_TIMEOUT, self.open(host, port, expect, protocol)).await {
            Ok(done) => done,
            Err(_) => Err(Error::new(
                Kind::Unavailable,
                "peer-unreachable",
                format!("{host}:{port} did not answer within {CONNECT_TIMEOUT:?}"),
            )),
        }
    }

    async fn open(&self, host: &str, port: u16, expect: &Expect, protocol: Protocol) -> Result<Connection> {
        let unreachable = |e: std::io::Error| {
            Error::new(Kind::Unavailable, "peer-unreachable", format!("{host}:{port} cannot be reached"))
                .because(e)
        };
        let (stream, address) = Wire::connect(host, port).await.map_err(unreachable)?;
        stream.set_nodelay().map_err(unreachable)?;
        match &self.tls {
            None => Ok(Connection::plain(stream, address, None)),
            Some(tls) => shake(tls, host, stream, address, expect, protocol).await,
        }
    }
}

/// The handshake, and whether the right process is there.
async fn shake(
    tls: &Tls,
    host: &str,
    stream: Wire,
    address: SocketAddr,
    expect: &Expect,
    protocol: Protocol,
) -> Result<Connection> {
    let server = ServerName::try_from(host.to_owned())
        .map_err(|e| Error::bad_input("peer-address", format!("`{host}` is no host name")).because(e))?;
    let stream = TlsConnector::from(tls.client())
        .with_alpn(vec![protocol.alpn().to_vec()]).connect(server, stream).await.map_err(|e| {
        Error::new(Kind::Unavailable, "peer-tls", format!("no TLS with {host} ({address})")).because(e).help(
            "check that both sides have certificates of the same authority, that they hold today and name the host",
        )
    })?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let Some(certificate) = certificate else {
        return Err(Error::bad_input("peer-nameless", format!("{address} showed no certificate")));
    };
    let name = PeerName::of_certificate(certificate)?;
    let expected = match expect {
        Expect::Role(role) => (name.role() != *role).then(|| format!("a {role}")),
        Expect::Name(expected) => (name != *expected).then(|| expected.to_string()),
    };
    if let Some(expected) = expected {
        return Err(Error::bad_input("peer-other", format!("{address} is {name}, not {expected}"))
            .help("check the address, and that the process there has its own certificate"));
    }
    Ok(Connection::tls(stream.into(), address, Some(name), None))
}

fn endpoint(address: &str, traffic: Traffic) -> Result<Endpoint> {
    Ok(limits::endpoint(Endpoint::from(uri(address)?), traffic))
}

/// `host:port` in the form that tonic wants. TLS is not tonic's matter, so the scheme is always the plain one.
fn uri(address: &str) -> Result<Uri> {
    let uri = format!("http://{address}").parse::<Uri>().map_err(|e| no_address(address).because(e))?;
    parts(&uri).map_err(|_| no_address(address))?;
    if uri.path() != "/" || uri.query().is_some() || address.contains('@') {
        return Err(no_address(address));
    }
    Ok(uri)
}

fn parts(uri: &Uri) -> Result<(&str, u16)> {
    match (uri.host(), uri.port_u16()) {
        (Some(host), Some(port)) if !host.is_empty() => {
            Ok((host.trim_start_matches('[').trim_end_matches(']'), port))
        }
        _ => Err(no_address(&uri.to_string())),
    }
}

fn no_address(address: &str) -> Error {
    Error::bad_input("peer-address", format!("`{}` is no address", address.escape_debug()))
        .help("write host:port, as 127.0.0.1:7070, [::1]:7070 or router-1.example:7070")
}

/// Our own error among the causes of tonic's.
fn ours<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    std::iter::successors(Some(error), |e| e.source()).find_map(|e| e.downcast_ref::<Error>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_host_and_port() {
        for (address, host, port) in [
            ("127.0.0.1:80", "127.0.0.1", 80),
            ("[::1]:7", "::1", 7),
            ("a.example:65535", "a.example", 65535),
        ] {
            assert_eq!(parts(&uri(address).unwrap()).unwrap(), (host, port));
        }
        for address in
            ["", "host", "host:", ":80", "host:65536", "http://host:1", "host:1/x", "u@host:1", "a b:1"]
        {
            assert_eq!(uri(address).unwrap_err().code(), "peer-address", "{address}");
        }
    }
}
