//! The committer of a file sink: staged objects get their final names, then the epoch gets its entry in the ledger.
//!
//! Every step may be repeated: a staged object that is gone and has its final name was renamed before. An epoch without
//! objects gets no entry (the ledger may trail the log, never lead it).

use std::collections::BTreeSet;

use async_trait::async_trait;
use conveyor_model::manifest::StagedRef;
use conveyor_model::plan::Delivery;
use conveyor_model::secret::Secrets;
use conveyor_model::sink::{Committer, SinkContext};
use conveyor_model::{Epoch, Error, Incarnation, Kind, Result};
use serde::{Deserialize, Serialize};

use super::layout::{Layout, STAGING};
use super::sink_config::{Existing, SinkPlan};
use super::store::locate;
use super::target::Target;

/// Version of the ledger entries' form.
const FORMAT: u32 = 1;

/// A ledger entry: what one epoch added. Plain JSON, for readers of the folder too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    format: u32,
    pipeline: String,
    sink: String,
    epoch: Epoch,
    incarnation: Incarnation,
    /// The pipeline finished with this epoch.
    last: bool,
    rows: u64,
    bytes: u64,
    files: Vec<Published>,
    /// The one file that all parts became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    joined: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Published {
    path: String,
    rows: u64,
    bytes: u64,
}

/// Gives staged objects their final names, durably.
///
/// # Errors
/// `Corrupt` if an object is neither staged nor published.
pub(crate) async fn publish(target: &Target, staged: &[StagedRef]) -> Result<()> {
    let mut folders = BTreeSet::new();
    for object in staged {
        fail::fail_point!("file-publish-before-rename");
        if !target.rename(&object.staged, &object.publish).await? && !target.exists(&object.publish).await? {
            return Err(Error::new(
                Kind::Corrupt,
                "staged-object-lost",
                format!("a committed object of {} rows is neither staged nor published", object.rows),
            )
            .in_split(target.display(&object.staged))
            .help("restore it from a backup, or reset the pipeline to write its output anew"));
        }
        fail::fail_point!("file-publish-after-rename");
        folders.insert(object.publish.rsplit_once('/').map_or("", |(folder, _)| folder));
    }
    for folder in folders {
        target.sync(folder).await?;
    }
    fail::fail_point!("file-publish-after-folder-sync");
    Ok(())
}

/// Commits epochs of one file sink.
pub(crate) struct FileCommitter {
    context: SinkContext,
    plan: SinkPlan,
    layout: Layout,
    target: Target,
    /// The newest entry, once the ledger was read.
    newest: Option<Option<(Epoch, Incarnation)>>,
    /// What older incarnations left behind was deleted.
    cleaned: bool,
}

impl FileCommitter {
    /// Opens the committer. The target is not touched yet.
    ///
    /// # Errors
    /// `BadInput` as [`SinkPlan::new`].
    pub(crate) fn open(context: SinkContext, secrets: &dyn Secrets) -> Result<Self> {
        let plan = SinkPlan::new(&context.config, &context.schema, context.mode)?;
        let target = Target::new(locate(&plan.folder, &plan.config.store, secrets)?)?;
        let layout = Layout::new(&context, &plan);
        Ok(Self { context, plan, layout, target, newest: None, cleaned: false })
    }

    async fn epochs(&self) -> Result<Vec<Epoch>> {
        let names = self.target.names(&self.layout.manifests()).await?;
        let numbers = names.iter().filter_map(|n| n.strip_suffix(".json")?.parse().ok());
        let mut epochs: Vec<Epoch> = numbers.map(Epoch).collect();
        epochs.sort_unstable();
        Ok(epochs)
    }

    async fn entry(&self, epoch: Epoch) -> Result<Entry> {
        let name = self.layout.manifest(epoch);
        let broken = || {
            Error::new(Kind::Corrupt, "ledger-unreadable", "an entry of the target's ledger cannot be read")
        };
        let bytes = self.target.read(&name).await?;
        let entry: Entry = serde_json::from_slice(&bytes)
            .map_err(|e| broken().because(e).in_split(self.target.display(&name)))?;
        if entry.format != FORMAT {
            return Err(broken()
                .in_split(self.target.display(&name))
                .because(format!("its format is {}, and {FORMAT} is known here", entry.format)));
        }
        Ok(entry)
    }

    async fn newest(&mut self) -> Result<Option<(Epoch, Incarnation)>> {
        if self.newest.is_none() {
            self.newest = Some(match self.epochs().await?.last() {
                Some(&epoch) => Some((epoch, self.entry(epoch).await?.incarnation)),
                None => None,
            });
        }
        Ok(self.newest.flatten())
    }

    fn check_fence(&self, newest: Option<(Epoch, Incarnation)>) -> Result<()> {
        match newest {
            Some((epoch, incarnation)) if incarnation > self.context.incarnation => Err(Error::new(
                Kind::Fenced,
                "ledger-fenced",
                format!(
                    "the target's ledger was written by incarnation {incarnation} (epoch {epoch}); this is {}",
                    self.context.incarnation
                ),
            )
            .in_split(self.target.display(&self.layout.manifests()))),
            _ => Ok(()),
        }
    }

    /// Refuses to replace a file that no run of this sink has made.
    async fn check_free(&self) -> Result<()> {
        let Some(name) = &self.plan.single else { return Ok(()) };
        if self.plan.config.existing == Existing::Error && self.target.exists(name).await? {
            return Err(Error::bad_input(
                "target-exists",
                "the file that the sink is to make is there already",
            )
            .in_split(self.target.display(name))
            .help("move it away, or set `existing: append` or `existing: replace`"));
        }
        Ok(())
    }

    async fn apply(&mut self, epoch: Epoch, staged: &[StagedRef], last: bool) -> Result<()> {
        let newest = self.newest().await?;
        if newest.is_some_and(|(newest, _)| newest >= epoch) {
            if last {
                self.clean_parts(epoch).await?;
                self.clean_staging(staged, true).await?;
            }
            return Ok(());
        }
        self.check_fence(newest)?;
        if staged.is_empty() && !last {
            return Ok(());
        }
        publish(&self.target, staged).await?;
        let joined = if last { self.join(staged).await? } else { None };
        self.write_entry(epoch, staged, last, joined).await?;
        if last {
            self.clean_parts(epoch).await?;
        }
        self.clean_staging(staged, last).await
    }

    async fn write_entry(
        &mut self,
        epoch: Epoch,
        staged: &[StagedRef],
        last: bool,
        joined: Option<String>,
    ) -> Result<()> {
        let files =
            staged.iter().map(|s| Published { path: s.publish.clone(), rows: s.rows, bytes: s.bytes });
        let entry = Entry {
            format: FORMAT,
            pipeline: self.context.pipeline.to_string(),
            sink: self.context.name.to_string(),
            epoch,
            incarnation: self.context.incarnation,
            last,
            rows: staged.iter().map(|s| s.rows).sum(),
            bytes: staged.iter().map(|s| s.bytes).sum(),
            files: files.collect(),
            joined,
        };
        let text = serde_json::to_vec_pretty(&entry).map_err(|e| {
            Error::runtime("ledger-unwritable", "a ledger entry cannot be written").because(e)
        })?;
        fail::fail_point!("file-ledger-before-write");
        let created = self.target.put_new(&self.layout.manifest(epoch), text).await?;
        fail::fail_point!("file-ledger-after-write");
        self.newest = Some(Some((epoch, self.context.incarnation)));
        if !created {
            // Somebody was faster: a newer incarnation, or this one before a time-out.
            let there = self.entry(epoch).await?;
            self.newest = Some(Some((epoch, there.incarnation)));
            self.check_fence(self.newest.flatten())?;
        }
        Ok(())
    }

    /// The parts of the run that ends now: those since the last entry that ended a run, and `staged`.
    async fn parts(&self, staged: &[StagedRef], before: Option<Epoch>) -> Result<Vec<String>> {
        let mut parts: Vec<String> = staged.iter().map(|s| s.publish.clone()).collect();
        for &epoch in self.epochs().await?.iter().rev().filter(|&&e| before.is_none_or(|b| e < b)) {
            let entry = self.entry(epoch).await?;
            if entry.last {
                break;
            }
            parts.extend(entry.files.into_iter().map(|f| f.path));
        }
        parts.sort_unstable();
        Ok(parts)
    }

    /// Makes one file of all parts, in single-file mode.
    async fn join(&self, staged: &[StagedRef]) -> Result<Option<String>> {
        let Some(name) = &self.plan.single else { return Ok(None) };
        let mut parts = self.parts(staged, None).await?;
        fail::fail_point!("file-join-before");
        let mut head = super::encode::head(&self.plan)?;
        if self.plan.config.existing == Existing::Append {
            let base = self.layout.base();
            // A base from before a crash stands: the file itself may hold this run's rows by now.
            if self.target.exists(&base).await? || self.target.keep(name, &base).await? {
                parts.insert(0, base);
                head.clear();
            }
        }
        self.target.concatenate(head, &parts, &self.layout.scratch(), name).await?;
        fail::fail_point!("file-join-after");
        Ok(Some(name.clone()))
    }

    /// Deletes the parts that the one file was made of.
    async fn clean_parts(&self, last: Epoch) -> Result<()> {
        if self.plan.single.is_none() {
            return Ok(());
        }
        let of_last: Vec<StagedRef> = Vec::new();
        let mut parts = self.parts(&of_last, Some(last)).await?;
        parts.extend(self.entry(last).await?.files.into_iter().map(|f| f.path));
        parts.push(self.layout.base());
        for part in parts {
            fail::fail_point!("file-clean-before-delete");
            self.target.delete(&part).await?;
            fail::fail_point!("file-clean-after-delete");
        }
        Ok(())
    }

    /// Deletes what was staged and never committed. Epochs are committed in order, and those of older incarnations
    /// before any of this one: an epoch that is all ours says that the rest of theirs is waste. At the end of a
    /// pipeline the same is true of our own.
    async fn clean_staging(&mut self, staged: &[StagedRef], last: bool) -> Result<()> {
        let ours = self.context.incarnation;
        let named =
            |s: &StagedRef| self.layout.incarnation_of(s.staged.rsplit('/').next().unwrap_or_default());
        let all_ours = !staged.is_empty() && staged.iter().all(|s| named(s) == Some(ours));
        if !last && (self.cleaned || !all_ours) {
            return Ok(());
        }
        self.cleaned = true;
        for name in self.target.names(STAGING).await? {
            let old = self.layout.incarnation_of(&name).is_some_and(|i| i < ours || (last && i == ours));
            let path = format!("{STAGING}/{name}");
            if old && !staged.iter().any(|s| s.staged == path) {
                self.target.delete(&path).await?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Committer for FileCommitter {
    async fn ledger(&mut self) -> Result<Option<Epoch>> {
        let newest = self.newest().await.map_err(|e| e.at(&self.context.name))?;
        if newest.is_none() {
            self.check_free().await.map_err(|e| e.at(&self.context.name))?;
        }
        Ok(newest.map(|(epoch, _)| epoch))
    }

    async fn commit(&mut self, epoch: Epoch, staged: &[StagedRef], last: bool) -> Result<()> {
        if self.context.delivery == Delivery::AtLeastOnce && self.plan.single.is_none() && !last {
            return Ok(());
        }
        self.apply(epoch, staged, last).await.map_err(|e| e.at(&self.context.name))
    }
}
