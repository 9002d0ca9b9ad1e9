//! The queue: opens writers, publishes what they staged.

use std::sync::Arc;

use async_trait::async_trait;
use conveyor_model::dead_letter::{DeadLetterContext, DeadLetterQueue, DeadLetters};
use conveyor_model::manifest::StagedRef;
use conveyor_model::plan::Plan;
use conveyor_model::{Clock, Epoch, Error, Incarnation, Kind, PipelineId, Result, RowRef};
use futures::{StreamExt, TryStreamExt};

use super::reader::DeadLetterReader;
use super::writer::Writer;
use crate::objects::{self, Created, Objects};
use crate::paths;

/// Says how often a row has been tried with this attempt, given the step's id and the row; 1 where it is not asked.
pub type Attempts = Arc<dyn Fn(&str, &RowRef) -> u32 + Send + Sync>;

/// Where a plan's dead letters lie, given the location of the store: the plan's own place, or `dlq` in the store.
pub fn location(store: &str, plan: &Plan) -> String {
    match &plan.dlq.path {
        Some(path) => path.clone(),
        None => format!("{}/dlq", store.trim_end_matches('/')),
    }
}

/// Dead letters in a directory or an object store. Cheap to clone.
#[derive(Clone)]
pub struct DeadLetterStore {
    pub(crate) objects: Arc<dyn Objects>,
    clock: Arc<dyn Clock>,
    attempts: Option<Attempts>,
}

impl DeadLetterStore {
    /// Opens a directory (created if it does not exist) or an object-store URL.
    ///
    /// # Errors
    /// As [`crate::Store::open`].
    pub fn new(location: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        Ok(Self { objects: objects::open(location)?, clock, attempts: None })
    }

    #[cfg(test)]
    pub(crate) fn with_objects(objects: Arc<dyn Objects>, clock: Arc<dyn Clock>) -> Self {
        Self { objects, clock, attempts: None }
    }

    /// Lets a replay say how often its rows were tried.
    #[must_use]
    pub fn with_attempts(mut self, attempts: Attempts) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// The reading side of the same location.
    pub fn reader(&self) -> DeadLetterReader {
        DeadLetterReader::with_objects(self.objects.clone())
    }
}

#[async_trait]
impl DeadLetterQueue for DeadLetterStore {
    fn writer(&self, context: DeadLetterContext) -> Box<dyn DeadLetters> {
        Box::new(Writer::new(self.objects.clone(), self.clock.clone(), self.attempts.clone(), context))
    }

    async fn publish(&self, epoch: Epoch, staged: &[StagedRef]) -> Result<()> {
        const AT_ONCE: usize = 8;
        let each = futures::stream::iter(staged.iter().map(Ok));
        let objects = self.objects.as_ref();
        each.try_for_each_concurrent(AT_ONCE, |file| publish(objects, epoch, file)).await
    }

    async fn sweep(&self, pipeline: &PipelineId, current: Incarnation) -> Result<()> {
        fail::fail_point!("store-before-dlq-sweep");
        for (key, _) in self.objects.list(&paths::dlq_staging(pipeline)).await? {
            if paths::staged_incarnation(&key).is_some_and(|i| i < current) {
                self.objects.delete(&key).await?;
            }
        }
        fail::fail_point!("store-after-dlq-sweep");
        Ok(())
    }
}

async fn publish(objects: &dyn Objects, epoch: Epoch, file: &StagedRef) -> Result<()> {
    if objects.size(&file.staged).await?.is_none() {
        let published = objects.size(&file.publish).await?.is_some();
        // Purged after an earlier publish: a person wanted it gone.
        if published || objects.size(&paths::purged(&file.publish)).await?.is_some() {
            return Ok(());
        }
        return Err(lost(objects, epoch, file, "is gone"));
    }
    match objects.rename(&file.staged, &file.publish).await? {
        Created::New => Ok(()),
        // A crash came between the two halves of an earlier rename.
        Created::Exists if objects.get(&file.staged).await? == objects.get(&file.publish).await? => {
            objects.delete(&file.staged).await
        }
        Created::Exists => {
            Err(lost(objects, epoch, file, "cannot be published: its name is taken by another one"))
        }
    }
}

fn lost(objects: &dyn Objects, epoch: Epoch, file: &StagedRef, why: &str) -> Error {
    let message = format!("a file with {} dead letters of the committed epoch {epoch} {why}", file.rows);
    Error::new(Kind::Corrupt, "dead-letters-lost", message)
        .in_split(format!("{}/{}", objects.location(), file.staged))
        .help(format!("restore it from a backup under this name or as {}", file.publish))
}

/// Runs `work` for each item with a bounded number at once, in order.
pub(crate) async fn in_order<T, U, F: Future<Output = Result<U>>>(
    items: impl IntoIterator<Item = T>,
    work: impl FnMut(T) -> F,
) -> Result<Vec<U>> {
    futures::stream::iter(items).map(work).buffered(4).try_collect().await
}
