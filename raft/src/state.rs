//! The state machine: `apply` is a pure function of the state and a command.
//!
//! Rules kept here: epochs strictly grow and are never reused; the chain of parents is unbroken; only the current
//! incarnation commits; the watermark never goes back; assignments change only together with the incarnation. A
//! command that is repeated after its answer was lost gets the same answer and changes nothing.

use std::collections::BTreeMap;

use conveyor_model::epoch::DEGRADED_AFTER;
use conveyor_model::log::{Command, Committed, Outcome, Phase, PipelineState, Refusal, What};
use conveyor_model::manifest::ManifestRef;
use conveyor_model::{Epoch, Incarnation, PipelineId, Watermark, planted};

use crate::{history, restore};

/// What the log knows: the state of every pipeline that ever was, in order.
///
/// A deleted pipeline keeps an entry without a plan, so that none of its numbers is ever given again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterState {
    pipelines: BTreeMap<PipelineId, PipelineState>,
}

type Answer = Result<Outcome, Refusal>;

impl ClusterState {
    /// A state with these pipelines, as a snapshot holds them.
    pub fn new(pipelines: BTreeMap<PipelineId, PipelineState>) -> Self {
        Self { pipelines }
    }

    /// All pipelines, deleted ones too (their `plan` is `None`).
    pub fn pipelines(&self) -> &BTreeMap<PipelineId, PipelineState> {
        &self.pipelines
    }

    /// Applies a command. A refusal changes nothing.
    pub fn apply(&mut self, command: &Command) -> Outcome {
        let answer = match command {
            Command::PutPlan { pipeline, plan, expect_version, reset, at_us } => {
                self.put_plan(pipeline, plan, *expect_version, *reset, *at_us)
            }
            Command::NewIncarnation { pipeline, expect, assignment, at_us } => {
                self.new_incarnation(pipeline, *expect, assignment, *at_us)
            }
            Command::BeginEpoch { pipeline, incarnation } => self.begin(pipeline, *incarnation),
            Command::CommitEpoch { .. } => self.commit(command),
            Command::AbortEpoch { pipeline, incarnation, epoch, at_us } => {
                self.abort(pipeline, *incarnation, *epoch, *at_us)
            }
            Command::SetPhase { pipeline, incarnation, phase, reason, expect_version, at_us } => {
                self.set_phase((pipeline, *incarnation, *expect_version), *phase, reason, *at_us)
            }
            Command::Reset { pipeline, expect, at_us } => self.reset(pipeline, *expect, *at_us),
            Command::DeletePipeline { pipeline, expect_version } => self.delete(pipeline, *expect_version),
            Command::RestorePipeline { pipeline, state, backup, at_us } => {
                restore::restore(&mut self.pipelines, pipeline, state, backup, *at_us)
            }
        };
        answer.unwrap_or_else(Outcome::Refused)
    }

    /// The pipeline's state if it has a plan.
    fn planned(&mut self, pipeline: &PipelineId) -> Result<&mut PipelineState, Refusal> {
        self.pipelines.get_mut(pipeline).filter(|p| p.plan.is_some()).ok_or(Refusal::UnknownPipeline)
    }

    /// The same if `incarnation` is the current one.
    fn current(
        &mut self,
        pipeline: &PipelineId,
        incarnation: Incarnation,
    ) -> Result<&mut PipelineState, Refusal> {
        let state = self.planned(pipeline)?;
        if state.incarnation != incarnation {
            return Err(Refusal::Fenced { got: incarnation, current: state.incarnation });
        }
        Ok(state)
    }

    fn put_plan(
        &mut self,
        pipeline: &PipelineId,
        plan: &ManifestRef,
        expect: u64,
        reset: bool,
        at_us: i64,
    ) -> Answer {
        let known = self.pipelines.get(pipeline);
        let current = known.map_or(0, |p| p.version);
        if known.and_then(|p| p.plan.as_ref()).is_some_and(|p| p.sha256 == plan.sha256) {
            return Ok(Outcome::PlanVersion(current));
        }
        // Who saw no plan may say 0 also where a deleted pipeline left its counters.
        let saw_none = expect == 0 && known.is_none_or(|p| p.plan.is_none());
        if expect != current && !saw_none {
            return Err(Refusal::StalePlan { got: expect, current });
        }
        let state = self
            .pipelines
            .entry(pipeline.clone())
            .or_insert_with(|| PipelineState { next_epoch: 1, ..PipelineState::default() });
        state.version += 1;
        state.plan = Some(plan.clone());
        if reset {
            forget_progress(state);
            history::note(state, at_us, What::Reset, "");
        }
        history::planned(state, at_us, plan);
        Ok(Outcome::PlanVersion(state.version))
    }

    fn new_incarnation(
        &mut self,
        pipeline: &PipelineId,
        expect: Incarnation,
        assignment: &str,
        at_us: i64,
    ) -> Answer {
        let state = self.current(pipeline, expect)?;
        state.incarnation.0 += 1;
        assignment.clone_into(&mut state.assignment);
        state.pending = None;
        state.fail_streak = 0;
        // What a person has asked for, and what only a commit makes good, outlasts a new start: also one that a leader that is
        // none any more has asked for before the pause, and that comes after it.
        if !matches!(state.phase, Phase::Draining | Phase::Paused | Phase::Degraded) {
            state.phase = Phase::Running;
            state.reason.clear();
        }
        history::note(state, at_us, What::Start, "");
        Ok(Outcome::Incarnation(state.incarnation))
    }

    fn begin(&mut self, pipeline: &PipelineId, incarnation: Incarnation) -> Answer {
        let state = self.current(pipeline, incarnation)?;
        if incarnation == Incarnation(0) {
            // Nobody has started it: 0 is no token that tasks can hold.
            return Err(Refusal::Fenced { got: incarnation, current: incarnation });
        }
        if let Some(pending) = state.pending {
            return Err(Refusal::EpochPending(pending));
        }
        let epoch = Epoch(state.next_epoch);
        state.next_epoch += 1;
        state.pending = Some(epoch);
        Ok(Outcome::Begun(epoch))
    }

    fn commit(&mut self, command: &Command) -> Answer {
        let Command::CommitEpoch {
            pipeline,
            version,
            incarnation,
            epoch,
            parent,
            manifest,
            watermark,
            last,
            at_us,
        } = command
        else {
            unreachable!("only called with a commit");
        };
        let done = Committed { epoch: *epoch, incarnation: *incarnation, manifest: manifest.clone() };
        if self.planned(pipeline)?.committed.as_ref() == Some(&done) {
            return Ok(Outcome::Done);
        }
        let state = self.current(pipeline, *incarnation)?;
        if *version > state.version {
            return Err(Refusal::StalePlan { got: *version, current: state.version });
        }
        if state.pending != Some(*epoch) {
            return Err(Refusal::NotPending { got: *epoch, pending: state.pending });
        }
        let committed = state.committed.as_ref().map(|c| c.epoch);
        if committed != *parent {
            return Err(Refusal::WrongParent { got: *parent, committed });
        }
        if let (Some(got), Some(committed)) = (*watermark, state.watermark)
            && got < committed
        {
            return Err(Refusal::WatermarkBack { got, committed });
        }
        state.committed = Some(done);
        state.pending = None;
        state.fail_streak = 0;
        state.watermark = watermark.or(state.watermark);
        if *last {
            history::set_phase(state, *at_us, Phase::Finished, "");
        } else if state.phase == Phase::Degraded {
            history::set_phase(state, *at_us, Phase::Running, "");
        }
        Ok(Outcome::Done)
    }

    fn abort(&mut self, pipeline: &PipelineId, incarnation: Incarnation, epoch: Epoch, at_us: i64) -> Answer {
        let state = self.current(pipeline, incarnation)?;
        if state.pending == Some(epoch) {
            state.pending = None;
            if planted("epoch-number-reused") {
                state.next_epoch = epoch.0;
            }
            state.fail_streak += 1;
            if state.fail_streak > DEGRADED_AFTER && state.phase == Phase::Running {
                let reason = format!("{} epochs in a row have failed", state.fail_streak);
                history::set_phase(state, at_us, Phase::Degraded, &reason);
            }
            return Ok(Outcome::Done);
        }
        // The answer to an earlier abort may have been lost: the epoch was given out, is over, and did not commit.
        let newest = state.committed.as_ref().map_or(Epoch(0), |c| c.epoch);
        if epoch > newest && epoch.0 < state.next_epoch {
            return Ok(Outcome::Done);
        }
        Err(Refusal::NotPending { got: epoch, pending: state.pending })
    }

    fn set_phase(
        &mut self,
        (pipeline, incarnation, expect): (&PipelineId, Incarnation, Option<u64>),
        phase: Phase,
        reason: &str,
        at_us: i64,
    ) -> Answer {
        let state = self.current(pipeline, incarnation)?;
        if let Some(got) = expect.filter(|got| *got != state.version) {
            return Err(Refusal::StalePlan { got, current: state.version });
        }
        if phase == Phase::Finished {
            state.settled = state.committed.as_ref().map(|c| c.epoch);
        }
        history::set_phase(state, at_us, phase, reason);
        Ok(Outcome::Done)
    }

    fn reset(&mut self, pipeline: &PipelineId, expect: Incarnation, at_us: i64) -> Answer {
        let state = self.current(pipeline, expect)?;
        // A reset of what has no progress is one that is repeated.
        let anew = state.committed.is_some() || state.pending.is_some() || state.phase != Phase::Pending;
        forget_progress(state);
        if anew {
            history::note(state, at_us, What::Reset, "");
        }
        Ok(Outcome::Done)
    }

    fn delete(&mut self, pipeline: &PipelineId, expect: u64) -> Answer {
        let state = self.pipelines.get_mut(pipeline).ok_or(Refusal::UnknownPipeline)?;
        if state.plan.is_none() {
            // Deleting counts as a version, so a repeated delete is told from one by a caller that saw another plan.
            let repeated = expect.checked_add(1) == Some(state.version);
            return if repeated { Ok(Outcome::Done) } else { Err(Refusal::UnknownPipeline) };
        }
        if state.version != expect {
            return Err(Refusal::StalePlan { got: expect, current: state.version });
        }
        state.version += 1;
        state.plan = None;
        state.incarnation.0 += 1;
        state.assignment.clear();
        state.history.clear();
        state.plans.clear();
        forget_progress(state);
        Ok(Outcome::Done)
    }
}

/// Back to before the first epoch; the counters stay.
fn forget_progress(state: &mut PipelineState) {
    state.forgotten = state.newest_published();
    state.committed = None;
    state.pending = None;
    state.watermark = None::<Watermark>;
    state.settled = None;
    state.fail_streak = 0;
    state.phase = Phase::Pending;
    state.reason.clear();
}
