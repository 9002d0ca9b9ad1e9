//! Certificates and tokens that are exchanged while the process runs.

use std::fs;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::{Access, Dialer, Expect, Guard, Reload, Role, Tokens, hash_token, watch};

fn leaf(folder: &Path, name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(folder.join(format!("{name}.crt"))).unwrap()
}

#[tokio::test]
async fn new_connections_take_the_new_certificate_and_old_ones_go_on() {
    let folder = authority();
    let folder = folder.path();
    let (router, sidecar) = (tls(folder, "router-1"), tls(folder, "sidecar-1"));
    let server = Server::start(Some(router.clone()), Callers::Peers).await;
    let dialer = Dialer::new(Some(sidecar.clone()));
    let mut channel =
        dialer.connect(&server.at(), Expect::Role(Role::Router), Traffic::Control).await.unwrap();
    ask(&mut channel).await.unwrap();
    let old = leaf(folder, "router-1");
    let shown = || served(server.address, raw_client(folder, Some((folder, "sidecar-2"))));
    assert_eq!(shown().await.unwrap(), old);

    renew(folder, now());
    assert!(router.reload().unwrap());
    assert!(!router.reload().unwrap());
    let new = leaf(folder, "router-1");
    assert_ne!(new, old);
    assert_eq!(shown().await.unwrap(), new);
    assert_eq!(ask(&mut channel).await.unwrap(), "conveyor://sidecar/sidecar-1");
    // The sidecar has not looked yet: its old certificate is still good.
    dialer.connect(&server.at(), Expect::Role(Role::Router), Traffic::Control).await.unwrap();
    assert!(sidecar.reload().unwrap());
    dialer.connect(&server.at(), Expect::Role(Role::Router), Traffic::Control).await.unwrap();
}

#[tokio::test]
async fn a_new_authority_comes_by_way_of_a_file_with_both() {
    let (old, new) = (authority(), authority());
    let folder = old.path();
    let (router, sidecar) = (tls(folder, "router-1"), tls(folder, "sidecar-1"));
    let server = Server::start(Some(router.clone()), Callers::Peers).await;
    let dialer = Dialer::new(Some(sidecar.clone()));
    let expect = Expect::Role(Role::Router);
    let ca = |folder: &Path| fs::read(folder.join("ca.crt")).unwrap();
    let copy = |name: &str| fs::copy(new.path().join(name), folder.join(name)).unwrap();
    let (old_ca, new_ca) = (ca(folder), ca(new.path()));

    fs::write(folder.join("ca.crt"), [old_ca, new_ca.clone()].concat()).unwrap();
    assert!(router.reload().unwrap() && sidecar.reload().unwrap());
    for name in ["router-1.crt", "router-1.key"] {
        copy(name);
    }
    assert!(router.reload().unwrap());
    dialer.connect(&server.at(), expect.clone(), Traffic::Control).await.unwrap();
    for name in ["sidecar-1.crt", "sidecar-1.key"] {
        copy(name);
    }
    fs::write(folder.join("ca.crt"), new_ca).unwrap();
    assert!(router.reload().unwrap());
    assert!(sidecar.reload().unwrap());
    dialer.connect(&server.at(), expect.clone(), Traffic::Control).await.unwrap();
}

#[test]
fn a_broken_new_file_is_reported_once_and_the_old_identity_stays() {
    let folder = authority();
    let folder = folder.path();
    let router = tls(folder, "router-1");
    let before = router.client();
    let good = fs::read(folder.join("router-1.key")).unwrap();

    fs::copy(folder.join("router-2.key"), folder.join("router-1.key")).unwrap();
    assert_eq!(router.reload().unwrap_err().code(), "tls-key-mismatch");
    assert!(!router.reload().unwrap());
    fs::write(folder.join("router-1.key"), "-----BEGIN PRIVATE KEY-----\nhalf").unwrap();
    assert_eq!(router.reload().unwrap_err().code(), "tls-key");
    fs::remove_file(folder.join("router-1.key")).unwrap();
    assert_eq!(router.reload().unwrap_err().code(), "tls-file");
    assert!(Arc::ptr_eq(&before, &router.client()));

    fs::write(folder.join("router-1.key"), good).unwrap();
    assert!(router.reload().unwrap());
    for name in ["crt", "key"] {
        fs::copy(folder.join(format!("router-2.{name}")), folder.join(format!("router-1.{name}"))).unwrap();
    }
    assert_eq!(router.reload().unwrap_err().code(), "tls-other-name");
    assert_eq!(router.name().unwrap().id(), "1");
}

/// Time stands still but for waiting, so that the watcher's pauses cost nothing.
#[tokio::test(start_paused = true)]
async fn the_watcher_takes_good_files_and_leaves_broken_ones() {
    let folder = authority();
    let folder = folder.path();
    let router = tls(folder, "router-1");
    let path = folder.join("tokens");
    let line = |token: &str| format!("viewer alice {}\n", hash_token(token));
    fs::write(&path, line("one")).unwrap();
    let tokens = Arc::new(Tokens::load(&path).unwrap());
    let guard = Guard::new(true, Some(tokens.clone()));
    let knows = |token: &str| guard.user(Some(&format!("Bearer {token}")), Access::Viewer).is_ok();
    let stop = CancellationToken::new();
    let all: Vec<Arc<dyn Reload>> = vec![router.clone(), tokens];
    let watcher = tokio::spawn(watch(all, Duration::from_secs(1), stop.clone()));
    let before = router.client();

    fs::write(&path, "not a token\n").unwrap();
    renew(folder, now());
    until(|| !Arc::ptr_eq(&before, &router.client())).await;
    assert!(knows("one"));
    fs::write(&path, line("two")).unwrap();
    until(|| knows("two")).await;
    assert!(!knows("one"));
    stop.cancel();
    watcher.await.unwrap();
}

async fn until(mut holds: impl FnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let waited = tokio::time::timeout(Duration::from_secs(600), async {
        while !holds() {
            ticks.tick().await;
        }
    });
    waited.await.expect("what was waited for");
}
