//! Routers with certificates.

use conveyor_net::{Certs, Expect, PeerName, Role, Tls, TlsSettings, Traffic, write_certs};
use conveyor_proto::v1;
use conveyor_proto::v1::control_client::ControlClient;
use conveyor_proto::v1::raft_client::RaftClient;
use conveyor_proto::v1::sidecar_message::Message as Says;
use tonic::Code;

use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn routers_agree_over_tls_and_know_who_calls() {
    let folder = tempfile::tempdir().expect("a directory");
    let certs = Certs {
        out: folder.path().to_owned(),
        routers: 3,
        sidecars: vec!["sidecar-1".into()],
        clients: Vec::new(),
        hosts: Vec::new(),
        days: 365,
        renew: false,
        force: false,
        now: std::fs::metadata(folder.path())
            .and_then(|m| m.modified())
            .expect("a time")
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970")
            .as_secs(),
    };
    write_certs(&certs).expect("written");
    let path = folder.path().to_owned();
    let identity = move |name: &str| TlsSettings {
        ca: path.join("ca.crt"),
        cert: path.join(format!("{name}.crt")),
        key: path.join(format!("{name}.key")),
    };
    let of_router = identity.clone();
    let world = World::start_secure(3, move |id| of_router(&format!("router-{id}"))).await;
    let leader = world.leader().await;
    let address = world.addresses[&leader].to_string();

    // The sidecar's certificate opens Attach, for that sidecar only, and not the routers' own service.
    let tls = std::sync::Arc::new(Tls::load(&identity("sidecar-1")).expect("loaded"));
    let dialer = conveyor_net::Dialer::new(Some(tls));
    let expect = Expect::Name(PeerName::new(Role::Router, leader.to_string()).expect("a name"));
    let channel = dialer.channel(&address, expect, Traffic::Control).expect("an address");
    let attach = async |name: &str| {
        let hello =
            v1::SidecarHello { sidecar: name.into(), boot: "1".into(), ..v1::SidecarHello::default() };
        let first = v1::SidecarMessage { message: Some(Says::Hello(hello)) };
        ControlClient::new(channel.clone()).attach(tokio_stream::once(first)).await.map(drop)
    };
    attach("sidecar-1").await.expect("its own name");
    assert_eq!(attach("sidecar-2").await.expect_err("another's name").code(), Code::PermissionDenied);
    let call = RaftClient::new(channel.clone()).call(v1::RaftCall::default()).await;
    assert_eq!(call.expect_err("routers only").code(), Code::PermissionDenied);

    // Without a certificate there is no connection at all.
    let plain = conveyor_net::Dialer::new(None);
    let channel = plain.channel(&address, Expect::Role(Role::Router), Traffic::Control).expect("an address");
    let call = RaftClient::new(channel).call(v1::RaftCall::default()).await;
    assert!(call.is_err());
}
