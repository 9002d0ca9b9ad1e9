//! Purging: whole files, or some rows of a file, so that a crash leaves either all of it done or none.

use arrow::array::RecordBatch;
use conveyor_model::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use super::file;
use super::reader::{DeadLetterFile, DeadLetterReader};
use super::schema::schema;
use crate::objects::{self, Created};
use crate::paths;

/// What a purge of some rows will do; written down before the first step that cannot be undone.
#[derive(Debug, Serialize, Deserialize)]
struct Intent {
    /// The published file that goes.
    remove: String,
    /// Where the rows that stay were staged.
    staged: String,
    /// Their new published name.
    publish: String,
}

impl DeadLetterReader {
    /// Deletes a file. Its name stays taken, so that a repeated publish of its epoch does not miss it.
    ///
    /// # Errors
    /// If the store does not answer; the next call tries again.
    pub async fn purge(&self, file: &DeadLetterFile) -> Result<()> {
        self.remove(&file.key).await
    }

    /// Replaces a file by one with only `keep`, which are rows that [`DeadLetterReader::read`] gave of it.
    ///
    /// # Errors
    /// If the store does not answer. The purge is then completed by the next listing, or has not begun.
    pub async fn purge_except(&self, file: &DeadLetterFile, keep: &[RecordBatch]) -> Result<()> {
        if keep.iter().all(|b| b.num_rows() == 0) {
            return self.purge(file).await;
        }
        let random = uuid::Uuid::new_v4().simple().to_string();
        let stem = file.key.strip_suffix(".parquet").unwrap_or(&file.key);
        // A file may be purged again and again: its name does not grow.
        let stem = stem.split_once(".kept-").map_or(stem, |(stem, _)| stem);
        let intent = Intent {
            remove: file.key.clone(),
            staged: format!("{}/staging/kept-{random}.staged", paths::DLQ_HIDDEN),
            publish: format!("{stem}.kept-{random}.parquet"),
        };
        let objects = self.objects.as_ref();
        objects::create_same(objects, &intent.staged, file::encode(keep, schema())?).await?;
        let json = serde_json::to_vec(&intent)
            .map_err(|e| Error::runtime("not-json", "a purge cannot be written down").because(e))?;
        let key = paths::purge_intent(&random);
        objects::create_same(objects, &key, json.into()).await?;
        self.carry_out(&key, &intent).await
    }

    /// Completes purges that a crash has cut short.
    pub(crate) async fn finish_purges(&self) -> Result<()> {
        for (key, _) in self.objects.list(&paths::purging()).await? {
            // Another process may complete it at the same moment.
            let Some(bytes) = self.objects.get(&key).await? else { continue };
            let intent = serde_json::from_slice(&bytes).map_err(|e| {
                Error::new(Kind::Corrupt, "purge-damaged", "the record of a purge under way cannot be read")
                    .because(e)
                    .in_split(format!("{}/{key}", self.objects.location()))
                    .help("delete it and purge again")
            })?;
            self.carry_out(&key, &intent).await?;
        }
        Ok(())
    }

    /// Every step may be repeated.
    async fn carry_out(&self, key: &str, intent: &Intent) -> Result<()> {
        let objects = self.objects.as_ref();
        if objects.size(&intent.staged).await?.is_some()
            && objects.rename(&intent.staged, &intent.publish).await? == Created::Exists
        {
            objects.delete(&intent.staged).await?;
        }
        self.remove(&intent.remove).await?;
        objects.delete(key).await
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.objects.create(&paths::purged(key), bytes::Bytes::new()).await?;
        self.objects.delete(key).await
    }
}
