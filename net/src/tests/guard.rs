//! Tokens, roles, and what each opens.

use std::fs;

use conveyor_model::Kind;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::*;
use crate::{Access, Denied, Guard, PeerName, Role, Tokens, hash_token};

fn guard(folder: &Path) -> Guard {
    let path = folder.join("tokens");
    let line =
        |access: Access| format!("{access} {access}-1 {}\n", hash_token(&format!("secret of {access}")));
    let text: String = Access::ALL.map(line).concat();
    fs::write(&path, format!("# role name hash\n\n{text}")).unwrap();
    Guard::new(true, Some(Arc::new(Tokens::load(path).unwrap())))
}

#[test]
fn each_role_may_do_what_the_one_before_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let guard = guard(folder.path());
    for has in Access::ALL {
        for needed in Access::ALL {
            let answer = guard.user(Some(&format!("Bearer secret of {has}")), needed);
            if has >= needed {
                let principal = answer.unwrap();
                assert_eq!((principal.name, principal.access), (format!("{has}-1"), has));
            } else {
                let denied = answer.unwrap_err();
                assert_eq!(denied.code(), "permission-denied");
                assert_eq!(denied.to_string(), format!("{has}-1 is a {has}; this needs a {needed}"));
            }
        }
    }
}

#[test]
fn whoever_is_not_known_is_not_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let guard = guard(folder.path());
    let hash = hash_token("secret of admin");
    let long = format!("Bearer {}", "x".repeat(100_000));
    let wrong = ["", "Bearer", "Bearer ", "Bearer wrong", "Basic secret of admin", "secret of admin", &long];
    for header in wrong.into_iter().chain([format!("Bearer {hash}").as_str()]).map(Some).chain([None]) {
        let denied = guard.user(header, Access::Viewer).unwrap_err();
        assert_eq!(denied.code(), "unauthenticated", "{header:?}");
        // What was presented is not repeated: it may be a token with a slip of the pen.
        assert!(header.is_none_or(|h| h.len() < 8 || !denied.to_string().contains(&h[7..])), "{denied}");
    }
    let mut metadata = MetadataMap::new();
    assert!(guard.user_of(&metadata, Access::Viewer).is_err());
    metadata.insert("authorization", "bearer secret of viewer".parse().unwrap());
    assert_eq!(guard.user_of(&metadata, Access::Viewer).unwrap().name, "viewer-1");
}

#[test]
fn denials_have_codes_in_grpc() {
    let unknown = Status::from(Denied::Unauthenticated("a bearer token is needed"));
    assert_eq!(unknown.code(), Code::Unauthenticated);
    let known = Denied::Forbidden("no".into());
    assert_eq!(conveyor_model::Error::from(known.clone()).kind(), Kind::BadInput);
    assert_eq!(Status::from(known).code(), Code::PermissionDenied);
}

#[test]
fn services_between_processes_are_opened_by_certificates_alone() {
    let info = |role| PeerInfo {
        address: "127.0.0.1:1".parse().unwrap(),
        name: Some(PeerName::new(role, "x").unwrap()),
        tls: true,
    };
    let guard = Guard::new(true, None);
    let routers = [Role::Router];
    assert_eq!(guard.peer(Some(&info(Role::Router)), &routers).unwrap().unwrap().id(), "x");
    for other in [Role::Sidecar, Role::Client] {
        assert_eq!(guard.peer(Some(&info(other)), &routers).unwrap_err().code(), "permission-denied");
    }
    let nameless = PeerInfo { name: None, ..info(Role::Router) };
    assert_eq!(guard.peer(Some(&nameless), &routers).unwrap_err().code(), "unauthenticated");
    assert_eq!(guard.peer(None, &routers).unwrap_err().code(), "unauthenticated");
    // Without TLS, on loopback, there is nothing to ask for.
    assert_eq!(Guard::new(false, None).peer(None, &routers).unwrap(), None);
    assert_eq!(Guard::new(false, None).user(None, Access::Admin).unwrap().name, "local");
}

#[test]
fn a_bad_file_of_tokens_is_named_with_its_line_and_not_with_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let hash = hash_token("x");
    let cases = [
        (format!("root alice {hash}"), "the role is unknown"),
        (format!("admin alice {}", &hash[1..]), "64 hex digits"),
        (format!("admin alice {}g", &hash[1..]), "64 hex digits"),
        (format!("admin al/ice {hash}"), "the name has other characters"),
        ("admin alice s3cret pass".to_owned(), "three words"),
        (format!("admin alice {hash}\nviewer alice {hash}"), "two tokens"),
        ("# nothing".to_owned(), "no token"),
    ];
    for (text, why) in cases {
        fs::write(&path, &text).unwrap();
        let error = Tokens::load(&path).err().unwrap().to_string();
        assert!(error.contains(why), "{text}: {error}");
        assert!(!error.contains("s3cret") && !error.contains(&hash[1..]), "{error}");
    }
    fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(Tokens::load(&path).is_err());
    assert!(Tokens::load(folder.path().join("absent")).is_err());
}
