//! The members of an incarnation, and what each is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use conveyor_epoch::Handle;
use conveyor_model::log::Committed;
use conveyor_model::manifest::ManifestRef;
use conveyor_model::plan::Plan;
use conveyor_model::progress::{Member, Progress};
use conveyor_model::{Epoch, Incarnation, PipelineId};
use conveyor_proto::v1;

use crate::assignment::{Assignment, Publishes};
use crate::sidecars::Outboxes;

/// An incarnation that this router drives.
pub(crate) struct Crew {
    pub(crate) pipeline: PipelineId,
    pub(crate) incarnation: Incarnation,
    pub(crate) assignment: Assignment,
    /// The control loop's end.
    pub(crate) handle: Handle,
    plan: ManifestRef,
    committed: Option<Committed>,
    newest_published: Option<Epoch>,
    forgotten: Option<Epoch>,
    publishes: BTreeMap<Member, Publishes>,
}

impl Crew {
    /// The members that start from `start`.
    pub(crate) fn new(
        plan: &Plan,
        reference: ManifestRef,
        assignment: Assignment,
        start: &conveyor_epoch::Start,
        handle: Handle,
    ) -> Self {
        Self {
            pipeline: plan.pipeline.clone(),
            incarnation: start.incarnation,
            publishes: assignment.publishes(plan),
            assignment,
            handle,
            plan: reference,
            committed: start.committed.clone(),
            newest_published: start.newest_published,
            forgotten: start.forgotten,
        }
    }

    /// Tells a sidecar that is a member what it is to run, and how far things are.
    pub(crate) fn deploy_to(&self, sidecar: &str, boxes: &Outboxes) {
        let member = self.assignment.member_of(sidecar);
        if let (Some(member), Some(outbox)) = (member, boxes.get(sidecar)) {
            outbox.deploy(&self.pipeline, self.deploy(member));
        }
    }

    /// Tells all members what they are to run.
    pub(crate) fn deploy_to_all(&self, boxes: &Outboxes) {
        for member in &self.assignment.members {
            self.deploy_to(&member.sidecar, boxes);
        }
    }

    /// Tells all members how far things are.
    pub(crate) fn update_all(&self, progress: &Progress, boxes: &Outboxes) {
        for outbox in self.assignment.members.iter().filter_map(|m| boxes.get(&m.sidecar)) {
            outbox.update(&self.pipeline, self.incarnation, progress.into());
        }
    }

    /// Tells one sidecar how far things are.
    pub(crate) fn update_one(&self, sidecar: &str, boxes: &Outboxes) {
        if let Some(outbox) = boxes.get(sidecar) {
            let progress = v1::ProgressUpdate::from(&*self.handle.progress.borrow());
            outbox.update(&self.pipeline, self.incarnation, progress);
        }
    }

    /// Tells all members to end.
    pub(crate) fn stop_all(&self, boxes: &Outboxes) {
        for outbox in self.assignment.members.iter().filter_map(|m| boxes.get(&m.sidecar)) {
            outbox.stop(&self.pipeline, self.incarnation);
        }
    }

    /// Whether an epoch is under way, so that what members were told is worth repeating.
    pub(crate) fn is_busy(&self) -> bool {
        let p = self.handle.progress.borrow();
        !p.start || p.drain || p.inject > p.committed.max(p.aborted) || p.published < p.committed
    }

    fn deploy(&self, member: Member) -> v1::Deploy {
        let publishes = self.publishes.get(&member).cloned().unwrap_or_default();
        let task = |(task, member): (conveyor_model::TaskId, Member)| {
            let of = self.assignment.members.get(member as usize);
            v1::PlacedTask {
                task: Some(task.into()),
                member,
                sidecar: of.map(|m| m.sidecar.clone()).unwrap_or_default(),
                endpoint: of.map(|m| m.endpoint.clone()).unwrap_or_default(),
            }
        };
        v1::Deploy {
            pipeline: Some((&self.pipeline).into()),
            incarnation: self.incarnation.0,
            plan_version: self.assignment.version,
            plan: Some((&self.plan).into()),
            committed: self.committed.as_ref().map(|c| v1::Committed {
                epoch: c.epoch.0,
                incarnation: c.incarnation.0,
                manifest: Some((&c.manifest).into()),
            }),
            newest_published: self.newest_published.map(|e| e.0),
            forgotten: self.forgotten.map(|e| e.0),
            member,
            tasks: self.assignment.placed().map(task).collect(),
            publishes: publishes.sinks,
            publishes_dead_letters: publishes.dead_letters,
            progress: Some(v1::ProgressUpdate::from(&*self.handle.progress.borrow())),
        }
    }

    /// What the control loop has to know of the members.
    pub(crate) fn roll(assignment: &Assignment, plan: &Plan, running: bool) -> conveyor_epoch::Crew {
        conveyor_epoch::Crew {
            members: u32::try_from(assignment.members.len()).unwrap_or(u32::MAX),
            publishers: assignment.publishes(plan).into_keys().collect::<BTreeSet<_>>(),
            running,
        }
    }
}

/// Members are shared between the control loop and the task that drives them.
pub(crate) type SharedCrew = Arc<Crew>;
