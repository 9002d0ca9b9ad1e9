//! Log, manifests, state and dead letters in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use conveyor_model::dead_letter::{DeadLetterContext, DeadLetterQueue, DeadLetters, DeadRows};
use conveyor_model::log::{Command, Committed, Log, Outcome, Phase, PipelineState, Refusal};
use conveyor_model::manifest::{Manifest, ManifestRef, Manifests, StagedRef};
use conveyor_model::secret::{SecretRef, Secrets};
use conveyor_model::state::{StateRef, StateStore};
use conveyor_model::{Epoch, Error, Incarnation, Kind, PipelineId, Result, TaskId};
use parking_lot::Mutex;

/// One pipeline's log, as strict as the real one where the engine can tell.
#[derive(Default)]
pub(crate) struct MemoryLog(pub(crate) Mutex<PipelineState>);

impl MemoryLog {
    pub(crate) fn new() -> Self {
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
#[derive(Default)]
pub(crate) struct MemoryStore {
    pub(crate) manifests: Mutex<BTreeMap<String, Manifest>>,
    pub(crate) state: Mutex<BTreeMap<String, Bytes>>,
    /// Writes that are still to fail as if the store were down.
    pub(crate) down: Mutex<u32>,
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

/// A dead letter as tests look at it: split, position, code.
pub(crate) type Letter = (String, u64, String);

/// Dead letters: staged by name, then published.
#[derive(Default)]
pub(crate) struct MemoryDlq {
    staged: Arc<Mutex<BTreeMap<String, Vec<Letter>>>>,
    pub(crate) published: Mutex<BTreeMap<String, Vec<Letter>>>,
}

impl MemoryDlq {
    /// All published letters, sorted.
    pub(crate) fn letters(&self) -> Vec<Letter> {
        let mut all: Vec<_> = self.published.lock().values().flatten().cloned().collect();
        all.sort();
        all
    }
}

struct Writer {
    name: String,
    files: u64,
    open: Vec<Letter>,
    staged: Arc<Mutex<BTreeMap<String, Vec<Letter>>>>,
}

#[async_trait]
impl DeadLetters for Writer {
    async fn write(
        &mut self,
        _operator: &str,
        _name: &str,
        rows: DeadRows,
        _event_time_us: Option<Vec<Option<i64>>>,
    ) -> Result<()> {
        match rows {
            DeadRows::Raw(rows) => {
                let letter = |r: conveyor_model::dead_letter::Rejected| {
                    (r.row.split.to_string(), r.row.position, r.error.code.to_string())
                };
                self.open.extend(rows.into_iter().map(letter));
            }
            DeadRows::Typed { rows, errors } => {
                for (i, error) in errors.iter().enumerate() {
                    let row = rows.origin().get(i);
                    self.open.push((row.split.to_string(), row.position, error.code.to_string()));
                }
            }
        }
        Ok(())
    }

    async fn stage(&mut self, epoch: Epoch) -> Result<Vec<StagedRef>> {
        if self.open.is_empty() {
            return Ok(Vec::new());
        }
        self.files += 1;
        let staged = format!("{}-{epoch}-{}", self.name, self.files);
        let rows = self.open.len() as u64;
        self.staged.lock().insert(staged.clone(), std::mem::take(&mut self.open));
        Ok(vec![StagedRef { publish: staged.clone(), staged, rows, bytes: rows }])
    }
}

#[async_trait]
impl DeadLetterQueue for MemoryDlq {
    fn writer(&self, context: DeadLetterContext) -> Box<dyn DeadLetters> {
        let name = format!("{}-{}", context.incarnation, context.task);
        Box::new(Writer { name, files: 0, open: Vec::new(), staged: self.staged.clone() })
    }

    async fn publish(&self, _epoch: Epoch, staged: &[StagedRef]) -> Result<()> {
        for file in staged {
            if self.published.lock().contains_key(&file.publish) {
                continue;
            }
            let letters = self.staged.lock().get(&file.staged).cloned().expect("published files were staged");
            self.published.lock().insert(file.publish.clone(), letters);
        }
        Ok(())
    }

    async fn sweep(&self, _pipeline: &PipelineId, current: Incarnation) -> Result<()> {
        let before = |name: &str| {
            name.split('-').next().and_then(|i| i.parse().ok()).is_some_and(|i: u64| i < current.0)
        };
        self.staged.lock().retain(|name, _| !before(name));
        Ok(())
    }
}

/// Knows no secret.
pub(crate) struct NoSecrets;

impl Secrets for NoSecrets {
    fn resolve(&self, _reference: &SecretRef) -> Result<Vec<u8>> {
        Err(Error::bad_input("no-secrets", "tests have no secrets"))
    }
}
