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

use super::decompress::Compression;
use super::layout::{Layout, STAGING};
use super::sink_config::{Encoding, Existing, SinkPlan};
use super::store::locate;
use super::target::{Pieces, Target};
use crate::format::TextFormat;

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

    /// Epochs of before a reset are none of ours.
    fn is_ours(&self, epoch: Epoch) -> bool {
        self.context.forgotten.is_none_or(|forgotten| epoch > forgotten)
    }

    /// Refuses to touch a file that no run of this sink has made, and to add rows to a table of other columns.
    async fn check_file(&self, newest: Option<Epoch>) -> Result<()> {
        let Some(name) = &self.plan.single else { return Ok(()) };
        if !self.target.exists(name).await? {
            return Ok(());
        }
        let ours = newest.is_some_and(|epoch| self.is_ours(epoch));
        if ours || self.plan.config.existing == Existing::Append {
            return self.check_columns(name).await;
        }
        // With a base the file is of a run of ours that died while it put the file together.
        let base = self.layout.base(self.context.forgotten);
        if self.plan.config.existing == Existing::Error && !self.target.exists(&base).await? {
            return Err(Error::bad_input(
                "target-exists",
                "the file that the sink is to make is there already",
            )
            .in_split(self.target.display(name))
            .help("move it away, or set `existing: append` or `existing: replace`"));
        }
        Ok(())
    }

    /// Rows are added to a CSV file only under the header that they would have got.
    async fn check_columns(&self, name: &str) -> Result<()> {
        let Encoding::Text(TextFormat::Csv(csv), Compression::None) = &self.plan.encoding else {
            return Ok(());
        };
        let head = super::encode::head(&self.plan)?;
        if !csv.header || head.is_empty() {
            return Ok(());
        }
        let there = self.target.read_range(name, 0, head.len()).await?;
        if there.is_empty() || there == head {
            return Ok(());
        }
        let line = |bytes: &[u8]| {
            let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
            String::from_utf8_lossy(line).trim_end().to_owned()
        };
        Err(Error::bad_input("target-columns", "the file that rows are to be added to has other columns")
            .because(format!("it begins with `{}`, and the sink writes `{}`", line(&there), line(&head)))
            .in_split(self.target.display(name))
            .help("give the sink another path, or write the same columns in the same order"))
    }

    async fn apply(&mut self, epoch: Epoch, staged: &[StagedRef], last: bool) -> Result<()> {
        let newest = self.newest().await?;
        if newest.is_some_and(|(newest, _)| newest >= epoch) {
            if last {
                self.clean_parts().await?;
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
            self.clean_parts().await?;
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

    /// The parts of the run that ends now, those since the last entry that ended a run; and whether there was such an entry.
    async fn parts(&self, staged: &[StagedRef]) -> Result<(Vec<String>, bool)> {
        let mut parts: Vec<String> = staged.iter().map(|s| s.publish.clone()).collect();
        let mut continued = false;
        for &epoch in self.epochs().await?.iter().rev().filter(|e| self.is_ours(**e)) {
            let entry = self.entry(epoch).await?;
            if entry.last {
                continued = true;
                break;
            }
            parts.extend(entry.files.into_iter().map(|f| f.path));
        }
        parts.sort_unstable();
        Ok((parts, continued))
    }

    /// Makes one file of all parts, in single-file mode, behind what an earlier run or somebody else has put there.
    async fn join(&self, staged: &[StagedRef]) -> Result<Option<String>> {
        let Some(name) = &self.plan.single else { return Ok(None) };
        let (parts, continued) = self.parts(staged).await?;
        fail::fail_point!("file-join-before");
        let mut pieces = Pieces { head: super::encode::head(&self.plan)?, parts, ..Pieces::default() };
        if continued || self.plan.config.existing != Existing::Replace {
            let base = self.layout.base(self.context.forgotten);
            // A base from before a crash stands: the file itself may hold this run's rows by now.
            let there = self.target.exists(&base).await?;
            if !there && pieces.parts.is_empty() && self.target.exists(name).await? {
                return Ok(Some(name.clone()));
            }
            if !there && !self.target.keep(name, &base).await? {
                self.target.put_new(&base, Vec::new()).await?;
            }
            let size = self.target.size(&base).await?;
            if size > 0 {
                pieces.head.clear();
                pieces.gap = self.plain_text() && self.target.read_range(&base, size - 1, 1).await? != b"\n";
                pieces.base = Some(base);
            }
        }
        let scratch = self.layout.scratch();
        if let Encoding::Text(..) = self.plan.encoding {
            self.target.concatenate(pieces, &scratch, name).await?;
        } else {
            let all: Vec<String> = pieces.base.into_iter().chain(pieces.parts).collect();
            super::join::join(&self.target, &self.plan, &all, &scratch, name).await?;
        }
        fail::fail_point!("file-join-after");
        Ok(Some(name.clone()))
    }

    fn plain_text(&self) -> bool {
        matches!(self.plan.encoding, Encoding::Text(_, Compression::None))
    }

    /// Deletes the parts that the one file was made of, and what a reset has left of an earlier run.
    async fn clean_parts(&self) -> Result<()> {
        if self.plan.single.is_none() {
            return Ok(());
        }
        let folder = self.layout.parts();
        for part in self.target.names(&folder).await? {
            fail::fail_point!("file-clean-before-delete");
            self.target.delete(&format!("{folder}/{part}")).await?;
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
        let newest = newest.map(|(epoch, _)| epoch);
        self.check_file(newest).await.map_err(|e| e.at(&self.context.name))?;
        Ok(newest)
    }

    fn place(&self) -> Option<String> {
        Some(self.target.display(&self.layout.manifests()))
    }

    async fn commit(&mut self, epoch: Epoch, staged: &[StagedRef], last: bool) -> Result<()> {
        if self.context.delivery == Delivery::AtLeastOnce && self.plan.single.is_none() && !last {
            return Ok(());
        }
        self.apply(epoch, staged, last).await.map_err(|e| e.at(&self.context.name))
    }
}
