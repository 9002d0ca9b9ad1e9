//! What the log remembers of a pipeline: a bounded number of changes and plan versions. Pure, as the state machine is.

use conveyor_model::log::{Change, HISTORY, PLANS, Phase, PipelineState, PlanVersion, REASON, What};
use conveyor_model::manifest::ManifestRef;

/// Notes a change that has been made.
pub(crate) fn note(state: &mut PipelineState, at_us: i64, what: What, reason: &str) {
    let change = Change {
        at_us,
        what,
        version: state.version,
        incarnation: state.incarnation,
        phase: state.phase,
        reason: shortened(reason).to_owned(),
    };
    state.history.push(change);
    keep_last(&mut state.history, HISTORY);
}

/// Changes the phase and notes it, unless nothing changes.
pub(crate) fn set_phase(state: &mut PipelineState, at_us: i64, phase: Phase, reason: &str) {
    if (state.phase, state.reason.as_str()) == (phase, reason) {
        return;
    }
    state.phase = phase;
    reason.clone_into(&mut state.reason);
    note(state, at_us, What::Phase, reason);
}

/// Notes the newest plan version.
pub(crate) fn planned(state: &mut PipelineState, at_us: i64, plan: &ManifestRef) {
    state.plans.push(PlanVersion { version: state.version, plan: plan.clone(), at_us });
    keep_last(&mut state.plans, PLANS);
    note(state, at_us, What::Plan, "");
}

fn keep_last<T>(all: &mut Vec<T>, most: usize) {
    let over = all.len().saturating_sub(most);
    all.drain(..over);
}

/// As many whole characters as fit.
fn shortened(text: &str) -> &str {
    let end = (0..=text.len().min(REASON)).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_and_long_reasons_are_cut() {
        let mut state = PipelineState::default();
        for n in 0..HISTORY as i64 + 5 {
            set_phase(&mut state, n, Phase::Failed, &format!("{n} {}", "é".repeat(REASON)));
        }
        assert_eq!(state.history.len(), HISTORY);
        assert_eq!(state.history[0].at_us, 5);
        assert!(state.history.iter().all(|c| c.reason.len() <= REASON && c.reason.len() > REASON - 3));
        assert!(state.reason.len() > REASON, "the phase itself has the whole reason");
        let before = state.clone();
        let reason = state.reason.clone();
        set_phase(&mut state, 99, Phase::Failed, &reason);
        assert_eq!(state, before, "a repeated command changes nothing");
    }
}
