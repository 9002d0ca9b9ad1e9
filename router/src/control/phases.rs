//! Pause, resume, drain, delete.

use conveyor_model::log::{Command, Outcome, Phase, PipelineState, Refusal};
use conveyor_model::{Error, PipelineId, Result};

use super::{Control, refused, stale};

/// Tries of a change of the phase while the pipeline is being started anew under it.
const TRIES: usize = 8;

impl Control {
    /// Pauses a pipeline: its sources stop, what they have read is committed and published, then nothing runs.
    ///
    /// # Errors
    /// `unknown-pipeline`; `stale-plan` if another version than `expect` is current then; `not-running` if it has failed or
    /// finished; those of the log.
    pub async fn pause(&self, id: &PipelineId, by: &str, expect: Option<u64>) -> Result<()> {
        self.wind_down(id, &format!("paused by {by}"), expect).await
    }

    /// The same, said of a pipeline that is to stop for a while, as before an upgrade.
    ///
    /// # Errors
    /// As [`Control::pause`].
    pub async fn drain(&self, id: &PipelineId, by: &str, expect: Option<u64>) -> Result<()> {
        self.wind_down(id, &format!("drained by {by}"), expect).await
    }

    async fn wind_down(&self, id: &PipelineId, reason: &str, expect: Option<u64>) -> Result<()> {
        self.change_phase(id, expect, |state| {
            Ok(winds_down(id, state.phase)?.then(|| (Phase::Draining, reason.to_owned())))
        })
        .await
    }

    /// Whether [`Control::pause`] and [`Control::drain`] would be refused now.
    ///
    /// # Errors
    /// As theirs.
    pub async fn check_pause(&self, id: &PipelineId) -> Result<()> {
        winds_down(id, self.state(id).await?.phase).map(drop)
    }

    /// Whether [`Control::resume`] would be refused now.
    ///
    /// # Errors
    /// As its own.
    pub async fn check_resume(&self, id: &PipelineId) -> Result<()> {
        resumes(id, self.state(id).await?.phase).map(drop)
    }

    /// Lets a pipeline run again that was paused, has failed or has finished.
    ///
    /// # Errors
    /// `unknown-pipeline`; `stale-plan` if another version than `expect` is current then; `still-draining` if it is about to
    /// pause; those of the log.
    pub async fn resume(&self, id: &PipelineId, by: &str, expect: Option<u64>) -> Result<()> {
        self.change_phase(id, expect, |state| {
            Ok(resumes(id, state.phase)?.then(|| (Phase::Pending, format!("resumed by {by}"))))
        })
        .await
    }

    /// Forgets a pipeline. What it has published stays; its numbers are never given again.
    ///
    /// # Errors
    /// `unknown-pipeline`; `stale-plan` if another version than `expect` is current; those of the log.
    pub async fn delete(&self, id: &PipelineId, expect: Option<u64>) -> Result<()> {
        let state = self.state(id).await?;
        let expect_version = expect.unwrap_or(state.version);
        let command = Command::DeletePipeline { pipeline: id.clone(), expect_version };
        match self.propose(command).await? {
            Outcome::Done => Ok(()),
            other => Err(refused(id, "the deletion", &other)),
        }
    }

    /// Checks what a caller has seen against what is current.
    ///
    /// # Errors
    /// `unknown-pipeline`, `stale-plan`.
    pub async fn check_version(&self, id: &PipelineId, expect: u64) -> Result<()> {
        let current = self.state(id).await?.version;
        if current == expect { Ok(()) } else { Err(stale(expect, current).in_pipeline(id)) }
    }

    /// Changes the phase to what `decide` says of the state as it is, also when it changes in between. Whether the plan's version
    /// is the one that the caller `expect`s is decided by the log together with the change.
    pub(super) async fn change_phase(
        &self,
        id: &PipelineId,
        expect: Option<u64>,
        decide: impl Fn(&PipelineState) -> Result<Option<(Phase, String)>> + Send,
    ) -> Result<()> {
        for _ in 0..TRIES {
            let state = self.state(id).await?;
            if let Some(expect) = expect.filter(|expect| *expect != state.version) {
                return Err(stale(expect, state.version).in_pipeline(id));
            }
            let Some((phase, reason)) = decide(&state)? else { return Ok(()) };
            let command = Command::SetPhase {
                pipeline: id.clone(),
                incarnation: state.incarnation,
                phase,
                reason,
                expect_version: expect,
                at_us: self.0.clock.wall_us(),
            };
            match self.propose(command).await? {
                Outcome::Done => return Ok(()),
                // It was started anew meanwhile: look again.
                Outcome::Refused(Refusal::Fenced { .. }) => {}
                other => return Err(refused(id, "the phase", &other)),
            }
        }
        Err(Error::runtime("busy-pipeline", "the pipeline is started again and again").in_pipeline(id))
    }
}

/// Whether there is something to stop in this phase.
fn winds_down(id: &PipelineId, phase: Phase) -> Result<bool> {
    match phase {
        Phase::Pending | Phase::Running | Phase::Degraded => Ok(true),
        Phase::Draining | Phase::Paused => Ok(false),
        Phase::Failed | Phase::Finished => {
            let phase = if phase == Phase::Failed { "failed" } else { "finished" };
            let why = format!("the pipeline has {phase}: nothing runs");
            Err(Error::bad_input("not-running", why).in_pipeline(id))
        }
    }
}

/// Whether there is something to start in this phase.
fn resumes(id: &PipelineId, phase: Phase) -> Result<bool> {
    match phase {
        Phase::Paused | Phase::Failed | Phase::Finished => Ok(true),
        Phase::Pending | Phase::Running | Phase::Degraded => Ok(false),
        Phase::Draining => Err(Error::bad_input("still-draining", "the pipeline is still being drained")
            .in_pipeline(id)
            .help("wait until it is paused")),
    }
}
