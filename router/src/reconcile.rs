//! What is to be done about a pipeline: a pure function of what is agreed, who is alive and what runs.

use conveyor_model::log::{Phase, PipelineState};
use conveyor_model::{Incarnation, PipelineId};

use crate::assignment::{Assignment, Crewman};
use crate::sidecars::Fleet;

/// What this leader runs of a pipeline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Runner<'a> {
    /// Plan version.
    pub(crate) version: u64,
    /// The incarnation, once the log has given it.
    pub(crate) incarnation: Option<Incarnation>,
    /// Who takes part.
    pub(crate) crew: &'a [Crewman],
    /// It was told to drain.
    pub(crate) draining: bool,
}

/// How a pipeline stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation<'a> {
    pub(crate) id: &'a PipelineId,
    pub(crate) state: &'a PipelineState,
    /// What the log says of who runs it.
    pub(crate) assignment: Option<&'a Assignment>,
    pub(crate) fleet: &'a Fleet,
    pub(crate) runner: Option<Runner<'a>>,
    /// This leader has not yet had a hand in the incarnation that the log names.
    pub(crate) inherited: bool,
    /// Not to be started before this time, after failures.
    pub(crate) not_before_us: u64,
    /// Until then, sidecars of the leader before may still be on their way to this one.
    pub(crate) grace_us: u64,
    /// Until then, a new leader waits for sidecars before it places anything.
    pub(crate) gather_us: u64,
    pub(crate) now_us: u64,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing.
    Rest,
    /// Nothing before this time.
    Wait(u64),
    /// Take over the incarnation that runs.
    Adopt,
    /// Place it and start a new incarnation.
    Start,
    /// Leave what runs, at once; the text says why.
    Stop(String),
    /// Tell what runs to drain.
    Drain,
    /// Nothing runs that could be drained: it is paused.
    Pause,
}

/// Whether anything has to run.
pub(crate) fn wants_run(state: &PipelineState) -> bool {
    let open = match state.phase {
        Phase::Pending | Phase::Running | Phase::Degraded | Phase::Draining => true,
        // Its last epoch is committed, but nobody has noted that all targets have it.
        Phase::Finished => !state.is_settled(),
        Phase::Paused | Phase::Failed => false,
    };
    open && state.plan.is_some()
}

/// Decides.
pub(crate) fn decide(s: &Situation<'_>) -> Decision {
    match &s.runner {
        Some(runner) => with_runner(s, runner),
        None => without_runner(s),
    }
}

fn with_runner(s: &Situation<'_>, runner: &Runner<'_>) -> Decision {
    if !wants_run(s.state) {
        return Decision::Stop("it is not to run".into());
    }
    if runner.version != s.state.version {
        return Decision::Stop(format!("plan version {} is current", s.state.version));
    }
    if runner.incarnation.is_some_and(|i| i < s.state.incarnation) {
        return Decision::Stop(format!("incarnation {} is current", s.state.incarnation));
    }
    // A start makes it running: pending again means that its progress was forgotten.
    if runner.incarnation == Some(s.state.incarnation) && s.state.phase == Phase::Pending {
        return Decision::Stop("it was reset".into());
    }
    for member in runner.crew {
        match s.fleet.get(&member.sidecar) {
            Some(alive) if alive.hello.boot != member.boot => {
                return Decision::Stop(format!("sidecar {} has started anew", member.sidecar));
            }
            Some(alive) if alive.draining => {
                return Decision::Stop(format!("sidecar {} is being drained", member.sidecar));
            }
            Some(_) => {}
            // It was alive when it was chosen; an adopted one had attached.
            None => return Decision::Stop(format!("sidecar {} is gone", member.sidecar)),
        }
    }
    if s.state.phase == Phase::Draining && !runner.draining {
        return Decision::Drain;
    }
    Decision::Rest
}

fn without_runner(s: &Situation<'_>) -> Decision {
    if !wants_run(s.state) {
        return Decision::Rest;
    }
    if s.state.phase == Phase::Draining && s.assignment.is_none() {
        return Decision::Pause;
    }
    if let Some(decision) = inherit(s) {
        return decision;
    }
    let earliest = s.not_before_us.max(s.gather_us);
    if s.now_us < earliest { Decision::Wait(earliest) } else { Decision::Start }
}

/// Whether the incarnation of an earlier leader still runs whole.
fn inherit(s: &Situation<'_>) -> Option<Decision> {
    let assignment = s.assignment.filter(|a| s.inherited && a.version == s.state.version)?;
    // The tasks of a job whose last epoch is committed have ended: only a new start publishes it for sure.
    if s.state.phase == Phase::Finished {
        return None;
    }
    let mut missing = false;
    for member in &assignment.members {
        match s.fleet.get(&member.sidecar) {
            None => missing = true,
            Some(alive) => {
                let runs = alive.running.contains(&(s.id.clone(), s.state.incarnation));
                if alive.hello.boot != member.boot || alive.draining || !runs {
                    return None;
                }
            }
        }
    }
    match missing {
        false => Some(Decision::Adopt),
        true if s.now_us < s.grace_us => Some(Decision::Wait(s.grace_us)),
        true => None,
    }
}

#[cfg(test)]
#[path = "reconcile/tests.rs"]
mod tests;
