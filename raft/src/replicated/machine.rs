//! openraft's state machine: the pure `ClusterState` behind a lock, and its snapshots on disk.
//!
//! The state lives in memory; a start takes the newest snapshot and applies the committed entries after it. There is one
//! snapshot file; a newer one replaces it, an older one never does.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conveyor_model::log::{Command, Outcome, PipelineState};
use conveyor_model::{PipelineId, Result};
use conveyor_proto::{decode, encode, malformed, v1};
use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageIOError};
use parking_lot::{Mutex, RwLock};

use super::leadership::Watchers;
use super::types::{
    Answers, Entry, LogId, SnapshotMeta, StorageError, StoredMembership, Types, log_id_from_wire,
    log_id_to_wire, stored_from_wire, stored_to_wire,
};
use crate::disk::Disk;
use crate::sealed::{self, Form};
use crate::{ClusterState, error};

type Snapshot = openraft::Snapshot<Types>;

/// Name of the snapshot file.
pub(crate) const FILE: &str = "raft.snap";
const FORM: Form = Form { magic: b"CNVYSNP", version: 2, what: "a snapshot" };
/// Largest snapshot that is taken from another node, in bytes.
pub(crate) const MAX_SNAPSHOT: usize = 1 << 30;

/// The state after an entry.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Applied {
    pub(crate) state: ClusterState,
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

impl Applied {
    fn encode(&self, last: &LogId) -> Vec<u8> {
        let message = v1::ClusterSnapshot {
            last: Some(log_id_to_wire(last)),
            membership: Some(stored_to_wire(&self.membership)),
            pipelines: self.state.pipelines().iter().map(Into::into).collect(),
        };
        encode(&message)
    }

    /// Reads the bytes of a snapshot file.
    fn decode(path: &Path, bytes: &[u8]) -> Result<Self> {
        let placed = |e: conveyor_model::Error| e.in_split(path.display());
        let payload = sealed::open(FORM, path, bytes)?;
        let message: v1::ClusterSnapshot = decode("snapshot", payload).map_err(placed)?;
        let last = message.last.ok_or_else(|| placed(malformed("snapshot", "names no last entry")))?;
        let mut pipelines = std::collections::BTreeMap::new();
        for state in message.pipelines {
            let (id, state) = <(PipelineId, _)>::try_from(state).map_err(placed)?;
            if pipelines.last_key_value().is_some_and(|(last, _)| *last >= id) {
                return Err(placed(malformed("snapshot", &format!("has pipeline {id} out of order"))));
            }
            pipelines.insert(id, state);
        }
        Ok(Self {
            state: ClusterState::new(pipelines),
            last: Some(log_id_from_wire(&last)),
            membership: stored_from_wire(message.membership).map_err(placed)?,
        })
    }

    fn meta(&self) -> SnapshotMeta {
        let last = self.last.unwrap_or_default();
        SnapshotMeta {
            last_log_id: self.last,
            last_membership: self.membership.clone(),
            // The same entries always give the same bytes, so the position names them.
            snapshot_id: format!("{}-{}", last.leader_id.term, last.index),
        }
    }
}

struct Files {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// What the file holds, whole, and up to which entry.
    current: Option<(SnapshotMeta, Arc<Vec<u8>>)>,
    closed: bool,
}

impl Files {
    fn save(&mut self, meta: SnapshotMeta, bytes: Vec<u8>) -> Result<()> {
        if self.current.as_ref().is_some_and(|(current, _)| current.last_log_id > meta.last_log_id) {
            return Ok(());
        }
        if self.closed {
            return Err(conveyor_model::Error::runtime("log-stopped", "the log's node has stopped"));
        }
        fail::fail_point!("raft-before-raft-snapshot");
        sealed::write_bytes(self.disk.as_ref(), &self.dir, FILE, FORM.what, &bytes)?;
        fail::fail_point!("raft-after-raft-snapshot");
        self.current = Some((meta, Arc::new(bytes)));
        Ok(())
    }
}

/// The state machine; clones share the state.
#[derive(Clone)]
pub(crate) struct Machine {
    applied: Arc<RwLock<Applied>>,
    // Held while a snapshot is written, which is why it is not the lock of the state.
    files: Arc<Mutex<Files>>,
    watchers: Watchers,
}

impl Machine {
    /// The state of the snapshot in `dir`, or an empty one.
    ///
    /// # Errors
    /// `log-corrupt`, `log-version` or `proto-unknown` if the snapshot is not what was written: there is no older one to
    /// fall back to.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self> {
        let names = disk.list(dir).map_err(|e| error::io("list its files", dir, e))?;
        let mut applied = Applied::default();
        let mut current = None;
        if names.iter().any(|name| name == FILE) {
            let path = dir.join(FILE);
            let bytes = disk.read(&path).map_err(|e| error::io("read its snapshot", &path, e))?;
            applied = Applied::decode(&path, &bytes)?;
            current = Some((applied.meta(), Arc::new(bytes)));
        }
        let files = Files { disk, dir: dir.to_owned(), current, closed: false };
        let applied = Arc::new(RwLock::new(applied));
        Ok(Self { applied, files: Arc::new(Mutex::new(files)), watchers: Watchers::default() })
    }

    /// The state as this node has applied it, which may be behind what is agreed.
    pub(crate) fn applied(&self) -> &RwLock<Applied> {
        &self.applied
    }

    /// Those who want to know which pipelines change.
    pub(crate) fn watchers(&self) -> &Watchers {
        &self.watchers
    }

    /// Last entry of the snapshot on disk.
    pub(crate) fn snapshot_last(&self) -> Option<LogId> {
        self.files.lock().current.as_ref().and_then(|(meta, _)| meta.last_log_id)
    }

    /// Writes no snapshot from here on; waits for one that is being written.
    pub(crate) fn close(&self) {
        self.files.lock().closed = true;
    }

    fn current(&self) -> Option<Snapshot> {
        let files = self.files.lock();
        let (meta, bytes) = files.current.as_ref()?;
        Some(Snapshot { meta: meta.clone(), snapshot: Box::new(Cursor::new(bytes.to_vec())) })
    }

    fn install(&self, meta: &SnapshotMeta, bytes: Vec<u8>) -> Result<()> {
        let installed = Applied::decode(Path::new("snapshot of the leader"), &bytes)?;
        if installed.last != meta.last_log_id || installed.membership != meta.last_membership {
            return Err(malformed("snapshot", "is not the one that was announced"));
        }
        fail::fail_point!("raft-before-install");
        self.files.lock().save(meta.clone(), bytes)?;
        fail::fail_point!("raft-after-install");
        let mut applied = self.applied.write();
        let changed = installed.state.pipelines().keys().cloned().collect();
        *applied = installed;
        drop(applied);
        self.watchers.tell(changed);
        Ok(())
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Machine;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let applied = self.applied.read();
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Answers>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut applied = self.applied.write();
        let mut answers = Vec::new();
        let mut changed = BTreeSet::new();
        for entry in entries {
            applied.last = Some(entry.log_id);
            answers.push(Answers(match entry.payload {
                EntryPayload::Blank => Vec::new(),
                EntryPayload::Normal(batch) => {
                    batch.0.iter().map(|c| apply(&mut applied.state, c, &mut changed)).collect()
                }
                EntryPayload::Membership(membership) => {
                    applied.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Vec::new()
                }
            }));
        }
        drop(applied);
        self.watchers.tell(changed);
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Machine {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let (machine, meta) = (self.clone(), meta.clone());
        let signature = Some(meta.signature());
        let done = blocking(move || machine.install(&meta, snapshot.into_inner())).await;
        Ok(done.map_err(|e| StorageIOError::write_snapshot(signature, &e))?)
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        Ok(self.current())
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let machine = self.clone();
        let built = blocking(move || {
            let applied = machine.applied.read().clone();
            let last = applied.last.unwrap_or_default();
            machine.files.lock().save(applied.meta(), sealed::seal(FORM, &applied.encode(&last)))
        });
        built.await.map_err(|e| StorageIOError::write_snapshot(None, &e))?;
        Ok(self.current().expect("a snapshot was just written"))
    }
}

/// Applies a command, and notes the pipeline if it now is what its control loop has to look at.
fn apply(state: &mut ClusterState, command: &Command, changed: &mut BTreeSet<PipelineId>) -> Outcome {
    let id = command.pipeline();
    let seen = |s: &PipelineState| (s.version, s.incarnation, s.phase);
    let before = state.pipelines().get(id).map(seen);
    let outcome = state.apply(command);
    if state.pipelines().get(id).map(seen) != before {
        changed.insert(id.clone());
    }
    outcome
}

/// Files are written on a thread that may wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    if conveyor_model::simulation::on() {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(cause) => {
            Err(conveyor_model::Error::runtime("log-stopped", "a snapshot was not finished").because(cause))
        }
    }
}
