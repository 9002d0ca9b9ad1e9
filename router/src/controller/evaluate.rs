//! Looks at pipelines and does what [`reconcile`](crate::reconcile) decides.

use std::sync::Arc;
use std::time::Duration;

use conveyor_model::log::{Command, Log as _, Outcome, Phase};
use conveyor_model::plan::Plan;
use conveyor_model::{Incarnation, PipelineId};
use conveyor_planner::{Placement, Site};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::Controller;
use super::entry::{Load, Run};
use crate::assignment::{Assignment, Crewman};
use crate::reconcile::{Decision, Runner, Situation, decide, wants_run};
use crate::runner::{Event, How, Job};

/// Heartbeats for which a new leader waits before it places anything, so that the first sidecar does not get everything.
const GATHER_BEATS: u32 = 2;

impl Controller {
    pub(super) fn evaluate_dirty(&mut self) {
        for id in std::mem::take(&mut self.dirty) {
            self.evaluate(&id);
        }
    }

    fn evaluate(&mut self, id: &PipelineId) {
        match self.decision(id) {
            Decision::Rest => {}
            Decision::Wait(at_us) => self.wake_at(id, at_us),
            Decision::Start => self.start(id),
            Decision::Adopt => self.adopt(id),
            Decision::Stop(why) => self.stop(id, why),
            Decision::Drain => {
                if let Some(run) = self.entries.get(id).and_then(|e| e.run.as_ref()) {
                    run.drain.cancel();
                }
            }
            Decision::Pause => self.note(id, Phase::Paused, "paused before it had started"),
        }
    }

    fn decision(&self, id: &PipelineId) -> Decision {
        let Some(entry) = self.entries.get(id) else { return Decision::Rest };
        if entry.noting {
            return Decision::Rest;
        }
        let runner = entry.run.as_ref().map(|run| Runner {
            version: run.version,
            incarnation: run.crew.as_ref().map(|c| c.incarnation),
            crew: &run.members,
            draining: run.drain.is_cancelled(),
        });
        decide(&Situation {
            id,
            state: &entry.state,
            assignment: entry.assignment.as_ref(),
            fleet: &self.fleet,
            runner,
            inherited: entry.inherited == Some(entry.state.incarnation),
            not_before_us: entry.restarts.not_before_us,
            grace_us: self.began_us + self.us(self.world.settings.lease),
            gather_us: self.began_us + self.us(self.world.settings.heartbeat * GATHER_BEATS),
            now_us: self.now_us(),
        })
    }

    /// The current plan; if it is not here yet it is sent for, and the pipeline is looked at again when it comes.
    fn plan(&mut self, id: &PipelineId) -> Option<Arc<Plan>> {
        let entry = self.entries.get_mut(id)?;
        if let Some(plan) = entry.current_plan() {
            return Some(plan);
        }
        let reference = entry.state.plan.clone()?;
        if !std::mem::replace(&mut entry.loading, true) {
            let (id, store, tell) = (id.clone(), self.world.store.clone(), self.tell.clone());
            self.spawn(async move {
                let plan = store.get_plan(&reference).await.map(Arc::new);
                // Without a receiver the term is over.
                tell.send(Event::Loaded { pipeline: id, reference, plan }).await.ok();
            });
        }
        None
    }

    fn start(&mut self, id: &PipelineId) {
        let Some(plan) = self.plan(id) else { return };
        let sites: Vec<Site> = self
            .fleet
            .iter()
            .filter(|(_, s)| s.session.is_some() && !s.draining)
            .map(|(name, s)| {
                let load = self.loads.get(name).copied().unwrap_or_default();
                s.site(load.tasks, load.bytes)
            })
            .collect();
        let current = self.entries[id].assignment.as_ref().map(Assignment::placement);
        let placement = match conveyor_planner::place(&plan, &sites, current.as_ref()) {
            Ok(placement) => placement,
            Err(why) => return self.wait_for_sidecars(id, why.to_string()),
        };
        let assignment = self.assignment(self.entries[id].state.version, &placement);
        self.launch(id, plan, assignment, How::Start);
    }

    fn assignment(&self, version: u64, placement: &Placement) -> Assignment {
        Assignment::new(version, placement, |name| {
            let hello = self.fleet.get(name).map(|s| &s.hello);
            Crewman {
                sidecar: name.to_owned(),
                boot: hello.map(|h| h.boot.clone()).unwrap_or_default(),
                endpoint: hello.map(|h| h.endpoint.clone()).unwrap_or_default(),
            }
        })
    }

    fn wait_for_sidecars(&mut self, id: &PipelineId, why: String) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if entry.waiting.as_ref() != Some(&why) {
            tracing::warn!(pipeline = %id, why, "the pipeline cannot be placed");
        }
        entry.waiting = Some(why.clone());
        if entry.state.phase == Phase::Draining {
            let paused =
                format!("paused while it could not run ({why}); its next start publishes what is committed");
            return self.note(id, Phase::Paused, &paused);
        }
        if entry.state.phase != Phase::Pending || entry.state.reason != why {
            self.note(id, Phase::Pending, &why);
        }
    }

    fn adopt(&mut self, id: &PipelineId) {
        let Some(plan) = self.plan(id) else { return };
        let entry = &self.entries[id];
        let Some(assignment) = entry.assignment.clone() else { return };
        let running = entry.early.all_run(entry.state.incarnation, assignment.members.len());
        self.launch(id, plan, assignment, How::Adopt { running });
    }

    fn launch(&mut self, id: &PipelineId, plan: Arc<Plan>, assignment: Assignment, how: How) {
        let epoch = self.epoch_components();
        let load = Load::of(&plan, assignment.placement().into_iter());
        for (name, load) in &load {
            let all = self.loads.entry(name.clone()).or_default();
            all.tasks += load.tasks;
            all.bytes = all.bytes.saturating_add(load.bytes);
        }
        let Some(entry) = self.entries.get_mut(id) else { return };
        let Some(reference) = entry.state.plan.clone() else { return };
        let number = self.next_run;
        self.next_run += 1;
        let (drain, stop) = (CancellationToken::new(), self.end.child_token());
        if entry.state.phase == Phase::Draining {
            drain.cancel();
        }
        let adopts = matches!(how, How::Adopt { .. });
        tracing::info!(
            pipeline = %id,
            version = assignment.version,
            sidecars = assignment.members.len(),
            adopts,
            "the pipeline is started"
        );
        entry.waiting = None;
        entry.run = Some(Run {
            id: number,
            version: assignment.version,
            members: assignment.members.clone(),
            crew: None,
            drain: drain.clone(),
            stop: stop.clone(),
            stopped: None,
            heard: Default::default(),
            load,
        });
        let job = Job {
            run: number,
            how,
            plan,
            reference,
            assignment,
            components: epoch,
            settings: self.world.settings.epoch.clone(),
            metrics: entry.epochs.clone(),
            boxes: self.boxes.clone(),
            events: self.tell.clone(),
            drain,
            stop,
        };
        let span = tracing::error_span!("run", pipeline = %job.plan.pipeline);
        self.spawn(job.run().instrument(span));
    }

    fn stop(&mut self, id: &PipelineId, why: String) {
        let Some(run) = self.entries.get_mut(id).and_then(|e| e.run.as_mut()) else { return };
        if run.stopped.is_none() {
            tracing::info!(pipeline = %id, why, "the incarnation is left");
            run.stopped = Some(why);
            run.stop.cancel();
        }
    }

    /// Proposes a phase for the incarnation that is current; the pipeline rests until the log has answered.
    pub(super) fn note(&mut self, id: &PipelineId, phase: Phase, reason: &str) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.noting = true;
        // What this node has applied is at least as new as what the entry was made of.
        let incarnation = self.world.log.applied(id).map_or(Incarnation(0), |s| s.incarnation);
        let at_us = self.world.clock.wall_us();
        let reason = reason.to_owned();
        let command = Command::SetPhase {
            pipeline: id.clone(),
            incarnation,
            phase,
            reason,
            expect_version: None,
            at_us,
        };
        let (log, tell, id) = (self.world.log.clone(), self.tell.clone(), id.clone());
        let pause = self.world.settings.backoff;
        self.spawn(async move {
            match log.propose(command).await {
                Ok(Outcome::Done) => {}
                Ok(other) => tracing::debug!(pipeline = %id, ?phase, ?other, "the phase was not taken"),
                Err(error) => {
                    tracing::warn!(pipeline = %id, ?phase, %error, "the phase could not be noted");
                    tokio::time::sleep(pause.max(Duration::from_millis(10))).await;
                }
            }
            // Without a receiver the term is over.
            tell.send(Event::Noted { pipeline: id }).await.ok();
        });
    }

    /// Runs something of this term on a task of its own; it ends with the term.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let end = self.end.clone();
        self.tasks.spawn(async move {
            end.run_until_cancelled(work).await;
        });
    }

    /// Whether a pipeline is one that has to run.
    pub(super) fn wanted(&self, id: &PipelineId) -> bool {
        self.entries.get(id).is_some_and(|e| wants_run(&e.state))
    }
}
