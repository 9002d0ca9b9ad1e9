//! What the development authority writes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::{Access, Guard, Tokens};

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.map(|p| (p.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&p).unwrap())).collect()
}

#[test]
fn everything_is_there_and_secrets_are_for_the_owner() {
    let folder = authority();
    let files = contents(folder.path());
    for name in ["ca", "router-1", "router-2", "sidecar-1", "sidecar-2", "client-alice"] {
        for (ending, mode) in [("crt", 0o644), ("key", 0o600)] {
            let file = folder.path().join(format!("{name}.{ending}"));
            let permissions = fs::metadata(&file).unwrap().permissions();
            assert_eq!(permissions.mode() & 0o777, mode, "{}", file.display());
        }
    }
    assert_eq!(files.len(), 12 + 4);
    let guard = Guard::new(true, Some(Arc::new(Tokens::load(folder.path().join("tokens")).unwrap())));
    for access in Access::ALL {
        let file = folder.path().join(format!("{access}.token"));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let token = fs::read_to_string(file).unwrap();
        let principal = guard.user(Some(&format!("Bearer {}", token.trim())), access).unwrap();
        assert_eq!(principal.access, access);
        assert!(!String::from_utf8_lossy(&files["tokens"]).contains(token.trim()));
    }
}

#[test]
fn nothing_is_overwritten_unasked() {
    let folder = authority();
    let before = contents(folder.path());
    let error = write_certs(&certs(folder.path())).unwrap_err();
    assert_eq!(error.code(), "certs-exist");
    // A part of it in the way is enough, and then nothing is written.
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("router-2.crt"), "mine").unwrap();
    assert_eq!(write_certs(&certs(other.path())).unwrap_err().code(), "certs-exist");
    assert_eq!(contents(other.path()).len(), 1);
    assert_eq!(contents(folder.path()), before);

    write_certs(&Certs { force: true, ..certs(folder.path()) }).unwrap();
    let after = contents(folder.path());
    assert!(before.iter().all(|(name, bytes)| after[name] != *bytes));
}

#[test]
fn renewing_keeps_the_authority_and_the_tokens() {
    let folder = authority();
    let before = contents(folder.path());
    renew(folder.path(), now());
    let after = contents(folder.path());
    for (name, bytes) in &before {
        let kept = name.starts_with("ca.") || name.contains("token");
        assert_eq!(after[name] == *bytes, kept, "{name}");
    }
    assert_eq!(after.len(), before.len());
    tls(folder.path(), "router-1");

    let empty = tempfile::tempdir().unwrap();
    let error = write_certs(&Certs { renew: true, ..certs(empty.path()) }).unwrap_err();
    assert_eq!(error.code(), "certs-no-ca");
    assert_eq!(contents(empty.path()).len(), 0);
}

#[tokio::test]
async fn hosts_are_in_the_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = ["router.example", "*.svc.example", "10.1.2.3", "fd00::7"].map(str::to_owned).to_vec();
    write_certs(&Certs { hosts, ..certs(folder.path()) }).unwrap();
    let server = Server::start(Some(tls(folder.path(), "router-1")), Callers::Grpc).await;
    for (host, fits) in [
        ("router.example", true),
        ("a.svc.example", true),
        ("10.1.2.3", true),
        ("fd00::7", true),
        ("localhost", true),
        ("other.example", false),
        ("10.1.2.4", false),
    ] {
        let config = raw_client(folder.path(), None);
        let stream = TcpStream::connect(server.address).await.unwrap();
        let name = ServerName::try_from(host).unwrap();
        let done = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        assert_eq!(done.is_ok(), fits, "{host}");
    }
}

#[test]
fn bad_names_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let base = certs(folder.path());
    let list = |name: &str| vec![name.to_owned()];
    let wrong = [
        Certs { hosts: list("a b"), ..base.clone() },
        Certs { hosts: list(""), ..base.clone() },
        Certs { sidecars: list("../x"), ..base.clone() },
        Certs { sidecars: list(".."), ..base.clone() },
        Certs { sidecars: list("ca"), ..base.clone() },
        Certs { sidecars: list("router-1"), ..base.clone() },
        Certs { clients: vec!["a".into(), "a".into()], ..base.clone() },
        Certs { routers: 100_000, ..base },
    ];
    for certs in wrong {
        assert!(write_certs(&certs).is_err(), "{certs:?}");
    }
    assert_eq!(contents(folder.path()).len(), 0);
}
