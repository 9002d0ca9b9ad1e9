//! Objects under keys, as a seam: a local directory written durably, or any object store.

#[cfg(feature = "simulation")]
pub mod faulty;
mod local;
mod remote;

use std::path::Path;
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
    #[cfg(feature = "simulation")]
    if let Some(place) = location.strip_prefix("sim://") {
        return Ok(Arc::new(Remote::simulated(place)));
    }
    match local_path(location) {
        Some(path) => Ok(Arc::new(Local::open(path, location)?)),
        None => Ok(Arc::new(Remote::open(location)?)),
    }
}

/// Opens a directory or an object-store URL. A directory that does not exist is not created, and has no objects.
pub(crate) fn open_existing(location: &str) -> Result<Arc<dyn Objects>> {
    #[cfg(feature = "simulation")]
    if let Some(place) = location.strip_prefix("sim://") {
        return Ok(Arc::new(Remote::simulated(place)));
    }
    match local_path(location) {
        Some(path) => Ok(Arc::new(Local::existing(path, location))),
        None => Ok(Arc::new(Remote::open(location)?)),
    }
}

fn local_path(location: &str) -> Option<&Path> {
    match location.strip_prefix("file://") {
        Some(path) => Some(Path::new(path)),
        None => (!location.contains("://")).then(|| Path::new(location)),
    }
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
