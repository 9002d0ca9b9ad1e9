//! Lists and details.

use std::collections::BTreeMap;

use conveyor_model::log::{Log as _, Phase, PipelineState};
use conveyor_model::manifest::ManifestRef;
use conveyor_model::plan::Plan;
use conveyor_model::{Error, PipelineId, Result};
use conveyor_raft::{ReplicatedLog, Role};

use super::Control;
use super::ask::Question;
use super::types::{
    ClusterStatus, History, HistoryEntry, Live, PipelineStatus, PipelineSummary, PlacedTask, RouterStatus,
    SidecarStatus, VersionEntry,
};
use crate::assignment::Assignment;
use crate::controller::view::{self, PipelineView};
use crate::logs::{LogLine, Wanted};

impl Control {
    /// All pipelines, by namespace and name.
    ///
    /// # Errors
    /// If no leader answers.
    pub async fn list(&self) -> Result<Vec<PipelineSummary>> {
        let views: Vec<(PipelineId, PipelineView)> = self.0.asker.ask(&Question::Pipelines).await?;
        let views: BTreeMap<PipelineId, PipelineView> = views.into_iter().collect();
        let all = self.log().list().await?;
        let known = all.iter().filter(|(_, state)| state.plan.is_some());
        Ok(known.map(|(id, state)| summary(id, state, views.get(id))).collect())
    }

    /// One pipeline in detail.
    ///
    /// # Errors
    /// `unknown-pipeline`, or if no leader answers.
    pub async fn get(&self, id: &PipelineId) -> Result<PipelineStatus> {
        let state = self.state(id).await?;
        let view: Option<PipelineView> = self.0.asker.ask(&Question::Pipeline(id.clone())).await?;
        let assignment = view.as_ref().and_then(|v| v.assignment.as_ref());
        Ok(PipelineStatus {
            summary: summary(id, &state, view.as_ref()),
            plan_sha256: state.plan.as_ref().map(|p| p.sha256.clone()).unwrap_or_default(),
            pending_epoch: state.pending.map(|e| e.0),
            epochs_failed: state.fail_streak,
            tasks: assignment.map(placed).unwrap_or_default(),
            live: view.map(|v| v.live).unwrap_or_default(),
        })
    }

    /// A version of a pipeline's plan, the current one by default.
    ///
    /// # Errors
    /// `unknown-pipeline`, `unknown-version`, or those of the store.
    pub async fn plan_of(&self, id: &PipelineId, version: Option<u64>) -> Result<Plan> {
        let state = self.state(id).await?;
        let version = version.unwrap_or(state.version);
        let found = state.plans.iter().find(|v| v.version == version);
        let Some(found) = found.map(|v| &v.plan).or(state.plan.as_ref().filter(|_| version == state.version))
        else {
            let kept: Vec<_> = state.plans.iter().map(|v| v.version.to_string()).collect();
            let why = format!("version {version} of the plan is not kept");
            return Err(Error::bad_input("unknown-version", why)
                .in_pipeline(id)
                .help(format!("these are: {}", kept.join(", "))));
        };
        self.0.store.get_plan(found).await
    }

    /// The cluster's store, and where a plan's dead letters lie: folders as this router finds them, or URLs.
    pub fn places(&self, plan: &Plan) -> (String, String) {
        let store = &self.0.location;
        (absolute(store), absolute(&conveyor_store::dlq::location(store, plan)))
    }

    /// The manifest of a pipeline's newest committed epoch.
    ///
    /// # Errors
    /// `unknown-pipeline`, or those of the log.
    pub async fn committed(&self, id: &PipelineId) -> Result<Option<ManifestRef>> {
        Ok(self.state(id).await?.committed.map(|c| c.manifest))
    }

    /// What has happened to a pipeline, oldest first.
    ///
    /// # Errors
    /// `unknown-pipeline`, or those of the log.
    pub async fn history(&self, id: &PipelineId) -> Result<History> {
        let state = self.state(id).await?;
        let change = |c: &conveyor_model::log::Change| HistoryEntry {
            at_us: c.at_us,
            what: c.what,
            version: c.version,
            incarnation: c.incarnation.0,
            phase: c.phase,
            reason: c.reason.clone(),
        };
        let version = |v: &conveyor_model::log::PlanVersion| VersionEntry {
            version: v.version,
            plan_sha256: v.plan.sha256.clone(),
            at_us: v.at_us,
        };
        Ok(History {
            changes: state.history.iter().map(change).collect(),
            versions: state.plans.iter().map(version).collect(),
        })
    }

    /// All sidecars that the leader knows to be alive.
    ///
    /// # Errors
    /// If no leader answers.
    pub async fn sidecars(&self) -> Result<Vec<SidecarStatus>> {
        self.0.asker.ask(&Question::Sidecars).await
    }

    /// What the leader and the sidecars have said lately.
    ///
    /// # Errors
    /// If no leader answers.
    pub async fn logs(&self, wanted: Wanted) -> Result<Vec<LogLine>> {
        self.0.asker.ask(&Question::Logs(wanted)).await
    }

    /// The routers, as the leader sees them.
    ///
    /// # Errors
    /// If no leader answers; [`Control::own_status`] always does.
    pub async fn cluster(&self) -> Result<ClusterStatus> {
        self.0.asker.ask(&Question::Cluster).await
    }

    /// The routers, as this one sees them. Needs nobody else.
    pub fn own_status(&self) -> ClusterStatus {
        ClusterStatus::of(self.log())
    }

    /// Everything that is counted here: of the cluster only where this router leads it, so that nothing is counted twice.
    ///
    /// # Errors
    /// If the leadership is lost meanwhile.
    pub(crate) async fn measures(&self) -> Result<Measures> {
        let views: Option<Vec<(PipelineId, PipelineView)>> =
            self.0.asker.ask_here(view::Question::Counters).await?;
        let sidecars: Option<Vec<SidecarStatus>> = self.0.asker.ask_here(view::Question::Sidecars).await?;
        let mut pipelines = Vec::new();
        if let Some(views) = views {
            let mut views: BTreeMap<PipelineId, PipelineView> = views.into_iter().collect();
            for (id, state) in self.log().list().await? {
                if state.plan.is_some() {
                    let view = views.remove(&id);
                    let live = view.as_ref().map(|v| v.live.clone()).unwrap_or_default();
                    pipelines.push((summary(&id, &state, view.as_ref()), live));
                }
            }
        }
        let commits = self.log().latency();
        Ok(Measures { router: self.own_status(), commits, pipelines, sidecars: sidecars.unwrap_or_default() })
    }

    /// Lets a router that was started with a new data directory take part: it learns everything, then it votes.
    ///
    /// # Errors
    /// `node-id-known`, `membership-refused`, `stale-cluster` if the members are not those of the tag `expect`, or if it is not reached or does not catch up in time.
    pub async fn add_router(&self, id: u64, address: &str, expect: Option<u64>) -> Result<()> {
        let address = address.to_owned();
        let _: () = self.0.asker.ask(&Question::AddRouter { id, address, expect }).await?;
        self.0.asker.ask(&Question::PromoteRouter { id }).await
    }

    /// Removes a router. Its id must not be used again.
    ///
    /// # Errors
    /// `unknown-member`, `membership-refused`, `stale-cluster` as above, or if no leader answers.
    pub async fn remove_router(&self, id: u64, expect: Option<u64>) -> Result<()> {
        self.log().member(id)?;
        self.0.asker.ask(&Question::RemoveRouter { id, expect }).await
    }
}

/// A folder from the root on; a URL as it is.
fn absolute(location: &str) -> String {
    if location.contains("://") {
        return location.to_owned();
    }
    let path = std::path::absolute(location);
    path.map_or_else(|_| location.to_owned(), |path| path.display().to_string())
}

/// What [`Control::measures`] gives.
pub(crate) struct Measures {
    pub(crate) router: ClusterStatus,
    /// Commands of the log that this router has led, and the seconds that they took together.
    pub(crate) commits: (u64, f64),
    pub(crate) pipelines: Vec<(PipelineSummary, Live)>,
    pub(crate) sidecars: Vec<SidecarStatus>,
}

fn summary(id: &PipelineId, state: &PipelineState, view: Option<&PipelineView>) -> PipelineSummary {
    let waiting = view.and_then(|v| v.waiting.clone());
    let assignment = view.and_then(|v| v.assignment.as_ref());
    // Whoever is done, or stopped, does not wait.
    let waits = !matches!(state.phase, Phase::Paused | Phase::Failed | Phase::Finished);
    let said = Some(state.reason.clone()).filter(|r| !r.is_empty());
    PipelineSummary {
        namespace: id.namespace.clone(),
        name: id.name.clone(),
        version: state.version,
        phase: state.phase,
        reason: waiting.filter(|_| waits).or(said),
        incarnation: state.incarnation.0,
        epoch: state.committed.as_ref().map(|c| c.epoch.0),
        watermark_us: state.watermark.map(|w| w.0),
        sidecars: assignment
            .map(|a| a.members.iter().map(|m| m.sidecar.clone()).collect())
            .unwrap_or_default(),
    }
}

fn placed(assignment: &Assignment) -> Vec<PlacedTask> {
    let placement = assignment.placement().into_iter();
    placement
        .map(|(task, sidecar)| PlacedTask { node: task.node.0, subtask: task.subtask, sidecar })
        .collect()
}

impl ClusterStatus {
    /// A number that differs where other routers take part, or in another role (FNV-1a, cut to what fits in an ETag).
    pub fn tag(&self) -> u64 {
        let text: String =
            self.routers.iter().map(|r| format!("{} {} {}\n", r.id, r.address, r.role)).collect();
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        hash % 10_000_000_000_000_000
    }

    /// As a node of the log sees it.
    pub(crate) fn of(log: &ReplicatedLog) -> Self {
        let status = log.status();
        Self {
            cluster: log.identity().cluster.clone(),
            node: status.node,
            term: status.term,
            leader: status.leader,
            last_entry: status.last,
            applied_entry: status.applied,
            snapshot_entry: status.snapshot,
            routers: status
                .members
                .into_iter()
                .map(|n| RouterStatus {
                    id: n.member.id,
                    address: n.member.address,
                    role: match n.role {
                        Role::Voter => "voter".to_owned(),
                        Role::Learner => "learner".to_owned(),
                    },
                    matched_entry: n.matched,
                })
                .collect(),
        }
    }
}
