//! Damaged, foreign and unknown objects are found; nothing falls back in silence.

use bytes::Bytes;
use conveyor_model::Kind;
use conveyor_model::state::StateStore;

use super::*;

#[tokio::test]
async fn any_flipped_bit_and_any_truncation_is_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::new(local(&dir));
    let manifest_ref = store.write(&manifest(1, None, &[])).await.expect("written");
    let plan_ref = store.put_plan(&plan()).await.expect("written");
    let state = store
        .put(&pipeline(), Incarnation(1), task(0), "s", Bytes::from(vec![7; 40]))
        .await
        .expect("written");
    for key in [&manifest_ref.key, &plan_ref.key, &state.key] {
        let path = dir.path().join(key);
        let whole = std::fs::read(&path).expect("there");
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            if at % 2 == 0 {
                bytes[at] ^= 1 << (at % 8)
            } else {
                bytes.truncate(at)
            }
            std::fs::write(&path, &bytes).expect("written");
            let error = if *key == manifest_ref.key {
                store.read(&pipeline(), &manifest_ref).await.expect_err("damaged")
            } else if *key == plan_ref.key {
                store.get_plan(&plan_ref).await.expect_err("damaged")
            } else {
                StateStore::get(&store, &state).await.expect_err("damaged")
            };
            assert_eq!((error.kind(), error.code()), (Kind::Corrupt, "hash-mismatch"));
            assert!(error.to_string().contains(key.as_str()), "{error}");
        }
        std::fs::remove_file(&path).expect("removed");
    }
    assert_eq!(store.get_plan(&plan_ref).await.expect_err("gone").code(), "object-missing");
}

#[tokio::test]
async fn a_plan_and_a_manifest_come_back() {
    let store = Store::new(memory());
    let plan_ref = store.put_plan(&plan()).await.expect("written");
    assert_eq!(store.put_plan(&plan()).await.expect("again"), plan_ref);
    assert_eq!(store.get_plan(&plan_ref).await.expect("read"), plan());
    let written = manifest(3, None, &[]);
    let reference = store.write(&written).await.expect("written");
    assert_eq!(store.write(&written).await.expect("the same again"), reference);
    assert_eq!(store.read(&pipeline(), &reference).await.expect("read"), written);
}

#[tokio::test]
async fn another_manifest_of_the_same_name_is_fenced() {
    let store = Store::new(memory());
    store.write(&manifest(3, None, &[])).await.expect("written");
    let other = Manifest { written_us: 8, ..manifest(3, None, &[]) };
    let error = store.write(&other).await.expect_err("taken");
    assert_eq!((error.kind(), error.code()), (Kind::Fenced, "object-exists"));
}

#[tokio::test]
async fn a_foreign_manifest_is_refused() {
    let store = Store::new(memory());
    let reference = store.write(&manifest(3, None, &[])).await.expect("written");
    let error = store.read(&PipelineId::new("default", "other"), &reference).await.expect_err("foreign");
    assert_eq!(error.code(), "manifest-foreign");
}

#[tokio::test]
async fn an_unknown_format_is_refused_before_it_is_read() {
    let objects = memory();
    let store = Store::new(objects.clone());
    let bytes = Bytes::from_static(b"{\"format\":2,\"shape\":\"of the future\"}");
    objects.create("x", bytes.clone()).await.expect("written");
    let reference = ManifestRef { key: "x".into(), sha256: crate::store::sha256(&bytes) };
    assert_eq!(store.get_plan(&reference).await.expect_err("unknown").code(), "format-unknown");
    assert_eq!(store.read(&pipeline(), &reference).await.expect_err("unknown").code(), "format-unknown");
}

#[tokio::test]
async fn locations_that_cannot_work_say_what_can() {
    let Err(error) = Store::open("ftp://host/x") else { panic!("not a store") };
    assert_eq!((error.kind(), error.code()), (Kind::BadInput, "store-url"));
    assert!(error.to_string().contains("s3://"), "{error}");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("written");
    let Err(error) = Store::open(&format!("{}/below", file.display())) else { panic!("below a file") };
    assert_eq!(error.code(), "store-unwritable");
    assert!(Store::open(&format!("file://{}/new/dir", dir.path().display())).is_ok());
    assert!(dir.path().join("new/dir").is_dir());
}

/// What a manifest, a plan and their keys look like on disk. Stores that exist must stay readable.
#[tokio::test]
async fn forms_are_stable() {
    let objects = memory();
    let store = Store::new(objects.clone());
    let state = StateRef { key: "k".into(), sha256: "s".into(), bytes: 3 };
    let reference = store.write(&manifest(3, None, &[state])).await.expect("written");
    let plan_ref = store.put_plan(&plan()).await.expect("written");
    let mut seen = String::new();
    for r in [&reference, &plan_ref] {
        let bytes = objects.get(&r.key).await.expect("read").expect("there");
        seen += &format!("{}\n{}\n", r.key, String::from_utf8_lossy(&bytes));
    }
    expect_test::expect_file!["../../testdata/objects-v1.txt"].assert_eq(&seen);
}
