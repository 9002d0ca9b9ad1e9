//! Conversions between `model` and the generated messages.

use conveyor_model::log::{Command, Committed, Outcome, Phase, PipelineState, Refusal};
use conveyor_model::manifest::ManifestRef;
use conveyor_model::{Epoch, Error, Incarnation, PipelineId, Result, Watermark};

use crate::v1::{self, command::Command as C, outcome::Outcome as O, refusal::Refusal as R};
use crate::wire::{Snapshot, malformed, unknown};

impl From<&PipelineId> for v1::PipelineId {
    fn from(id: &PipelineId) -> Self {
        Self { namespace: id.namespace.clone(), name: id.name.clone() }
    }
}

fn pipeline(what: &str, id: Option<v1::PipelineId>) -> Result<PipelineId> {
    let id = id.ok_or_else(|| malformed(what, "names no pipeline"))?;
    Ok(PipelineId { namespace: id.namespace, name: id.name })
}

impl From<&ManifestRef> for v1::ObjectRef {
    fn from(r: &ManifestRef) -> Self {
        Self { key: r.key.clone(), sha256: r.sha256.clone() }
    }
}

pub(crate) fn object(what: &str, r: Option<v1::ObjectRef>) -> Result<ManifestRef> {
    let r = r.ok_or_else(|| malformed(what, "names no object"))?;
    Ok(ManifestRef { key: r.key, sha256: r.sha256 })
}

impl From<Phase> for v1::Phase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Pending => Self::Pending,
            Phase::Running => Self::Running,
            Phase::Paused => Self::Paused,
            Phase::Draining => Self::Draining,
            Phase::Degraded => Self::Degraded,
            Phase::Failed => Self::Failed,
            Phase::Finished => Self::Finished,
        }
    }
}

pub(crate) fn phase(what: &str, value: i32) -> Result<Phase> {
    match v1::Phase::try_from(value) {
        Ok(v1::Phase::Pending) => Ok(Phase::Pending),
        Ok(v1::Phase::Running) => Ok(Phase::Running),
        Ok(v1::Phase::Paused) => Ok(Phase::Paused),
        Ok(v1::Phase::Draining) => Ok(Phase::Draining),
        Ok(v1::Phase::Degraded) => Ok(Phase::Degraded),
        Ok(v1::Phase::Failed) => Ok(Phase::Failed),
        Ok(v1::Phase::Finished) => Ok(Phase::Finished),
        Ok(v1::Phase::Unspecified) => Err(malformed(what, "has no phase")),
        Err(_) => Err(unknown(what, &format!("has the unknown phase {value}"))),
    }
}

impl From<&Command> for v1::Command {
    fn from(command: &Command) -> Self {
        let command = match command {
            Command::PutPlan { pipeline, plan, expect_version, reset, at_us } => C::PutPlan(v1::PutPlan {
                pipeline: Some(pipeline.into()),
                plan: Some(plan.into()),
                expect_version: *expect_version,
                reset: *reset,
                at_us: *at_us,
            }),
            Command::NewIncarnation { pipeline, expect, assignment, at_us } => {
                C::NewIncarnation(v1::NewIncarnation {
                    pipeline: Some(pipeline.into()),
                    expect: expect.0,
                    assignment: assignment.clone(),
                    at_us: *at_us,
                })
            }
            Command::BeginEpoch { pipeline, incarnation } => {
                C::BeginEpoch(v1::BeginEpoch { pipeline: Some(pipeline.into()), incarnation: incarnation.0 })
            }
            Command::CommitEpoch {
                pipeline,
                version,
                incarnation,
                epoch,
                parent,
                manifest,
                watermark,
                last,
                at_us,
            } => C::CommitEpoch(v1::CommitEpoch {
                pipeline: Some(pipeline.into()),
                version: *version,
                incarnation: incarnation.0,
                epoch: epoch.0,
                parent: parent.map(|e| e.0),
                manifest: Some(manifest.into()),
                watermark: watermark.map(|w| w.0),
                last: *last,
                at_us: *at_us,
            }),
            Command::AbortEpoch { pipeline, incarnation, epoch, at_us } => C::AbortEpoch(v1::AbortEpoch {
                pipeline: Some(pipeline.into()),
                incarnation: incarnation.0,
                epoch: epoch.0,
                at_us: *at_us,
            }),
            Command::SetPhase { pipeline, incarnation, phase, reason, expect_version, at_us } => {
                C::SetPhase(v1::SetPhase {
                    pipeline: Some(pipeline.into()),
                    incarnation: incarnation.0,
                    phase: v1::Phase::from(*phase).into(),
                    reason: reason.clone(),
                    at_us: *at_us,
                    expect_version: *expect_version,
                })
            }
            Command::Reset { pipeline, expect, at_us } => {
                C::Reset(v1::Reset { pipeline: Some(pipeline.into()), expect: expect.0, at_us: *at_us })
            }
            Command::DeletePipeline { pipeline, expect_version } => C::DeletePipeline(v1::DeletePipeline {
                pipeline: Some(pipeline.into()),
                expect_version: *expect_version,
            }),
            Command::RestorePipeline { pipeline, state, backup, at_us } => {
                restore(pipeline, state, backup, *at_us)
            }
        };
        Self { command: Some(command) }
    }
}

fn restore(pipeline: &PipelineId, state: &PipelineState, backup: &str, at_us: i64) -> C {
    let (state, backup) = (Some((pipeline, state).into()), backup.to_owned());
    C::RestorePipeline(v1::RestorePipeline { state, backup, at_us })
}

impl TryFrom<v1::Command> for Command {
    type Error = Error;

    fn try_from(message: v1::Command) -> Result<Self> {
        let command = message.command.ok_or_else(|| unknown("command", "is of an unknown kind"))?;
        Ok(match command {
            C::PutPlan(c) => Command::PutPlan {
                pipeline: pipeline("PutPlan", c.pipeline)?,
                plan: object("PutPlan", c.plan)?,
                expect_version: c.expect_version,
                reset: c.reset,
                at_us: c.at_us,
            },
            C::NewIncarnation(c) => Command::NewIncarnation {
                pipeline: pipeline("NewIncarnation", c.pipeline)?,
                expect: Incarnation(c.expect),
                assignment: c.assignment,
                at_us: c.at_us,
            },
            C::BeginEpoch(c) => Command::BeginEpoch {
                pipeline: pipeline("BeginEpoch", c.pipeline)?,
                incarnation: Incarnation(c.incarnation),
            },
            C::CommitEpoch(c) => Command::CommitEpoch {
                pipeline: pipeline("CommitEpoch", c.pipeline)?,
                version: c.version,
                incarnation: Incarnation(c.incarnation),
                epoch: Epoch(c.epoch),
                parent: c.parent.map(Epoch),
                manifest: object("CommitEpoch", c.manifest)?,
                watermark: c.watermark.map(Watermark),
                last: c.last,
                at_us: c.at_us,
            },
            C::AbortEpoch(c) => Command::AbortEpoch {
                pipeline: pipeline("AbortEpoch", c.pipeline)?,
                incarnation: Incarnation(c.incarnation),
                epoch: Epoch(c.epoch),
                at_us: c.at_us,
            },
            C::SetPhase(c) => Command::SetPhase {
                pipeline: pipeline("SetPhase", c.pipeline)?,
                incarnation: Incarnation(c.incarnation),
                phase: phase("SetPhase", c.phase)?,
                reason: c.reason,
                expect_version: c.expect_version,
                at_us: c.at_us,
            },
            C::Reset(c) => Command::Reset {
                pipeline: pipeline("Reset", c.pipeline)?,
                expect: Incarnation(c.expect),
                at_us: c.at_us,
            },
            C::DeletePipeline(c) => Command::DeletePipeline {
                pipeline: pipeline("DeletePipeline", c.pipeline)?,
                expect_version: c.expect_version,
            },
            C::RestorePipeline(c) => {
                let state = c.state.ok_or_else(|| malformed("RestorePipeline", "has no state"))?;
                let (pipeline, state) = state.try_into()?;
                Command::RestorePipeline {
                    pipeline,
                    state: Box::new(state),
                    backup: c.backup,
                    at_us: c.at_us,
                }
            }
        })
    }
}

impl From<&Outcome> for v1::Outcome {
    fn from(outcome: &Outcome) -> Self {
        let outcome = match outcome {
            Outcome::PlanVersion(v) => O::PlanVersion(*v),
            Outcome::Incarnation(i) => O::Incarnation(i.0),
            Outcome::Begun(e) => O::Begun(e.0),
            Outcome::Done => O::Done(v1::Done {}),
            Outcome::Refused(refusal) => O::Refused(refusal.into()),
        };
        Self { outcome: Some(outcome) }
    }
}

impl TryFrom<v1::Outcome> for Outcome {
    type Error = Error;

    fn try_from(message: v1::Outcome) -> Result<Self> {
        Ok(match message.outcome.ok_or_else(|| unknown("outcome", "is of an unknown kind"))? {
            O::PlanVersion(v) => Outcome::PlanVersion(v),
            O::Incarnation(i) => Outcome::Incarnation(Incarnation(i)),
            O::Begun(e) => Outcome::Begun(Epoch(e)),
            O::Done(v1::Done {}) => Outcome::Done,
            O::Refused(refusal) => Outcome::Refused(refusal.try_into()?),
        })
    }
}

impl From<&Refusal> for v1::Refusal {
    fn from(refusal: &Refusal) -> Self {
        let refusal = match refusal {
            Refusal::UnknownPipeline => R::UnknownPipeline(v1::UnknownPipeline {}),
            Refusal::Fenced { got, current } => R::Fenced(v1::Fenced { got: got.0, current: current.0 }),
            Refusal::EpochPending(e) => R::EpochPending(e.0),
            Refusal::NotPending { got, pending } => {
                R::NotPending(v1::NotPending { got: got.0, pending: pending.map(|e| e.0) })
            }
            Refusal::WrongParent { got, committed } => {
                R::WrongParent(v1::WrongParent { got: got.map(|e| e.0), committed: committed.map(|e| e.0) })
            }
            Refusal::StalePlan { got, current } => {
                R::StalePlan(v1::StalePlan { got: *got, current: *current })
            }
            Refusal::WatermarkBack { got, committed } => {
                R::WatermarkBack(v1::WatermarkBack { got: got.0, committed: committed.0 })
            }
        };
        Self { refusal: Some(refusal) }
    }
}

impl TryFrom<v1::Refusal> for Refusal {
    type Error = Error;

    fn try_from(message: v1::Refusal) -> Result<Self> {
        Ok(match message.refusal.ok_or_else(|| unknown("refusal", "is of an unknown kind"))? {
            R::UnknownPipeline(v1::UnknownPipeline {}) => Refusal::UnknownPipeline,
            R::Fenced(r) => Refusal::Fenced { got: Incarnation(r.got), current: Incarnation(r.current) },
            R::EpochPending(e) => Refusal::EpochPending(Epoch(e)),
            R::NotPending(r) => Refusal::NotPending { got: Epoch(r.got), pending: r.pending.map(Epoch) },
            R::WrongParent(r) => {
                Refusal::WrongParent { got: r.got.map(Epoch), committed: r.committed.map(Epoch) }
            }
            R::StalePlan(r) => Refusal::StalePlan { got: r.got, current: r.current },
            R::WatermarkBack(r) => {
                Refusal::WatermarkBack { got: Watermark(r.got), committed: Watermark(r.committed) }
            }
        })
    }
}

impl From<(&PipelineId, &PipelineState)> for v1::PipelineState {
    fn from((id, s): (&PipelineId, &PipelineState)) -> Self {
        Self {
            pipeline: Some(id.into()),
            version: s.version,
            plan: s.plan.as_ref().map(Into::into),
            incarnation: s.incarnation.0,
            assignment: s.assignment.clone(),
            phase: v1::Phase::from(s.phase).into(),
            reason: s.reason.clone(),
            committed: s.committed.as_ref().map(|c| v1::Committed {
                epoch: c.epoch.0,
                incarnation: c.incarnation.0,
                manifest: Some((&c.manifest).into()),
            }),
            pending: s.pending.map(|e| e.0),
            next_epoch: s.next_epoch,
            fail_streak: s.fail_streak,
            watermark: s.watermark.map(|w| w.0),
            forgotten: s.forgotten.map(|e| e.0),
            settled: s.settled.map(|e| e.0),
            history: s.history.iter().map(Into::into).collect(),
            plans: s.plans.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::PipelineState> for (PipelineId, PipelineState) {
    type Error = Error;

    fn try_from(m: v1::PipelineState) -> Result<Self> {
        const WHAT: &str = "pipeline state";
        let committed = m.committed.map(|c| -> Result<Committed> {
            Ok(Committed {
                epoch: Epoch(c.epoch),
                incarnation: Incarnation(c.incarnation),
                manifest: object(WHAT, c.manifest)?,
            })
        });
        let state = PipelineState {
            version: m.version,
            plan: m.plan.map(|p| object(WHAT, Some(p))).transpose()?,
            incarnation: Incarnation(m.incarnation),
            assignment: m.assignment,
            phase: phase(WHAT, m.phase)?,
            reason: m.reason,
            committed: committed.transpose()?,
            pending: m.pending.map(Epoch),
            next_epoch: m.next_epoch,
            fail_streak: m.fail_streak,
            watermark: m.watermark.map(Watermark),
            forgotten: m.forgotten.map(Epoch),
            settled: m.settled.map(Epoch),
            history: m.history.into_iter().map(TryInto::try_into).collect::<Result<_>>()?,
            plans: m.plans.into_iter().map(TryInto::try_into).collect::<Result<_>>()?,
        };
        Ok((pipeline(WHAT, m.pipeline)?, state))
    }
}

impl TryFrom<v1::Snapshot> for Snapshot {
    type Error = Error;

    fn try_from(m: v1::Snapshot) -> Result<Self> {
        let mut snapshot =
            Snapshot { last_index: m.last_index, last_term: m.last_term, ..Snapshot::default() };
        for state in m.pipelines {
            let (id, state) = state.try_into()?;
            if snapshot.pipelines.last_key_value().is_some_and(|(last, _)| *last >= id) {
                return Err(malformed("snapshot", &format!("has pipeline {id} out of order")));
            }
            snapshot.pipelines.insert(id, state);
        }
        Ok(snapshot)
    }
}
