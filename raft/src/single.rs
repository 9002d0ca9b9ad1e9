//! The log of a single voter: what `run` uses where a cluster has three routers.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use async_trait::async_trait;
use conveyor_model::log::{Command, Log, Outcome, PipelineState};
use conveyor_model::{Error, PipelineId, Result};
use conveyor_proto::encode_command;
use futures::channel::oneshot;
use parking_lot::{Mutex, RwLock};

use crate::disk::{DirLock, Disk, RealDisk, create_dir};
use crate::record::MAX_PAYLOAD;
use crate::replicated::refuse_replicated;
use crate::writer::{Proposal, Writer};
use crate::{ClusterState, recover};

/// Settings of a [`SingleVoterLog`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Entries between two snapshots.
    pub snapshot_every: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { snapshot_every: 4096 }
    }
}

/// A durable log in a directory, used by one process at a time.
///
/// Proposals that wait at the same moment share one write and one fsync. Nothing is acknowledged, applied or visible to
/// readers before it is durable.
pub struct SingleVoterLog {
    state: Arc<RwLock<ClusterState>>,
    // The mutex makes the log `Sync` without asking it of the channel; it is held only to send.
    proposals: Option<Mutex<Sender<Proposal>>>,
    writer: Option<JoinHandle<()>>,
    _lock: DirLock,
}

impl SingleVoterLog {
    /// Opens the log in `dir`, which is created if it does not exist.
    ///
    /// # Errors
    /// `data-dir-locked` if another process uses the directory, `data-dir-in-other-use` if a cluster's node does, `log-corrupt` if an acknowledged entry is damaged,
    /// `log-version` or `proto-unknown` if a newer version wrote it, `log-io` or `disk-full` otherwise.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, Options::default())
    }

    /// [`SingleVoterLog::open`] with settings.
    ///
    /// # Errors
    /// As [`SingleVoterLog::open`].
    pub fn open_with(dir: &Path, options: Options) -> Result<Self> {
        create_dir(dir)?;
        let lock = DirLock::take(dir)?;
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        refuse_replicated(disk.as_ref(), dir)?;
        let found = recover::recover(&disk, dir)?;
        let state = Arc::new(RwLock::new(ClusterState::default()));
        let writer = Writer::new(disk, dir, state.clone(), found, options.snapshot_every.max(1));
        let (sender, receiver) = channel();
        let writer = std::thread::Builder::new()
            .name("conveyor-log".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(|e| crate::error::io("start its writer thread", dir, e))?;
        Ok(Self { state, proposals: Some(Mutex::new(sender)), writer: Some(writer), _lock: lock })
    }
}

#[async_trait]
impl Log for SingleVoterLog {
    async fn propose(&self, command: Command) -> Result<Outcome> {
        let bytes = encode_command(&command);
        if bytes.len() > MAX_PAYLOAD {
            let why = format!("a command of {} bytes is over the log's limit of {MAX_PAYLOAD}", bytes.len());
            return Err(Error::bad_input("command-too-large", why));
        }
        let (answer, answered) = oneshot::channel();
        let proposals = self.proposals.as_ref().expect("only taken when the log is dropped");
        let sent = proposals.lock().send(Proposal { command, bytes, answer });
        sent.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    async fn read(&self, pipeline: &PipelineId) -> Result<Option<PipelineState>> {
        Ok(self.state.read().pipelines().get(pipeline).cloned())
    }

    async fn list(&self) -> Result<Vec<(PipelineId, PipelineState)>> {
        Ok(self.state.read().pipelines().iter().map(|(id, state)| (id.clone(), state.clone())).collect())
    }
}

impl Drop for SingleVoterLog {
    fn drop(&mut self) {
        // Without senders the writer finishes what is queued and ends; the lock is given up after that.
        self.proposals = None;
        if let Some(writer) = self.writer.take() {
            drop(writer.join());
        }
    }
}

fn stopped() -> Error {
    Error::runtime(
        "log-stopped",
        "the log's writer has stopped; the command may or may not have been applied",
    )
    .help("read the log's messages for the reason, then start again")
}
