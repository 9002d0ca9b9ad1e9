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
    /// `unknown-pipeline`; `not-running` if it has failed or finished; those of the log.
    pub async fn pause(&self, id: &PipelineId, by: &str) -> Result<()> {
        self.wind_down(id, &format!("paused by {by}")).await
    }

    /// The same, said of a pipeline that is to stop for a while, as before an upgrade.
    ///
    /// # Errors
    /// As [`Control::pause`].
    pub async fn drain(&self, id: &PipelineId, by: &str) -> Result<()> {
        self.wind_down(id, &format!("drained by {by}")).await
    }

    async fn wind_down(&self, id: &PipelineId, reason: &str) -> Result<()> {
        self.change_phase(id, |state| match state.phase {
            Phase::Pending | Phase::Running | Phase::Degraded => {
                Ok(Some((Phase::Draining, reason.to_owned())))
            }
            Phase::Draining | Phase::Paused => Ok(None),
            Phase::Failed | Phase::Finished => {
                let phase = if state.phase == Phase::Failed { "failed" } else { "finished" };
                Err(Error::bad_input("not-running", format!("the pipeline has {phase}: nothing runs"))
                    .in_pipeline(id))
            }
        })
        .await
    }

    /// Lets a pipeline run again that was paused, has failed or has finished.
    ///
    /// # Errors
    /// `unknown-pipeline`; `still-draining` if it is about to pause; those of the log.
    pub async fn resume(&self, id: &PipelineId, by: &str) -> Result<()> {
        self.change_phase(id, |state| match state.phase {
            Phase::Paused | Phase::Failed | Phase::Finished => {
                Ok(Some((Phase::Pending, format!("resumed by {by}"))))
            }
            Phase::Pending | Phase::Running | Phase::Degraded => Ok(None),
            Phase::Draining => Err(Error::bad_input("still-draining", "the pipeline is still being drained")
                .in_pipeline(id)
                .help("wait until it is paused")),
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

    /// Changes the phase to what `decide` says of the state as it is, also when it changes in between.
    pub(super) async fn change_phase(
        &self,
        id: &PipelineId,
        decide: impl Fn(&PipelineState) -> Result<Option<(Phase, String)>> + Send,
    ) -> Result<()> {
        for _ in 0..TRIES {
            let state = self.state(id).await?;
            let Some((phase, reason)) = decide(&state)? else { return Ok(()) };
            let command = Command::SetPhase {
                pipeline: id.clone(),
                incarnation: state.incarnation,
                phase,
                reason,
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
