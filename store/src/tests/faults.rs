//! Stores that fail in the middle, lose answers, or die at an operation.

use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use conveyor_model::{Error, Kind, Result};
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

use super::*;
use crate::objects::Created;

/// Dies at a chosen operation: it fails before its effect or after it, and all later ones fail.
pub(super) struct Mortal {
    inner: Arc<dyn Objects>,
    left: AtomicI64,
    after: bool,
}

impl Mortal {
    pub(super) fn new(inner: Arc<dyn Objects>, dies_at: i64, after: bool) -> Arc<Self> {
        Arc::new(Self { inner, left: AtomicI64::new(dies_at), after })
    }

    pub(super) fn revive(&self) {
        self.left.store(i64::MAX, Ordering::Relaxed);
    }

    async fn act<T>(&self, effect: impl Future<Output = Result<T>>) -> Result<T> {
        let dead = || Error::new(Kind::Unavailable, "dead", "the process died here");
        match self.left.fetch_sub(1, Ordering::Relaxed) {
            n if n > 0 => effect.await,
            0 if self.after => effect.await.and(Err(dead())),
            _ => Err(dead()),
        }
    }
}

#[async_trait]
impl Objects for Mortal {
    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        self.act(self.inner.create(key, bytes)).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.act(self.inner.get(key)).await
    }

    async fn size(&self, key: &str) -> Result<Option<u64>> {
        self.act(self.inner.size(key)).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<Created> {
        self.act(self.inner.rename(from, to)).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.act(self.inner.delete(key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>> {
        self.act(self.inner.list(prefix)).await
    }

    fn location(&self) -> &str {
        self.inner.location()
    }
}

/// Takes every write and then answers with a time-out.
#[derive(Debug)]
struct LostAnswers(InMemory);

impl std::fmt::Display for LostAnswers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("lost answers")
    }
}

#[async_trait]
impl ObjectStore for LostAnswers {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.0.put_opts(at, payload, options).await?;
        Err(object_store::Error::Generic { store: "test", source: "timed out".into() })
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.0.get_opts(at, options).await
    }

    fn delete_stream(
        &self,
        at: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.0.delete_stream(at)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn a_lost_answer_is_found_out_by_reading_back() {
    let objects: Arc<dyn Objects> = Arc::new(Remote::new(Arc::new(LostAnswers(InMemory::new()))));
    let store = Store::new(objects);
    let reference = store.write(&manifest(1, None, &[])).await.expect("it is there");
    assert_eq!(store.write(&manifest(1, None, &[])).await.expect("and stays"), reference);
    let other = Manifest { written_us: 99, ..manifest(1, None, &[]) };
    assert_eq!(store.write(&other).await.expect_err("taken").kind(), Kind::Fenced);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_unavailable() {
    let store = Store::new(Mortal::new(memory(), 0, false));
    assert_eq!(store.write(&manifest(1, None, &[])).await.expect_err("dead").kind(), Kind::Unavailable);
}

#[tokio::test]
async fn many_writers_of_one_name_make_one_object() {
    let dir = tempfile::tempdir().expect("a directory");
    for objects in [memory(), local(&dir)] {
        let tries = (0..20u8).map(|n| {
            let objects = objects.clone();
            async move { objects.create("a/b/c", Bytes::from(vec![n; 9])).await.expect("answered") }
        });
        let created = futures::future::join_all(tries).await;
        assert_eq!(created.iter().filter(|c| **c == Created::New).count(), 1);
        let there = objects.get("a/b/c").await.expect("read").expect("there");
        let winner = created.iter().position(|c| *c == Created::New).expect("one");
        assert_eq!(there, vec![winner as u8; 9]);
        assert_eq!(objects.list("a/").await.expect("listed"), [("a/b/c".to_owned(), 9)]);
    }
}

#[tokio::test]
async fn both_kinds_of_store_behave_alike() {
    let dir = tempfile::tempdir().expect("a directory");
    for objects in [memory(), local(&dir)] {
        assert_eq!(objects.get("x/y").await.expect("read"), None);
        assert_eq!(objects.size("x/y").await.expect("read"), None);
        assert_eq!(objects.list("x/").await.expect("listed"), []);
        objects.delete("x/y").await.expect("nothing to delete is fine");
        objects.rename("x/y", "x/z").await.expect_err("nothing to rename");
        objects.create("x/y", Bytes::from_static(b"1")).await.expect("created");
        objects.create("x/%41 b", Bytes::from_static(b"12")).await.expect("created");
        assert_eq!(
            objects.list("x/").await.expect("listed"),
            [("x/%41 b".to_owned(), 2), ("x/y".to_owned(), 1)]
        );
        assert_eq!(objects.rename("x/y", "z/1").await.expect("renamed"), Created::New);
        assert_eq!(objects.get("x/y").await.expect("read"), None);
        assert_eq!(objects.rename("x/%41 b", "z/1").await.expect("taken"), Created::Exists);
        assert_eq!(objects.get("z/1").await.expect("read"), Some(Bytes::from_static(b"1")));
        assert_eq!(objects.size("x/%41 b").await.expect("read"), Some(2));
    }
}

/// A writer killed at any moment leaves a whole object or none, and its half-written file is not listed.
#[tokio::test]
async fn what_a_crash_leaves_aside_is_no_object() {
    let dir = tempfile::tempdir().expect("a directory");
    let objects = local(&dir);
    std::fs::create_dir(dir.path().join("a")).expect("created");
    std::fs::write(dir.path().join("a/.x-123.tmp~"), "half").expect("written");
    assert_eq!(objects.list("a/").await.expect("listed"), []);
    assert_eq!(objects.create("a/x", Bytes::from_static(b"whole")).await.expect("created"), Created::New);
}

#[tokio::test]
async fn empty_folders_go_and_come_back_under_concurrent_writers() {
    let dir = tempfile::tempdir().expect("a directory");
    let objects = local(&dir);
    let writers = (0..4).map(|n| {
        let objects = objects.clone();
        async move {
            for _ in 0..20 {
                let key = format!("a/b/c/{n}");
                assert_eq!(
                    objects.create(&key, Bytes::from_static(b"1")).await.expect("created"),
                    Created::New
                );
                objects.delete(&key).await.expect("deleted");
            }
        }
    });
    futures::future::join_all(writers).await;
    assert!(!dir.path().join("a").exists());
    assert!(dir.path().exists());
}
