//! Who gets through a handshake, and who does not.

use std::io::ErrorKind;

use conveyor_model::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{Dialer, Expect, PeerName, Role};

#[tokio::test]
async fn both_sides_know_each_other() {
    let folder = authority();
    let server = Server::start(Some(tls(folder.path(), "router-1")), Callers::Peers).await;
    let dialer = Dialer::new(Some(tls(folder.path(), "sidecar-2")));
    let router = PeerName::new(Role::Router, "1").unwrap();
    for expect in [Expect::Role(Role::Router), Expect::Name(router)] {
        for traffic in [Traffic::Control, Traffic::Data] {
            let mut channel = dialer.connect(&server.at(), expect.clone(), traffic).await.unwrap();
            assert_eq!(ask(&mut channel).await.unwrap(), "conveyor://sidecar/sidecar-2");
        }
    }
}

#[tokio::test]
async fn without_tls_everybody_is_nobody() {
    let server = Server::start(None, Callers::Peers).await;
    let dialer = Dialer::new(None);
    let mut channel =
        dialer.connect(&server.at(), Expect::Role(Role::Router), Traffic::Control).await.unwrap();
    assert_eq!(ask(&mut channel).await.unwrap(), "nobody");
}

#[tokio::test]
async fn a_strange_authority_is_not_believed() {
    let (ours, theirs) = (authority(), authority());
    let server = Server::start(Some(tls(ours.path(), "router-1")), Callers::Peers).await;
    let stranger = Dialer::new(Some(tls(theirs.path(), "sidecar-1")));
    let expect = Expect::Role(Role::Router);
    let error = stranger.connect(&server.at(), expect.clone(), Traffic::Control).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Unavailable, "peer-tls"), "{error}");

    // The stranger believes us, but we do not believe them.
    let config = raw_client(ours.path(), Some((theirs.path(), "sidecar-1")));
    refused(server.address, config).await;
    // Nor where a certificate may be left away.
    let server = Server::start(Some(tls(ours.path(), "router-1")), Callers::Grpc).await;
    refused(server.address, raw_client(ours.path(), Some((theirs.path(), "sidecar-1")))).await;
}

#[tokio::test]
async fn an_expired_certificate_is_not_believed() {
    let folder = authority();
    let good = tls(folder.path(), "router-1");
    renew(folder.path(), now() - 60 * DAY);
    let server = Server::start(Some(good.clone()), Callers::Peers).await;
    refused(server.address, raw_client(folder.path(), Some((folder.path(), "sidecar-1")))).await;

    // A server with an expired certificate is not believed either.
    let chain = vec![CertificateDer::from_pem_file(folder.path().join("router-2.crt")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(folder.path().join("router-2.key")).unwrap();
    let expired = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = port.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (stream, _) = port.accept().await.unwrap();
        tokio_rustls::TlsAcceptor::from(Arc::new(expired)).accept(stream).await.map(|_| ())
    });
    let dialer = Dialer::new(Some(good));
    let error = dialer
        .connect(&address.to_string(), Expect::Role(Role::Router), Traffic::Control)
        .await
        .err()
        .unwrap();
    assert_eq!(error.code(), "peer-tls", "{error}");
    assert!(error.to_string().contains("xpired"), "{error}");
    assert!(serving.await.unwrap().is_err());
}

#[tokio::test]
async fn a_sidecar_does_not_pass_for_a_router() {
    let folder = authority();
    let server = Server::start(Some(tls(folder.path(), "sidecar-1")), Callers::Peers).await;
    let dialer = Dialer::new(Some(tls(folder.path(), "sidecar-2")));
    let other = PeerName::new(Role::Sidecar, "sidecar-2").unwrap();
    for expect in [Expect::Role(Role::Router), Expect::Name(other)] {
        let error = dialer.connect(&server.at(), expect.clone(), Traffic::Control).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (Kind::BadInput, "peer-other"), "{error}");
        assert!(error.to_string().contains("conveyor://sidecar/sidecar-1"), "{error}");
        // A lazy channel says so at the call.
        let mut channel = dialer.channel(&server.at(), expect, Traffic::Control).unwrap();
        assert!(ask(&mut channel).await.is_err());
    }
}

#[tokio::test]
async fn a_server_must_have_the_name_that_was_dialled() {
    let folder = authority();
    let server = Server::start(Some(tls(folder.path(), "router-1")), Callers::Peers).await;
    let dialer = Dialer::new(Some(tls(folder.path(), "router-2")));
    let expect = Expect::Role(Role::Router);
    // The certificate names 127.0.0.1 and localhost; the port is open on all of 127.0.0.0/8 only if bound so.
    let other = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
    let address = other.local_addr().unwrap();
    let to = server.address;
    let forward = tokio::spawn(async move {
        let (mut caller, _) = other.accept().await.unwrap();
        let mut server = TcpStream::connect(to).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut caller, &mut server).await;
    });
    let error = dialer.connect(&address.to_string(), expect.clone(), Traffic::Control).await.err().unwrap();
    assert_eq!(error.code(), "peer-tls", "{error}");
    forward.await.unwrap();
    let port = server.address.port();
    dialer.connect(&format!("localhost:{port}"), expect.clone(), Traffic::Control).await.unwrap();
}

#[tokio::test]
async fn peers_need_a_certificate_and_others_do_not() {
    let folder = authority();
    let identity = tls(folder.path(), "router-1");
    let anonymous = Arc::new(Tls::anonymous(folder.path().join("ca.crt")).unwrap());
    assert_eq!(anonymous.name(), None);
    let dialer = Dialer::new(Some(anonymous.clone()));
    let expect = Expect::Role(Role::Router);

    let peers = Server::start(Some(identity.clone()), Callers::Peers).await;
    refused(peers.address, raw_client(folder.path(), None)).await;
    assert!(answers(peers.address, raw_client(folder.path(), Some((folder.path(), "sidecar-1")))).await);
    let mut channel = dialer.channel(&peers.at(), expect.clone(), Traffic::Control).unwrap();
    assert!(ask(&mut channel).await.is_err());

    for callers in [Callers::Grpc, Callers::Rest] {
        let open = Server::start(Some(identity.clone()), callers).await;
        let mut channel = dialer.connect(&open.at(), expect.clone(), Traffic::Control).await.unwrap();
        assert_eq!(ask(&mut channel).await.unwrap(), "nobody");
        let known = Dialer::new(Some(tls(folder.path(), "client-alice")));
        let mut channel = known.connect(&open.at(), expect.clone(), Traffic::Control).await.unwrap();
        assert_eq!(ask(&mut channel).await.unwrap(), "conveyor://client/alice");
    }

    let exposure = Exposure {
        what: "the test",
        address: "127.0.0.1:0".parse().unwrap(),
        callers: Callers::Grpc,
        tokens: false,
        insecure: false,
    };
    let error = Listener::bind(&exposure, Some(anonymous)).await.err().unwrap();
    assert_eq!(error.code(), "tls-no-identity");
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = port.local_addr().unwrap().to_string();
    drop(port);
    let error =
        Dialer::new(None).connect(&address, Expect::Role(Role::Router), Traffic::Control).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Unavailable, "peer-unreachable"), "{error}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = listen(None, Callers::Peers).await;
    let address = taken.local_address().unwrap();
    let exposure =
        Exposure { what: "the test", address, callers: Callers::Peers, tokens: false, insecure: false };
    let error = Listener::bind(&exposure, None).await.err().unwrap();
    assert_eq!(error.code(), "listen-bind");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

/// The server ends the connection.
async fn refused(address: SocketAddr, config: ClientConfig) {
    assert!(!answers(address, config).await, "the server answered");
}

/// Whether the server speaks HTTP/2 with this client. With TLS 1.3 a client learns of its refusal when it reads.
async fn answers(address: SocketAddr, mut config: ClientConfig) -> bool {
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost").unwrap();
    let Ok(mut stream) = connector.connect(name, stream).await else { return false };
    // The start of HTTP/2, which a server that listens answers with its settings.
    let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let mut first = [0; 1];
    match stream.read(&mut first).await {
        Ok(bytes) => bytes > 0,
        Err(error) => {
            let kinds = [ErrorKind::InvalidData, ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof];
            assert!(kinds.contains(&error.kind()), "{error}");
            false
        }
    }
}
