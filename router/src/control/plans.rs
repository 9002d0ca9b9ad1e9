//! Plan, apply, rollback: from manifests to what runs, with what happens to state said before it happens.

use std::collections::BTreeMap;

use conveyor_model::log::{Command, Outcome, Phase, PipelineState};
use conveyor_model::manifest::Manifests as _;
use conveyor_model::plan::Plan;
use conveyor_model::{Error, PipelineId, Result};
use conveyor_planner::{Compiled, Diagnostic, Document, PlanDiff};

use super::{Control, refused, stale};
use crate::manifests::{self, Failure, Selection};

/// A plan beside the one that runs.
#[derive(Debug)]
pub struct Planned {
    /// What would run.
    pub plan: Plan,
    /// The version that it was compared with, 0 for none: `apply` takes it as what was seen.
    pub version: u64,
    /// What changes, and what becomes of state.
    pub diff: PlanDiff,
    /// The plan in words.
    pub explained: String,
    /// What is worth a look.
    pub warnings: Vec<Diagnostic>,
}

/// What a person has agreed to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accept {
    /// State that the changed plan cannot take up may be lost.
    pub state_loss: bool,
    /// Progress is forgotten; what sinks have published stays.
    pub reset: bool,
}

/// What is to be applied.
#[derive(Debug, Default)]
pub struct Apply {
    /// Manifests.
    pub documents: Vec<Document>,
    /// Which pipelines of them.
    pub selection: Selection,
    /// Everything is checked, nothing is changed.
    pub validate_only: bool,
    /// Versions that the caller has seen; pipelines that are not named here are taken as they are.
    pub expect: BTreeMap<PipelineId, u64>,
    /// What was agreed to.
    pub accept: Accept,
}

/// What came of one pipeline.
#[derive(Debug)]
pub struct Applied {
    /// The pipeline.
    pub pipeline: PipelineId,
    /// What was planned for it.
    pub planned: Planned,
    /// The version that is current now; the one before where nothing was changed.
    pub outcome: Result<u64>,
}

impl Control {
    /// Compiles manifests, and compares each pipeline with what runs. Changes nothing.
    ///
    /// # Errors
    /// All mistakes of the manifests at once, or those of the log and the store.
    pub async fn plan(&self, documents: &[Document], selection: &Selection) -> Result<Vec<Planned>, Failure> {
        let mut selection = selection.clone();
        if selection.parallelism == 0 {
            selection.parallelism = self.0.parallelism;
        }
        let loaded = manifests::compile(documents, &selection, &self.0.registry).await?;
        let mut all = Vec::new();
        for compiled in loaded.compiled {
            all.push(self.compare(compiled, &loaded.warnings).await?);
        }
        Ok(all)
    }

    async fn compare(&self, compiled: Compiled, warnings: &[Diagnostic]) -> Result<Planned> {
        let explained = conveyor_planner::explain(&compiled);
        let (state, old) = self.known(&compiled.plan.pipeline).await?;
        let diff = conveyor_planner::diff(old.as_ref(), &compiled.plan);
        let version = if old.is_some() { state.version } else { 0 };
        Ok(Planned { plan: compiled.plan, version, diff, explained, warnings: warnings.to_vec() })
    }

    /// Applies manifests: all are compiled and checked first, and then each pipeline is changed for itself.
    ///
    /// # Errors
    /// All mistakes of the manifests at once. What goes wrong with one pipeline stands in its own [`Applied`].
    pub async fn apply(&self, apply: Apply) -> Result<Vec<Applied>, Failure> {
        let planned = self.plan(&apply.documents, &apply.selection).await?;
        let mut all = Vec::new();
        for planned in planned {
            let id = planned.plan.pipeline.clone();
            let expect = apply.expect.get(&id).copied().unwrap_or(planned.version);
            let outcome = self.put(planned.plan.clone(), expect, apply.accept, apply.validate_only).await;
            all.push(Applied { pipeline: id, planned, outcome });
        }
        Ok(all)
    }

    /// Makes a plan the current one, as `apply` does and as a saved plan does. Returns the version that is current then.
    ///
    /// # Errors
    /// `stale-plan` if another version than `expect` is current, 0 for none; `state-would-be-lost` if that is not accepted.
    pub async fn put(&self, plan: Plan, expect: u64, accept: Accept, validate_only: bool) -> Result<u64> {
        let id = plan.pipeline.clone();
        let (state, old) = self.known(&id).await?;
        let current = if old.is_some() { state.version } else { 0 };
        if expect != current {
            return Err(stale(expect, current).in_pipeline(&id));
        }
        let plan = self.with_forgotten(plan, &state, old.as_ref(), accept).await?;
        if validate_only {
            return Ok(current);
        }
        let reference = self.0.store.put_plan(&plan).await?;
        let same = old.is_some() && state.plan.as_ref() == Some(&reference);
        if same && accept.reset {
            self.reset(&id, &state).await?;
        }
        let command = Command::PutPlan {
            pipeline: id.clone(),
            plan: reference,
            expect_version: if old.is_some() { expect } else { state.version },
            reset: accept.reset && !same,
            at_us: self.0.clock.wall_us(),
        };
        let version = match self.propose(command).await? {
            Outcome::PlanVersion(version) => version,
            other => return Err(refused(&id, "the plan", &other)),
        };
        if !same && matches!(state.phase, Phase::Failed | Phase::Finished) {
            // What has stopped by itself is tried with the new plan; what a person has paused stays so.
            self.change_phase(&id, None, |s| {
                let stopped = matches!(s.phase, Phase::Failed | Phase::Finished);
                Ok(stopped.then(|| (Phase::Pending, format!("version {version} was applied"))))
            })
            .await?;
        }
        Ok(version)
    }

    /// Goes back to the plan of an earlier version, as a new version. Returns that.
    ///
    /// # Errors
    /// `unknown-version` if it is not kept; else as [`Control::put`].
    pub async fn rollback(
        &self,
        id: &PipelineId,
        version: u64,
        expect: Option<u64>,
        accept: Accept,
        validate_only: bool,
    ) -> Result<u64> {
        let current = self.state(id).await?.version;
        let mut plan = self.plan_of(id, Some(version)).await?;
        // What it once gave up is found anew from what is committed now.
        plan.forget = Default::default();
        self.put(plan, expect.unwrap_or(current), accept, validate_only).await
    }

    /// The state of a pipeline, and its plan if it has one.
    async fn known(&self, id: &PipelineId) -> Result<(PipelineState, Option<Plan>)> {
        let state = conveyor_model::log::Log::read(self.log().as_ref(), id).await?.unwrap_or_default();
        let old = self.current_plan(&state).await?;
        Ok((state, old))
    }

    /// The plan with the state named that it leaves behind.
    async fn with_forgotten(
        &self,
        mut plan: Plan,
        state: &PipelineState,
        old: Option<&Plan>,
        accept: Accept,
    ) -> Result<Plan> {
        let (Some(committed), Some(old)) = (&state.committed, old) else { return Ok(plan) };
        if accept.reset {
            return Ok(plan);
        }
        let diff = conveyor_planner::diff(Some(old), &plan);
        let lost = diff.loses_state();
        if !lost.is_empty() && !accept.state_loss {
            let why = format!("the changed plan cannot keep: {}", lost.join("; "));
            return Err(Error::bad_input("state-would-be-lost", why)
                .in_pipeline(&plan.pipeline)
                .help("accept the loss, or reset the pipeline; `plan` shows the details"));
        }
        plan.forget = diff.forgets();
        // What an earlier edit gave up is still what the committed epoch holds.
        let holds = self.0.store.read(&plan.pipeline, &committed.manifest).await?;
        if holds.plan_version < state.version {
            plan.forget.extend(old.forget.clone());
        }
        Ok(plan)
    }

    async fn reset(&self, id: &PipelineId, state: &PipelineState) -> Result<()> {
        let at_us = self.0.clock.wall_us();
        let command = Command::Reset { pipeline: id.clone(), expect: state.incarnation, at_us };
        match self.propose(command).await? {
            Outcome::Done => Ok(()),
            other => Err(refused(id, "the reset", &other)),
        }
    }
}
