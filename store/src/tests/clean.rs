//! Clean-up keeps what can still be needed and nothing else.

use conveyor_model::state::StateStore;

use super::*;
use crate::paths;

async fn put(store: &Store, incarnation: u64, step: &str) -> StateRef {
    let bytes = bytes::Bytes::from(format!("{incarnation} {step}"));
    store.put(&pipeline(), Incarnation(incarnation), task(0), step, bytes).await.expect("stored")
}

async fn keys(objects: &dyn Objects, prefix: String) -> Vec<String> {
    objects.list(&prefix).await.expect("listed").into_iter().map(|(key, _)| key).collect()
}

#[tokio::test]
async fn keeps_the_last_manifests_and_what_they_name() {
    let dir = tempfile::tempdir().expect("a directory");
    for objects in [memory(), local(&dir)] {
        let store = Store::new(objects.clone());
        let fenced = put(&store, 0, "a").await;
        let mut states = Vec::new();
        let mut aborted = Vec::new();
        for _ in 0..6 {
            aborted.push(put(&store, 1, "a").await);
            states.push(vec![put(&store, 1, "a").await]);
        }
        let refs = write_chain(&store, 1..=6, &states).await;
        let orphan = store
            .write(&Manifest { incarnation: Incarnation(9), ..manifest(5, None, &[]) })
            .await
            .expect("written");
        let next = put(&store, 1, "a").await;
        store.clean_up(&pipeline(), &refs[5], 3).await.expect("cleaned");
        assert_eq!(
            keys(objects.as_ref(), paths::manifests(&pipeline())).await,
            refs[3..].iter().map(|r| r.key.clone()).collect::<Vec<_>>()
        );
        let left = keys(objects.as_ref(), paths::states(&pipeline())).await;
        for kept in states[3..].iter().flatten().chain([&next]) {
            assert!(left.contains(&kept.key), "{} is still needed", kept.key);
        }
        // Aborted uploads between two retained ones go when those go.
        for gone in states[..3].iter().flatten().chain(&aborted[..4]).chain([&fenced]) {
            assert!(!left.contains(&gone.key), "{} is needed by nobody", gone.key);
        }
        assert_eq!(left.len(), 3 + 1 + 2);
        assert!(objects.get(&orphan.key).await.expect("read").is_none());
        for (reference, state) in refs[3..].iter().zip(&states[3..]) {
            store.read(&pipeline(), reference).await.expect("kept");
            StateStore::get(&store, &state[0]).await.expect("kept");
        }
        store.clean_up(&pipeline(), &refs[5], 3).await.expect("a second time");
        assert_eq!(keys(objects.as_ref(), paths::states(&pipeline())).await, left);
    }
}

#[tokio::test]
async fn a_state_that_several_epochs_name_stays() {
    let objects = memory();
    let store = Store::new(objects.clone());
    let old = put(&store, 1, "a").await;
    let states: Vec<Vec<StateRef>> = vec![vec![old.clone()]; 8];
    let refs = write_chain(&store, 1..=8, &states).await;
    store.clean_up(&pipeline(), &refs[7], 2).await.expect("cleaned");
    assert_eq!(keys(objects.as_ref(), paths::states(&pipeline())).await, [old.key]);
}

#[tokio::test]
async fn an_unknown_or_damaged_committed_manifest_deletes_nothing() {
    let objects = memory();
    let store = Store::new(objects.clone());
    let refs = write_chain(&store, 1..=4, &[]).await;
    let wrong = ManifestRef { sha256: "0".repeat(64), ..refs[3].clone() };
    store.clean_up(&pipeline(), &wrong, 1).await.expect_err("the hash does not hold");
    assert_eq!(keys(objects.as_ref(), paths::manifests(&pipeline())).await.len(), 4);
}

#[tokio::test]
async fn other_pipelines_are_left_alone() {
    let objects = memory();
    let store = Store::new(objects.clone());
    let other = PipelineId::new("default", "late-flights-2");
    let theirs =
        store.write(&Manifest { pipeline: other.clone(), ..manifest(1, None, &[]) }).await.expect("written");
    let refs = write_chain(&store, 1..=5, &[]).await;
    store.clean_up(&pipeline(), &refs[4], 1).await.expect("cleaned");
    store.read(&other, &theirs).await.expect("still there");
}
