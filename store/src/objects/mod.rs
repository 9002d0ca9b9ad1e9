//! Objects under keys, as a seam: a local directory written durably, or any object store.

mod local;
mod remote;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use conveyor_model::{Error, Kind, Result};

pub(crate) use local::Local;
pub(crate) use remote::Remote;

/// What became of a create-if-absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    /// The object is ours.
    New,
    /// An object of this name was there already.
    Exists,
}

/// Objects under keys with `/` between parts. All methods return only when their effect is durable.
#[async_trait]
pub(crate) trait Objects: Send + Sync {
    /// Creates an object unless there is one: whole or not at all.
    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created>;
    /// The object, if there is one.
    async fn get(&self, key: &str) -> Result<Option<Bytes>>;
    /// Size of the object, if there is one.
    async fn size(&self, key: &str) -> Result<Option<u64>>;
    /// Gives an object another name unless that is taken; the old name is gone then.
    async fn rename(&self, from: &str, to: &str) -> Result<Created>;
    /// Deletes an object; one that is not there is fine.
    async fn delete(&self, key: &str) -> Result<()>;
    /// Keys under `prefix` (which ends with `/`), at all depths, in order, and their sizes.
    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>>;
    /// The location as a person writes it.
    fn location(&self) -> &str;
}

/// Opens a directory (created if it does not exist) or an object-store URL.
pub(crate) fn open(location: &str) -> Result<Arc<dyn Objects>> {
    if let Some(path) = location.strip_prefix("file://") {
        return Ok(Arc::new(Local::open(path.as_ref(), location)?));
    }
    if location.contains("://") {
        return Ok(Arc::new(Remote::open(location)?));
    }
    Ok(Arc::new(Local::open(location.as_ref(), location)?))
}

/// Writes an object of this name and content, create-if-absent. The same content again is fine: an answer that was lost
/// is found out by reading back.
///
/// # Errors
/// `Fenced` if there is an object of this name with other content.
pub(crate) async fn create_same(objects: &dyn Objects, key: &str, bytes: Bytes) -> Result<()> {
    match objects.create(key, bytes.clone()).await? {
        Created::New => Ok(()),
        Created::Exists if objects.get(key).await?.is_some_and(|there| there == bytes) => Ok(()),
        Created::Exists => Err(Error::new(
            Kind::Fenced,
            "object-exists",
            "another process has written this object with other content",
        )
        .in_split(format!("{}/{key}", objects.location()))
        .help("two processes run the same pipeline on the same store: stop one of them")),
    }
}
