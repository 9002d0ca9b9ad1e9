//! Takes a pipeline over from a backup. Pure, as the state machine is.
//!
//! The lost cluster may have gone on after the backup was taken: its tasks may still run, and have written staged objects and
//! ledgers. None of its numbers is to be given again, so counting goes on far above anything that it can have reached.

use std::collections::BTreeMap;

use conveyor_model::log::{Outcome, Phase, PipelineState, RESTORED_AHEAD, Refusal, What};
use conveyor_model::{Incarnation, PipelineId};

use crate::history;

/// Enters the pipeline, unless one of this name was ever known. `backup` names where it comes from: the same one again, after its
/// answer was lost, changes nothing.
pub(crate) fn restore(
    pipelines: &mut BTreeMap<PipelineId, PipelineState>,
    pipeline: &PipelineId,
    saved: &PipelineState,
    backup: &str,
    at_us: i64,
) -> Result<Outcome, Refusal> {
    if let Some(known) = pipelines.get(pipeline) {
        let repeated = known.history.iter().any(|c| c.what == What::Restore && c.reason == backup);
        let stale = Refusal::StalePlan { got: 0, current: known.version };
        return if repeated { Ok(Outcome::Done) } else { Err(stale) };
    }
    pipelines.insert(pipeline.clone(), restored(saved, backup, at_us));
    Ok(Outcome::Done)
}

fn restored(saved: &PipelineState, backup: &str, at_us: i64) -> PipelineState {
    let mut state = saved.clone();
    state.incarnation = Incarnation(state.incarnation.0.saturating_add(RESTORED_AHEAD));
    state.next_epoch = state.next_epoch.saturating_add(RESTORED_AHEAD);
    state.assignment.clear();
    state.pending = None;
    state.fail_streak = 0;
    state.phase = match state.phase {
        Phase::Pending | Phase::Running | Phase::Degraded => Phase::Pending,
        // What was to stop has stopped, whether all of it was committed or not.
        Phase::Draining | Phase::Paused => Phase::Paused,
        Phase::Failed => Phase::Failed,
        Phase::Finished => Phase::Finished,
    };
    if state.phase == Phase::Pending {
        state.reason.clear();
    }
    // A deleted pipeline is kept for its numbers alone.
    if state.plan.is_some() {
        history::note(&mut state, at_us, What::Restore, backup);
    }
    state
}
