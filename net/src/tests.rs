//! The processes of a small cluster against each other, over loopback, with certificates made for the test.

mod certs;
mod files;
mod guard;
mod handshake;
mod http;
mod limits;
mod rotation;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::transport::Channel;
use tower::{Service, ServiceExt};

use crate::material::provider;
use crate::{
    Callers, Certs, Exposure, Listener, PeerInfo, Tls, TlsSettings, Traffic, limits as table, write_certs,
};

const DAY: u64 = 24 * 3600;

fn now() -> u64 {
    UnixTime::now().as_secs()
}

/// Two routers, two sidecars and one client.
fn certs(out: &Path) -> Certs {
    Certs {
        out: out.to_owned(),
        routers: 2,
        sidecars: vec!["sidecar-1".into(), "sidecar-2".into()],
        clients: vec!["alice".into()],
        hosts: vec![],
        days: 30,
        renew: false,
        force: false,
        now: now(),
    }
}

fn authority() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_certs(&certs(folder.path())).unwrap();
    folder
}

fn settings(folder: &Path, name: &str) -> TlsSettings {
    TlsSettings {
        ca: folder.join("ca.crt"),
        cert: folder.join(format!("{name}.crt")),
        key: folder.join(format!("{name}.key")),
    }
}

fn tls(folder: &Path, name: &str) -> Arc<Tls> {
    Arc::new(Tls::load(&settings(folder, name)).unwrap())
}

/// Makes leaf certificates anew, as if it were `now`.
fn renew(folder: &Path, now: u64) -> Vec<PathBuf> {
    write_certs(&Certs { renew: true, now, ..certs(folder) }).unwrap()
}

async fn listen(tls: Option<Arc<Tls>>, callers: Callers) -> Listener {
    let exposure = Exposure {
        what: "the test",
        address: "127.0.0.1:0".parse().unwrap(),
        callers,
        tokens: false,
        insecure: false,
    };
    Listener::bind(&exposure, tls).await.unwrap()
}

/// A gRPC server that answers every call with the caller's name, until it is dropped.
struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(tls: Option<Arc<Tls>>, callers: Callers) -> Self {
        let listener = listen(tls, callers).await;
        let address = listener.local_address().unwrap();
        let task = tokio::spawn(async move {
            table::server(Traffic::Control).add_service(WhoAmI).serve_with_incoming(listener).await.unwrap();
        });
        Self { address, task }
    }

    fn at(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct WhoAmI;

impl NamedService for WhoAmI {
    const NAME: &'static str = "test.WhoAmI";
}

impl Service<Request<Body>> for WhoAmI {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let info = request.extensions().get::<PeerInfo>().expect("tonic puts it there");
        let name = info.name.as_ref().map_or("nobody".to_owned(), ToString::to_string);
        std::future::ready(Ok(Response::builder().header("who", name).body(Body::empty()).unwrap()))
    }
}

/// Asks the server who it thinks is calling.
async fn ask(channel: &mut Channel) -> Result<String, tonic::transport::Error> {
    let request = Request::post("/test.WhoAmI/Ask").body(Body::empty()).unwrap();
    let answer = channel.ready().await?.call(request).await?;
    Ok(answer.headers()["who"].to_str().unwrap().to_owned())
}

/// A TLS client that trusts whatever it reads and shows what it is told to, expired or not.
fn raw_client(ca: &Path, identity: Option<(&Path, &str)>) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca.join("ca.crt")).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match identity {
        None => builder.with_no_client_auth(),
        Some((folder, name)) => {
            let chain = vec![CertificateDer::from_pem_file(folder.join(format!("{name}.crt"))).unwrap()];
            let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    }
}

/// The certificate that the server shows.
async fn served(address: SocketAddr, config: ClientConfig) -> std::io::Result<CertificateDer<'static>> {
    let stream = TcpStream::connect(address).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await?;
    Ok(stream.get_ref().1.peer_certificates().unwrap()[0].clone())
}
