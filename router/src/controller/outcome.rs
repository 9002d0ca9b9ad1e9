//! What comes back from tasks: plans, begun and ended incarnations, noted phases.

use std::sync::Arc;

use conveyor_model::log::Phase;
use conveyor_model::manifest::ManifestRef;
use conveyor_model::plan::Plan;
use conveyor_model::{Error, PipelineId, Result};

use super::Controller;
use crate::crew::SharedCrew;
use crate::restarts::Verdict;
use crate::runner::{Ended, Event, RunId};

impl Controller {
    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::Loaded { pipeline, reference, plan } => self.on_loaded(&pipeline, reference, plan),
            Event::Began { pipeline, run, crew } => self.on_began(&pipeline, run, crew),
            Event::Ended { pipeline, run, end } => self.on_ended(&pipeline, run, end),
            Event::Noted { pipeline } => {
                if let Some(entry) = self.entries.get_mut(&pipeline) {
                    entry.noting = false;
                    // The answer may be here before the news of the change is.
                    if let Some(state) = self.world.log.applied(&pipeline) {
                        entry.update(state);
                    }
                }
                self.dirty.insert(pipeline);
            }
        }
    }

    fn on_loaded(&mut self, id: &PipelineId, reference: ManifestRef, plan: Result<Arc<Plan>>) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.loading = false;
        self.dirty.insert(id.clone());
        match plan {
            Ok(plan) => entry.plan = Some((reference, plan)),
            Err(error) => self.failed(id, false, &error),
        }
    }

    fn on_began(&mut self, id: &PipelineId, run: RunId, crew: SharedCrew) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let Some(current) = entry.run.as_mut().filter(|r| r.id == run) else { return };
        entry.inherited = None;
        entry.metrics.clear();
        for report in entry.early.take(crew.incarnation) {
            crew.handle.reports.send(report).ok();
        }
        for member in &crew.assignment.members {
            self.fleet.deployed(&member.sidecar, (id.clone(), crew.incarnation));
        }
        crew.deploy_to_all(&self.boxes);
        current.crew = Some(crew);
        self.dirty.insert(id.clone());
    }

    fn on_ended(&mut self, id: &PipelineId, run: RunId, end: Ended) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let Some(over) = entry.run.take_if(|r| r.id == run) else { return };
        entry.inherited = None;
        for (name, load) in &over.load {
            if let Some(all) = self.loads.get_mut(name) {
                all.tasks = all.tasks.saturating_sub(load.tasks);
                all.bytes = all.bytes.saturating_sub(load.bytes);
            }
        }
        self.loads.retain(|_, load| load.tasks > 0);
        if let Some(crew) = &over.crew {
            crew.stop_all(&self.boxes);
        }
        if let Some(state) = self.world.log.applied(id) {
            entry.update(state);
        }
        self.dirty.insert(id.clone());
        match end.result {
            Some(Ok(())) => self.well(id),
            Some(Err(error)) => self.failed(id, end.progressed, &error),
            None => self.left(id, end.progressed, over.stopped.unwrap_or_default()),
        }
    }

    fn well(&mut self, id: &PipelineId) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.restarts.well();
        }
    }

    /// It was left on purpose. What has to run all the same begins anew.
    fn left(&mut self, id: &PipelineId, progressed: bool, why: String) {
        let (now_us, pauses) = (self.now_us(), self.pauses());
        let wanted = self.wanted(id);
        if let Some(entry) = self.entries.get_mut(id).filter(|_| wanted) {
            entry.restarts.lost(now_us, progressed, why, pauses);
        }
    }

    fn failed(&mut self, id: &PipelineId, progressed: bool, error: &Error) {
        let (now_us, pauses) = (self.now_us(), self.pauses());
        let Some(entry) = self.entries.get_mut(id) else { return };
        tracing::error!(pipeline = %id, %error, "the pipeline's incarnation has failed");
        match entry.restarts.failed(now_us, progressed, error, pauses) {
            Verdict::Failed => self.note(id, Phase::Failed, &error.to_string()),
            Verdict::Degraded if entry.state.phase == Phase::Running => {
                let failures = entry.restarts.failures;
                let why = format!("it has failed {failures} times in a row, the last time with: {error}");
                self.note(id, Phase::Degraded, &why);
            }
            Verdict::Degraded | Verdict::Again | Verdict::Look => {}
        }
    }
}
