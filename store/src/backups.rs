//! Backups of a cluster's control state: whole documents under names, in a directory or an object store.

use std::sync::Arc;

use bytes::Bytes;
use conveyor_model::{Error, Result};

use crate::objects::{self, Objects};
use crate::paths;

/// A place where backups are kept.
#[derive(Clone)]
pub struct Backups {
    objects: Arc<dyn Objects>,
}

impl Backups {
    /// Opens a directory (created when the first backup is written) or an object-store URL.
    ///
    /// # Errors
    /// `store-url` for a location that cannot be understood.
    pub fn open(location: &str) -> Result<Self> {
        Ok(Self { objects: objects::open_existing(location)? })
    }

    /// Opens it to write, too.
    ///
    /// # Errors
    /// As [`Backups::open`], and if a directory cannot be created.
    pub fn create(location: &str) -> Result<Self> {
        Ok(Self { objects: objects::open(location)? })
    }

    /// Writes a backup under a name that is free, and reads it back.
    ///
    /// # Errors
    /// `Fenced` if another one has the name; if it cannot be written, or is not there as it was written.
    pub async fn write(&self, name: &str, bytes: Bytes) -> Result<()> {
        let key = paths::backup(name);
        objects::create_same(self.objects.as_ref(), &key, bytes.clone()).await?;
        if self.objects.get(&key).await?.as_ref() == Some(&bytes) {
            return Ok(());
        }
        Err(Error::runtime("backup-unwritten", "the backup is not there as it was written")
            .in_split(self.place(name)))
    }

    /// Names and sizes in bytes, in order.
    ///
    /// # Errors
    /// If the place cannot be read.
    pub async fn list(&self) -> Result<Vec<(String, u64)>> {
        let all = self.objects.list(paths::BACKUPS).await?;
        Ok(all.into_iter().filter_map(|(key, size)| Some((paths::backup_name(&key)?, size))).collect())
    }

    /// A backup's bytes.
    ///
    /// # Errors
    /// `unknown-backup` if there is none of this name.
    pub async fn read(&self, name: &str) -> Result<Bytes> {
        self.objects.get(&paths::backup(name)).await?.ok_or_else(|| {
            Error::bad_input("unknown-backup", format!("there is no backup {name}"))
                .in_split(self.place(name))
                .help("`conveyorctl backup list` shows what there is")
        })
    }

    fn place(&self, name: &str) -> String {
        format!("{}/{}", self.objects.location(), paths::backup(name))
    }
}
