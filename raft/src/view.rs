//! A log that is only looked at, also while another process writes it: no lock, no repair, nothing created.

use std::path::Path;

use async_trait::async_trait;
use conveyor_model::log::{Command, Log, Outcome, PipelineState};
use conveyor_model::{Error, PipelineId, Result};

use crate::disk::{Disk, RealDisk};
use crate::{ClusterState, recover};

/// Looks at files that change underneath before what they say is taken for damage.
const LOOKS: usize = 8;

/// The state of a log at the moment when it was opened.
///
/// A record at the end that is not whole is being written, or was torn by a crash: it is left out, and left alone. An
/// entry that is whole but not yet acknowledged may be seen.
pub struct LogView {
    state: ClusterState,
}

impl LogView {
    /// Reads the log in `dir`, which must exist.
    ///
    /// # Errors
    /// `log-corrupt` if an acknowledged entry is damaged, `log-version` or `proto-unknown` if a newer version wrote it,
    /// `log-io` if it cannot be read.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_on(&RealDisk, dir)
    }

    pub(crate) fn open_on(disk: &dyn Disk, dir: &Path) -> Result<Self> {
        let mut looked = recover::look(disk, dir);
        for _ in 1..LOOKS {
            // A snapshot replaces segments, and a record may be half there, between two steps of one look. Damage looks
            // the same every time.
            match &looked {
                Err(_) => looked = recover::look(disk, dir),
                Ok(_) => break,
            }
        }
        looked.map(|found| Self { state: found.state })
    }
}

#[async_trait]
impl Log for LogView {
    async fn propose(&self, _: Command) -> Result<Outcome> {
        Err(Error::runtime("log-read-only", "this log was opened to be looked at, and takes no commands"))
    }

    async fn read(&self, pipeline: &PipelineId) -> Result<Option<PipelineState>> {
        Ok(self.state.pipelines().get(pipeline).cloned())
    }

    async fn list(&self) -> Result<Vec<(PipelineId, PipelineState)>> {
        Ok(self.state.pipelines().iter().map(|(id, state)| (id.clone(), state.clone())).collect())
    }
}
