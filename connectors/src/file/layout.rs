//! Names in a file sink's folder. Only this file spells them.
//!
//! ```text
//! out/part-000007-2-0-3-9f86d081.ndjson                     published
//! out/origin=JFK/part-….ndjson                              published, with partitionBy
//! out/_conveyor/staging/9f86d081-2-0-3.staged               staged: hash, incarnation, subtask, number
//! out/_conveyor/default.flights.late/manifests/7.json       ledger: epoch
//! out/_conveyor/default.flights.late/parts/….part           committed parts of one file
//! out/_conveyor/default.flights.late/parts/base-0.part      what was in it before; the epoch of the last reset
//! ```

use conveyor_model::sink::SinkContext;
use conveyor_model::{Epoch, Incarnation};

use super::listing::RESERVED;
use super::partition::escape;
use super::sink_config::SinkPlan;
use super::split::hash;

/// Folder of staged objects, of all pipelines that write here.
pub(crate) const STAGING: &str = "_conveyor/staging";

/// Names of one sink.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Folder for the ledger of this sink.
    home: String,
    /// Tells apart sinks that share a folder.
    tag: String,
    extension: String,
    single: bool,
}

impl Layout {
    /// The names of a sink.
    pub(crate) fn new(context: &SinkContext, plan: &SinkPlan) -> Self {
        let mut home = format!("{RESERVED}/");
        for (index, part) in
            [&*context.pipeline.namespace, &*context.pipeline.name, &*context.name].iter().enumerate()
        {
            if index > 0 {
                home.push('.');
            }
            escape(part, &mut home);
        }
        let tag = hash(&format!("{}/{}", context.pipeline, context.name)) >> 32;
        Self {
            home,
            tag: format!("{tag:08x}"),
            extension: plan.extension.clone(),
            single: plan.single.is_some(),
        }
    }

    /// Name of a staged object.
    pub(crate) fn staged(&self, incarnation: Incarnation, subtask: u32, number: u64) -> String {
        format!("{STAGING}/{}-{incarnation}-{subtask}-{number}.staged", self.tag)
    }

    /// The incarnation that staged an object of this sink; `None` for objects of others.
    pub(crate) fn incarnation_of(&self, file_name: &str) -> Option<Incarnation> {
        let rest = file_name.strip_prefix(&*self.tag)?.strip_prefix('-')?.strip_suffix(".staged")?;
        rest.split('-').next()?.parse().ok().map(Incarnation)
    }

    /// Final name of an object. Sorts by epoch, subtask and number.
    pub(crate) fn publish(
        &self,
        folder: &str,
        epoch: Epoch,
        incarnation: Incarnation,
        subtask: u32,
        number: u64,
    ) -> String {
        let Epoch(epoch) = epoch;
        let Incarnation(incarnation) = incarnation;
        if self.single {
            return format!("{}/parts/{epoch:012}-{subtask:06}-{number:09}-{incarnation}.part", self.home);
        }
        let slash = if folder.is_empty() { "" } else { "/" };
        format!(
            "{folder}{slash}part-{epoch:06}-{incarnation}-{subtask}-{number}-{}.{}",
            self.tag, self.extension
        )
    }

    /// Folder of the ledger.
    pub(crate) fn manifests(&self) -> String {
        format!("{}/manifests", self.home)
    }

    /// The ledger's entry of an epoch.
    pub(crate) fn manifest(&self, epoch: Epoch) -> String {
        format!("{}/manifests/{epoch}.json", self.home)
    }

    /// Folder of the committed parts of one file.
    pub(crate) fn parts(&self) -> String {
        format!("{}/parts", self.home)
    }

    /// What was in the one file before the run, where the run's rows are added to it; empty if there was no file. A reset
    /// starts another one, so that nothing of before is taken for this run's.
    pub(crate) fn base(&self, forgotten: Option<Epoch>) -> String {
        format!("{}/parts/base-{}.part", self.home, forgotten.unwrap_or(Epoch(0)))
    }

    /// Where one file is put together before it appears.
    pub(crate) fn scratch(&self) -> String {
        format!("{}/joined.tmp", self.home)
    }
}
