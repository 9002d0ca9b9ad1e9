//! The object store of a simulation: in memory, beyond the crashes of its users, and as unkind as a real one.
//!
//! A request takes a random time, may be refused as by a busy service, and may do its work and then seem to have failed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use conveyor_model::simulation;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// How an object store fares, in shares of a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Refused before anything is done, as with status 503.
    pub refused: u64,
    /// Done, but the answer does not come.
    pub unanswered: u64,
    /// As slow as `slow` instead of a few milliseconds.
    pub slowed: u64,
    /// How slow that is.
    pub slow: Duration,
}

/// What was done: the operation and the key.
pub type Seen = Box<dyn Fn(&str, &str)>;

#[derive(Default)]
struct World {
    stores: BTreeMap<String, Arc<InMemory>>,
    faults: Faults,
    seen: Option<Seen>,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

/// From here on all object stores of this thread fare so.
pub fn set_faults(faults: Faults) {
    WORLD.with_borrow_mut(|world| world.faults = faults);
}

/// Tells of everything that is done to objects of this thread.
pub fn watch(seen: Seen) {
    WORLD.with_borrow_mut(|world| world.seen = Some(seen));
}

/// An object as it lies there, if it does; nothing goes wrong with that.
pub fn object(name: &str, key: &str) -> Option<bytes::Bytes> {
    let (store, key) = (named(name), Path::parse(key).ok()?);
    // A store in memory never waits.
    futures::executor::block_on(async { store.get(&key).await.ok()?.bytes().await.ok() })
}

fn named(name: &str) -> Arc<InMemory> {
    WORLD.with_borrow_mut(|world| world.stores.entry(name.to_owned()).or_default().clone())
}

/// The object store of this name.
#[derive(Debug)]
pub(crate) struct Faulty(Arc<InMemory>);

impl Faulty {
    pub(crate) fn open(name: &str) -> Self {
        Self(named(name))
    }

    /// Before an operation: waits, and may refuse it.
    async fn before(what: &str, key: &Path) -> Result<()> {
        let faults = WORLD.with_borrow(|world| world.faults);
        let time = if simulation::happens(faults.slowed) { faults.slow } else { Duration::from_millis(4) };
        tokio::time::sleep(time.mul_f64(simulation::below(1000) as f64 / 1000.0)).await;
        if simulation::happens(faults.refused) {
            return Err(failed("503 Slow Down"));
        }
        WORLD.with_borrow(|world| {
            if let Some(seen) = &world.seen {
                seen(what, key.as_ref());
            }
        });
        Ok(())
    }

    /// After an operation: waits, and may lose its answer.
    async fn after<T>(done: Result<T>) -> Result<T> {
        let faults = WORLD.with_borrow(|world| world.faults);
        tokio::time::sleep(Duration::from_micros(simulation::below(2_000))).await;
        if simulation::happens(faults.unanswered) { Err(failed("timed out")) } else { done }
    }
}

fn failed(why: &'static str) -> Error {
    Error::Generic { store: "simulated", source: why.into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a simulated object store")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        Self::before("put", at).await?;
        Self::after(self.0.put_opts(at, payload, options).await).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        Self::before("get", at).await?;
        Self::after(self.0.get_opts(at, options).await).await
    }

    fn delete_stream(&self, at: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let inner = self.0.clone();
        at.and_then(move |path| {
            let inner = inner.clone();
            async move {
                Self::before("delete", &path).await?;
                Self::after(inner.delete(&path).await.map(|()| path)).await
            }
        })
        .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, prefix) = (self.0.clone(), prefix.cloned());
        let listed = async move {
            Self::before("list", &prefix.clone().unwrap_or_default()).await?;
            Self::after(inner.list(prefix.as_ref()).try_collect::<Vec<_>>().await).await
        };
        stream::once(listed).map_ok(|all| stream::iter(all.into_iter().map(Ok))).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}
