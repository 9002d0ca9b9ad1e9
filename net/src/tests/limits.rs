//! What a caller cannot use up.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::limits::{MAX_HANDSHAKES, MAX_HEADER_LIST};
use crate::{Dialer, Expect, Role};

const ROUTER: Expect = Expect::Role(Role::Router);

/// Time stands still but for waiting, so that time-outs cost nothing.
#[tokio::test(start_paused = true)]
async fn a_slow_handshake_is_cut() {
    let folder = authority();
    let server = Server::start(Some(tls(folder.path(), "router-1")), Callers::Peers).await;
    // A record of a handshake that promises 512 bytes, and one of them.
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.unwrap();
    assert_eq!(slow.read(&mut [0; 16]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn handshakes_that_hang_do_not_keep_others_out() {
    let folder = authority();
    let server = Server::start(Some(tls(folder.path(), "router-1")), Callers::Peers).await;
    let mut hanging = Vec::new();
    for _ in 0..MAX_HANDSHAKES + 8 {
        hanging.push(TcpStream::connect(server.address).await.unwrap());
    }
    for stream in &mut hanging {
        assert_eq!(stream.read(&mut [0; 16]).await.unwrap_or(0), 0);
    }
    served(server.address, raw_client(folder.path(), Some((folder.path(), "sidecar-1")))).await.unwrap();
}

#[tokio::test]
async fn something_else_than_tls_is_cut() {
    let folder = authority();
    let server = Server::start(Some(tls(folder.path(), "router-1")), Callers::Rest).await;
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // An alert or nothing, and the end.
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn connections_are_bounded_and_their_places_come_back() {
    let mut listener = listen(None, Callers::Rest).await;
    listener.set_places(1);
    let address = listener.local_address().unwrap();
    let _first = TcpStream::connect(address).await.unwrap();
    let held = listener.accept().await;
    let mut second = TcpStream::connect(address).await.unwrap();
    let mut byte = [0; 1];
    // The listener turns the second away while it waits for one that it can take.
    tokio::select! {
        _ = listener.accept() => panic!("there was no place"),
        read = second.read(&mut byte) => assert_eq!(read.unwrap_or(0), 0),
    }
    drop(held);
    let _third = TcpStream::connect(address).await.unwrap();
    listener.accept().await;
}

#[tokio::test]
async fn long_headers_are_refused_and_the_connection_goes_on() {
    let server = Server::start(None, Callers::Grpc).await;
    let mut channel = Dialer::new(None).connect(&server.at(), ROUTER, Traffic::Control).await.unwrap();
    let long = "x".repeat(MAX_HEADER_LIST as usize + 1);
    let request =
        Request::post("/test.WhoAmI/Ask").header("long", long.as_str()).body(Body::empty()).unwrap();
    let answer = channel.ready().await.unwrap().call(request).await;
    assert!(answer.is_err() || !answer.unwrap().headers().contains_key("who"));
    assert_eq!(ask(&mut channel).await.unwrap(), "nobody");
}
