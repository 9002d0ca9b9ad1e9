//! What the leader knows of one pipeline.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use conveyor_epoch::EpochMetrics;
use conveyor_model::log::{Phase, PipelineState};
use conveyor_model::manifest::ManifestRef;
use conveyor_model::plan::Plan;
use conveyor_model::progress::Report;
use conveyor_model::{Incarnation, TaskId};
use conveyor_proto::v1;
use tokio_util::sync::CancellationToken;

use crate::assignment::{Assignment, Crewman};
use crate::crew::SharedCrew;
use crate::restarts::Restarts;
use crate::runner::RunId;

/// Most reports that are kept of an incarnation before this router drives it.
const EARLY: usize = 1 << 14;

/// A pipeline.
pub(crate) struct Entry {
    pub(crate) state: PipelineState,
    /// What the log says of who runs it.
    pub(crate) assignment: Option<Assignment>,
    pub(crate) plan: Option<(ManifestRef, Arc<Plan>)>,
    /// Its plan is on its way from the store.
    pub(crate) loading: bool,
    /// A phase is on its way to the log.
    pub(crate) noting: bool,
    pub(crate) run: Option<Run>,
    /// The incarnation that this leader has found, until it starts another.
    pub(crate) inherited: Option<Incarnation>,
    pub(crate) early: Early,
    pub(crate) restarts: Restarts,
    /// Why it cannot run now.
    pub(crate) waiting: Option<String>,
    /// Counters by sidecar.
    pub(crate) metrics: BTreeMap<String, v1::MemberMetrics>,
    pub(crate) epochs: Arc<EpochMetrics>,
    pub(crate) wake_us: Option<u64>,
}

impl Entry {
    pub(crate) fn new(state: PipelineState) -> Self {
        Self {
            assignment: Assignment::parse(&state.assignment),
            inherited: Some(state.incarnation),
            state,
            plan: None,
            loading: false,
            noting: false,
            run: None,
            early: Early::default(),
            restarts: Restarts::default(),
            waiting: None,
            metrics: BTreeMap::new(),
            epochs: Arc::default(),
            wake_us: None,
        }
    }

    /// Takes what the log says now.
    pub(crate) fn update(&mut self, state: PipelineState) {
        if state.assignment != self.state.assignment {
            self.assignment = Assignment::parse(&state.assignment);
        }
        if state.version != self.state.version {
            // Another plan may do what the one before could not.
            self.restarts.well();
            self.waiting = None;
        }
        let stopped = |phase| matches!(phase, Phase::Paused | Phase::Failed | Phase::Finished);
        if stopped(self.state.phase) && !stopped(state.phase) {
            // A person wants it to be tried again.
            self.restarts.well();
        }
        self.state = state;
    }

    /// The plan, if it is the current one.
    pub(crate) fn current_plan(&self) -> Option<Arc<Plan>> {
        let (reference, plan) = self.plan.as_ref()?;
        (Some(reference) == self.state.plan.as_ref()).then(|| plan.clone())
    }

    /// The crew of this incarnation, if it is the one that runs.
    pub(crate) fn crew_of(&self, incarnation: Incarnation) -> Option<&SharedCrew> {
        self.run.as_ref()?.crew.as_ref().filter(|c| c.incarnation == incarnation)
    }
}

/// An incarnation that this router drives.
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) version: u64,
    pub(crate) members: Vec<Crewman>,
    /// Once the log has given the incarnation.
    pub(crate) crew: Option<SharedCrew>,
    pub(crate) drain: CancellationToken,
    pub(crate) stop: CancellationToken,
    /// Why it was stopped.
    pub(crate) stopped: Option<String>,
    /// Sidecars that have said something as members.
    pub(crate) heard: BTreeSet<String>,
    /// What it takes of each sidecar.
    pub(crate) load: BTreeMap<String, Load>,
}

/// What tasks take of a sidecar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// How many there are.
    pub(crate) tasks: u32,
    /// What their credits can take.
    pub(crate) bytes: u64,
}

impl Load {
    /// What a plan takes of each sidecar.
    pub(crate) fn of(plan: &Plan, placed: impl Iterator<Item = (TaskId, String)>) -> BTreeMap<String, Self> {
        let mut all: BTreeMap<String, Self> = BTreeMap::new();
        for (task, sidecar) in placed {
            let load = all.entry(sidecar).or_default();
            load.tasks += 1;
            load.bytes = load.bytes.saturating_add(conveyor_planner::window_bytes(plan, task.node));
        }
        all
    }
}

/// What members of an incarnation have said before this router drives it.
#[derive(Default)]
pub(crate) struct Early {
    incarnation: Incarnation,
    reports: Vec<Report>,
    running: BTreeSet<u32>,
}

impl Early {
    /// Keeps a report; of an older incarnation nothing is kept, and nothing beyond the limit.
    pub(crate) fn push(&mut self, incarnation: Incarnation, report: Report) {
        if incarnation > self.incarnation {
            *self = Self { incarnation, ..Self::default() };
        }
        if incarnation < self.incarnation || self.reports.len() >= EARLY {
            return;
        }
        if let Report::Running { member } = report {
            self.running.insert(member);
        }
        self.reports.push(report);
    }

    /// Whether this many members have said that they run.
    pub(crate) fn all_run(&self, incarnation: Incarnation, members: usize) -> bool {
        self.incarnation == incarnation && self.running.len() == members
    }

    /// What was said of an incarnation.
    pub(crate) fn take(&mut self, incarnation: Incarnation) -> Vec<Report> {
        let all = std::mem::take(self);
        if all.incarnation == incarnation { all.reports } else { Vec::new() }
    }
}
