//! HTTP under its limits: both versions, slow callers, the end.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tower::service_fn;

use super::*;
use crate::{Dialer, Expect, Role, serve_http};

/// Answers every request with the caller's name, until it is stopped.
async fn start(tls: Option<Arc<Tls>>, stop: &CancellationToken) -> (SocketAddr, JoinHandle<()>) {
    let listener = listen(tls, Callers::Rest).await;
    let address = listener.local_address().unwrap();
    let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
        let info = request.extensions().get::<PeerInfo>().unwrap().clone();
        let text =
            format!("{:?} {}", request.version(), info.name.map_or("nobody".into(), |n| n.to_string()));
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
    });
    (address, tokio::spawn(serve_http(listener, service, stop.clone())))
}

async fn say(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn both_versions_are_spoken() {
    let folder = authority();
    let stop = CancellationToken::new();
    let (address, server) = start(None, &stop).await;
    let answer = say(address, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.ends_with("HTTP/1.1 nobody"), "{answer}");

    let (secure, other) = start(Some(tls(folder.path(), "router-1")), &stop).await;
    let dialer = Dialer::new(Some(tls(folder.path(), "client-alice")));
    let expect = Expect::Role(Role::Router);
    let mut channel = dialer.connect(&secure.to_string(), expect.clone(), Traffic::Control).await.unwrap();
    let request = Request::get("/").body(Body::empty()).unwrap();
    let answer = channel.ready().await.unwrap().call(request).await.unwrap();
    let answer = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&answer[..], b"HTTP/2.0 conveyor://client/alice");

    let connection = dialer.dial(&secure.to_string(), &expect).await.unwrap();
    assert_eq!(connection.info().name.as_ref().unwrap().to_string(), "conveyor://router/1");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(connection)).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = Request::get("/").header("host", "x").body(Empty::<Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&answer[..], b"HTTP/1.1 conveyor://client/alice");

    // Told to stop, both end, the one with an open connection as well.
    stop.cancel();
    server.await.unwrap();
    other.await.unwrap();
    drop(sender);
    driver.await.unwrap().ok();
}

/// Time stands still but for waiting, so that time-outs cost nothing.
#[tokio::test(start_paused = true)]
async fn slow_callers_are_cut() {
    let stop = CancellationToken::new();
    let (address, server) = start(None, &stop).await;
    for start in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: x\r\n"] {
        let answer = say(address, start.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    // So is one that keeps its connection and asks nothing more.
    let answer = say(address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.contains("HTTP/1.1 nobody"), "{answer}");
    stop.cancel();
    server.await.unwrap();
}

#[tokio::test]
async fn headers_are_bounded() {
    let stop = CancellationToken::new();
    let (address, server) = start(None, &stop).await;
    let many: String = (0..65).map(|n| format!("h{n}: x\r\n")).collect();
    let long = format!("long: {}\r\n", "x".repeat(table::MAX_HEADER_LIST as usize));
    for headers in [many, long] {
        let answer = say(address, format!("GET / HTTP/1.1\r\n{headers}\r\n").as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    stop.cancel();
    server.await.unwrap();
}
