//! The store of one cluster or one `run`: manifests, plans and operator state.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use conveyor_model::manifest::{Manifest, ManifestRef, Manifests};
use conveyor_model::plan::Plan;
use conveyor_model::state::{StateRef, StateStore};
use conveyor_model::{Error, Incarnation, Kind, PipelineId, Result, TaskId};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::objects::{self, Objects};
use crate::{clean, paths};

/// Orders the uploads of this process; a task of one incarnation lives in one process.
static UPLOADS: AtomicU64 = AtomicU64::new(1);

/// Manifests, plans and state in a directory or an object store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn Objects>,
}

impl Store {
    /// Opens a directory (created if it does not exist) or an `s3://`, `gs://` or `az://` URL.
    ///
    /// # Errors
    /// `store-url` for a location that cannot be understood; an error of the file system for a directory.
    pub fn open(location: &str) -> Result<Self> {
        Ok(Self { objects: objects::open(location)? })
    }

    /// Opens a location to read from: a directory that does not exist has no objects, and is not created.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_existing(location: &str) -> Result<Self> {
        Ok(Self { objects: objects::open_existing(location)? })
    }

    #[cfg(test)]
    pub(crate) fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }

    /// Writes a plan under a name made of its hash; the same plan again gives the same reference.
    ///
    /// # Errors
    /// If the store does not take it.
    pub async fn put_plan(&self, plan: &Plan) -> Result<ManifestRef> {
        let bytes = to_json("plan", plan)?;
        let sha256 = sha256(&bytes);
        let key = paths::plan(&plan.pipeline, &sha256);
        objects::create_same(self.objects.as_ref(), &key, bytes)
            .await
            .map_err(|e| e.in_pipeline(&plan.pipeline))?;
        Ok(ManifestRef { key, sha256 })
    }

    /// Reads a plan and checks its hash.
    ///
    /// # Errors
    /// `Corrupt` if the hash differs or the object is gone; `format-unknown` if a newer version wrote it.
    pub async fn get_plan(&self, reference: &ManifestRef) -> Result<Plan> {
        let bytes = self.verified("plan", &reference.key, &reference.sha256, None).await?;
        self.parse("plan", &reference.key, &bytes, conveyor_model::plan::FORMAT)
    }

    /// Reads an object and checks it against what its reference says.
    async fn verified(&self, what: &str, key: &str, hash: &str, length: Option<u64>) -> Result<Bytes> {
        let Some(bytes) = self.objects.get(key).await? else {
            return Err(self.corrupt(
                "object-missing",
                key,
                format!("a {what} that is still needed is gone"),
            ));
        };
        if length.is_some_and(|l| l != bytes.len() as u64) || sha256(&bytes) != hash {
            return Err(self.corrupt("hash-mismatch", key, format!("a {what} is not what was written")));
        }
        Ok(bytes)
    }

    fn parse<T: DeserializeOwned>(&self, what: &str, key: &str, bytes: &[u8], known: u32) -> Result<T> {
        #[derive(serde::Deserialize)]
        struct Format {
            format: u32,
        }
        let bad = |e| self.corrupt("object-malformed", key, format!("a {what} cannot be read")).because(e);
        let Format { format } = serde_json::from_slice(bytes).map_err(bad)?;
        if format != known {
            let why = format!("a {what} has the unknown format version {format}");
            return Err(Error::new(Kind::Corrupt, "format-unknown", why)
                .in_split(format!("{}/{key}", self.objects.location()))
                .help("it was written by another version of conveyor: run that version or a later one"));
        }
        serde_json::from_slice(bytes).map_err(bad)
    }

    fn corrupt(&self, code: &'static str, key: &str, why: String) -> Error {
        Error::new(Kind::Corrupt, code, why)
            .in_split(format!("{}/{key}", self.objects.location()))
            .help("restore the object from a backup, or reset the pipeline on purpose: there is no silent fall-back")
    }
}

#[async_trait]
impl Manifests for Store {
    async fn write(&self, manifest: &Manifest) -> Result<ManifestRef> {
        let bytes = to_json("manifest", manifest)?;
        let sha256 = sha256(&bytes);
        let key = paths::manifest(&manifest.pipeline, manifest.epoch, manifest.incarnation);
        let written = objects::create_same(self.objects.as_ref(), &key, bytes).await;
        written.map_err(|e| e.in_pipeline(&manifest.pipeline))?;
        Ok(ManifestRef { key, sha256 })
    }

    async fn read(&self, pipeline: &PipelineId, reference: &ManifestRef) -> Result<Manifest> {
        let read = async {
            let bytes = self.verified("manifest", &reference.key, &reference.sha256, None).await?;
            let manifest: Manifest =
                self.parse("manifest", &reference.key, &bytes, conveyor_model::manifest::FORMAT)?;
            if manifest.pipeline != *pipeline {
                let why = format!("a manifest is of the pipeline {}", manifest.pipeline);
                return Err(self.corrupt("manifest-foreign", &reference.key, why));
            }
            Ok(manifest)
        };
        read.await.map_err(|e: Error| e.in_pipeline(pipeline))
    }

    async fn clean_up(&self, pipeline: &PipelineId, committed: &ManifestRef, keep: usize) -> Result<()> {
        clean::clean_up(self, self.objects.as_ref(), pipeline, committed, keep).await
    }
}

#[async_trait]
impl StateStore for Store {
    async fn put(
        &self,
        pipeline: &PipelineId,
        incarnation: Incarnation,
        task: TaskId,
        step: &str,
        snapshot: Bytes,
    ) -> Result<StateRef> {
        let sequence = UPLOADS.fetch_add(1, Ordering::Relaxed);
        let random = uuid::Uuid::new_v4().simple().to_string();
        let key = paths::state(pipeline, incarnation, task, step, sequence, &random);
        let reference = StateRef { key, sha256: sha256(&snapshot), bytes: snapshot.len() as u64 };
        objects::create_same(self.objects.as_ref(), &reference.key, snapshot)
            .await
            .map_err(|e| e.in_pipeline(pipeline))?;
        Ok(reference)
    }

    async fn get(&self, reference: &StateRef) -> Result<Bytes> {
        self.verified("state snapshot", &reference.key, &reference.sha256, Some(reference.bytes)).await
    }
}

fn to_json(what: &str, value: &impl serde::Serialize) -> Result<Bytes> {
    let bytes = serde_json::to_vec(value)
        .map_err(|e| Error::runtime("not-json", format!("a {what} cannot be written as JSON")).because(e))?;
    Ok(bytes.into())
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    paths::hex(&Sha256::digest(bytes))
}
