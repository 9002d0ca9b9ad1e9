//! Log, manifests and state in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use conveyor_model::log::{Command, Committed, Log, Outcome, Phase, PipelineState, Refusal};
use conveyor_model::manifest::{Manifest, ManifestRef, Manifests};
use conveyor_model::state::{StateRef, StateStore};
use conveyor_model::{Epoch, Error, Incarnation, Kind, PipelineId, Result, TaskId};
use parking_lot::Mutex;

/// One pipeline's log, as strict as the real one where its users can tell.
#[derive(Debug, Default)]
pub struct MemoryLog(pub Mutex<PipelineState>);

impl MemoryLog {
    /// A pipeline with one plan that never ran.
    pub fn new() -> Self {
        Self(Mutex::new(PipelineState { version: 1, next_epoch: 1, ..PipelineState::default() }))
    }

    fn commit(state: &mut PipelineState, command: &Command) -> Outcome {
        let Command::CommitEpoch { incarnation, epoch, parent, manifest, watermark, last, .. } = command
        else {
            return Outcome::Done;
        };
        if state.pending != Some(*epoch) {
            return Outcome::Refused(Refusal::NotPending { got: *epoch, pending: state.pending });
        }
        let committed = state.committed.as_ref().map(|c| c.epoch);
        if committed != *parent {
            return Outcome::Refused(Refusal::WrongParent { got: *parent, committed });
        }
        if let (Some(committed), got) = (state.watermark, watermark.unwrap_or(conveyor_model::Watermark::MIN))
            && got < committed
        {
            return Outcome::Refused(Refusal::WatermarkBack { got, committed });
        }
        state.watermark = *watermark;
        state.pending = None;
        state.committed =
            Some(Committed { epoch: *epoch, incarnation: *incarnation, manifest: manifest.clone() });
        if *last {
            state.phase = Phase::Finished;
        }
        Outcome::Done
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn propose(&self, command: Command) -> Result<Outcome> {
        let mut state = self.0.lock();
        let current = state.incarnation;
        let fenced = |got: Incarnation| Outcome::Refused(Refusal::Fenced { got, current });
        Ok(match &command {
            Command::NewIncarnation { expect, .. } if *expect != current => fenced(*expect),
            Command::NewIncarnation { .. } => {
                state.incarnation.0 += 1;
                state.pending = None;
                Outcome::Incarnation(state.incarnation)
            }
            Command::BeginEpoch { incarnation, .. }
            | Command::CommitEpoch { incarnation, .. }
            | Command::AbortEpoch { incarnation, .. }
            | Command::SetPhase { incarnation, .. }
                if *incarnation != current =>
            {
                fenced(*incarnation)
            }
            Command::BeginEpoch { .. } => match state.pending {
                Some(pending) => Outcome::Refused(Refusal::EpochPending(pending)),
                None => {
                    let epoch = Epoch(state.next_epoch);
                    state.next_epoch += 1;
                    state.pending = Some(epoch);
                    Outcome::Begun(epoch)
                }
            },
            Command::CommitEpoch { .. } => Self::commit(&mut state, &command),
            Command::AbortEpoch { .. } => {
                state.pending = None;
                Outcome::Done
            }
            Command::SetPhase { phase, reason, .. } => {
                state.phase = *phase;
                state.reason.clone_from(reason);
                Outcome::Done
            }
            _ => Outcome::Done,
        })
    }

    async fn read(&self, _pipeline: &PipelineId) -> Result<Option<PipelineState>> {
        Ok(Some(self.0.lock().clone()))
    }

    async fn list(&self) -> Result<Vec<(PipelineId, PipelineState)>> {
        Ok(Vec::new())
    }
}

/// Manifests and state objects by key.
#[derive(Debug, Default)]
pub struct MemoryStore {
    /// Manifests by key.
    pub manifests: Mutex<BTreeMap<String, Manifest>>,
    /// State objects by key.
    pub state: Mutex<BTreeMap<String, Bytes>>,
    /// Writes that are still to fail as if the store were down.
    pub down: Mutex<u32>,
}

impl MemoryStore {
    fn answer(&self) -> Result<()> {
        let mut down = self.down.lock();
        if *down > 0 {
            *down -= 1;
            return Err(Error::new(Kind::Unavailable, "store-down", "the store is down"));
        }
        Ok(())
    }
}

#[async_trait]
impl Manifests for MemoryStore {
    async fn write(&self, manifest: &Manifest) -> Result<ManifestRef> {
        self.answer()?;
        let key = format!("manifests/{}-{}", manifest.epoch, manifest.incarnation);
        self.manifests.lock().insert(key.clone(), manifest.clone());
        Ok(ManifestRef { key, sha256: String::new() })
    }

    async fn read(&self, _pipeline: &PipelineId, reference: &ManifestRef) -> Result<Manifest> {
        let found = self.manifests.lock().get(&reference.key).cloned();
        found.ok_or_else(|| Error::new(Kind::Corrupt, "manifest-gone", "there is no such manifest"))
    }

    async fn clean_up(&self, _pipeline: &PipelineId, committed: &ManifestRef, _keep: usize) -> Result<()> {
        self.manifests.lock().retain(|key, _| *key == committed.key);
        Ok(())
    }
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn put(
        &self,
        _pipeline: &PipelineId,
        incarnation: Incarnation,
        task: TaskId,
        step: &str,
        snapshot: Bytes,
    ) -> Result<StateRef> {
        self.answer()?;
        let mut state = self.state.lock();
        let key = format!("state/{incarnation}/{task}/{step}/{}", state.len());
        let bytes = snapshot.len() as u64;
        state.insert(key.clone(), snapshot);
        Ok(StateRef { key, sha256: String::new(), bytes })
    }

    async fn get(&self, reference: &StateRef) -> Result<Bytes> {
        let found = self.state.lock().get(&reference.key).cloned();
        found.ok_or_else(|| Error::new(Kind::Corrupt, "state-gone", "there is no such state"))
    }
}
