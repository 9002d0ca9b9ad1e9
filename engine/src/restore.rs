//! Where a run starts: the committed epoch, its manifest, and what every node gets back from it.

use std::collections::BTreeMap;

use bytes::Bytes;
use conveyor_model::log::{Command, Committed, Log, Outcome, PipelineState};
use conveyor_model::manifest::Manifest;
use conveyor_model::plan::{Forget, Plan};
use conveyor_model::step::Op;
use conveyor_model::{
    Epoch, Error, Incarnation, Kind, PipelineId, Positions, Result, RowCounters, Watermark, manifest,
};

use crate::config::Components;
use crate::failpoints::{self, pass};

/// What a run starts from.
#[derive(Debug)]
pub(crate) struct Start {
    /// Our fencing token.
    pub(crate) incarnation: Incarnation,
    /// The committed epoch, if there is one.
    pub(crate) committed: Option<Committed>,
    /// The newest epoch that a target can have applied.
    pub(crate) newest_published: Option<Epoch>,
    /// The newest epoch from before a reset.
    pub(crate) forgotten: Option<Epoch>,
    /// Its manifest.
    pub(crate) manifest: Option<Manifest>,
}

/// Fences everybody else and reads the committed epoch.
///
/// # Errors
/// `BadInput` if the log does not know the pipeline or this plan version; `Fenced` if another start comes in between;
/// `Corrupt` if the manifest is damaged.
pub(crate) async fn start(plan: &Plan, version: u64, components: &Components) -> Result<Start> {
    let state = read(components.log.as_ref(), &plan.pipeline).await?;
    if state.version != version {
        return Err(Error::new(
            Kind::Fenced,
            "stale-plan",
            format!("plan version {version} was to run, but {} is current", state.version),
        )
        .help("apply the manifest again"));
    }
    let manifest = match &state.committed {
        Some(committed) => Some(load(plan, committed, components).await?),
        None => None,
    };
    let incarnation = fence(plan, &state, components.log.as_ref()).await?;
    let newest_published = state.newest_published();
    Ok(Start {
        incarnation,
        committed: state.committed,
        newest_published,
        forgotten: state.forgotten,
        manifest,
    })
}

/// The pipeline's state in the log.
///
/// # Errors
/// `BadInput` if the log does not know the pipeline.
pub(crate) async fn read(log: &dyn Log, pipeline: &PipelineId) -> Result<PipelineState> {
    log.read(pipeline).await?.ok_or_else(|| {
        Error::bad_input("unknown-pipeline", "the log knows no such pipeline")
            .help("apply its manifest first")
    })
}

async fn fence(plan: &Plan, state: &PipelineState, log: &dyn Log) -> Result<Incarnation> {
    let command = Command::NewIncarnation {
        pipeline: plan.pipeline.clone(),
        expect: state.incarnation,
        assignment: "local".into(),
    };
    match log.propose(command).await? {
        Outcome::Incarnation(incarnation) => {
            pass(failpoints::INCARNATION)?;
            Ok(incarnation)
        }
        Outcome::Refused(why) => {
            Err(Error::new(Kind::Fenced, "start-refused", "another start came in between")
                .because(why)
                .help("look who else runs this pipeline"))
        }
        other => {
            Err(Error::runtime("log-answer", format!("the log answered {other:?} to a new incarnation")))
        }
    }
}

async fn load(plan: &Plan, committed: &Committed, components: &Components) -> Result<Manifest> {
    let found = components.manifests.read(&plan.pipeline, &committed.manifest).await?;
    let fits =
        found.format == manifest::FORMAT && found.epoch == committed.epoch && found.pipeline == plan.pipeline;
    if !fits {
        return Err(Error::new(
            Kind::Corrupt,
            "manifest-mismatch",
            format!(
                "the manifest says format {} epoch {} of {}, the log epoch {}",
                found.format, found.epoch, found.pipeline, committed.epoch
            ),
        )
        .in_split(&committed.manifest.key));
    }
    Ok(found)
}

/// What nodes and steps get back.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    positions: BTreeMap<String, Positions>,
    snapshots: BTreeMap<String, Vec<Bytes>>,
    marks: BTreeMap<String, Watermark>,
    /// Rows since the first epoch, by node.
    pub(crate) totals: BTreeMap<String, RowCounters>,
    /// The pipeline's watermark.
    pub(crate) watermark: Option<Watermark>,
}

impl Restored {
    /// Reads the state that a manifest refers to, less what `version` of the plan leaves behind.
    ///
    /// # Errors
    /// `Corrupt` if a state object is damaged.
    pub(crate) async fn load(
        manifest: Option<&Manifest>,
        plan: &Plan,
        version: u64,
        components: &Components,
    ) -> Result<Self> {
        let mut all = Self::default();
        let Some(manifest) = manifest else {
            all.seed(plan, components).await?;
            return Ok(all);
        };
        let nothing = Forget::default();
        let forget = if manifest.plan_version < version { &plan.forget } else { &nothing };
        for task in manifest.tasks.iter().filter(|t| !forget.sources.contains(&t.node)) {
            let positions = all.positions.entry(task.node.clone()).or_default();
            positions.extend(task.ack.positions.iter().map(|(id, state)| (id.clone(), state.clone())));
            let mark = task.ack.watermark.unwrap_or(Watermark::MIN);
            let least = all.marks.entry(task.node.clone()).or_insert(mark);
            *least = mark.min(*least);
            for (step, reference) in task.ack.state.iter().filter(|(step, _)| !forget.steps.contains(*step)) {
                if !plan.nodes.iter().flat_map(|n| &n.steps).any(|s| s.id == *step) {
                    tracing::warn!(%step, "the plan no longer has this step; its state is left behind");
                    continue;
                }
                let bytes = components.state.get(reference).await.map_err(|e| e.at(step))?;
                all.snapshots.entry(step.clone()).or_default().push(bytes);
            }
        }
        all.totals = manifest.totals.clone();
        all.watermark = manifest.watermark;
        Ok(all)
    }

    /// Takes the keys that the `dedupe` steps of another pipeline's epoch knew. Nothing else of it: rows that a step holds
    /// back, positions and watermarks are that pipeline's own.
    async fn seed(&mut self, plan: &Plan, components: &Components) -> Result<()> {
        let Some(seed) = &components.seed else { return Ok(()) };
        let steps = plan.nodes.iter().flat_map(|n| &n.steps).filter(|s| matches!(s.op, Op::Dedupe(_)));
        for step in steps {
            for reference in seed.tasks.iter().filter_map(|t| t.ack.state.get(&step.id)) {
                let bytes = components.state.get(reference).await.map_err(|e| e.at(&step.name))?;
                self.snapshots.entry(step.id.clone()).or_default().push(bytes);
            }
        }
        Ok(())
    }

    /// Progress of all splits of a source node.
    pub(crate) fn positions(&self, node: &str) -> Positions {
        self.positions.get(node).cloned().unwrap_or_default()
    }

    /// Snapshots of all earlier subtasks, by step.
    pub(crate) fn snapshots(&self) -> &BTreeMap<String, Vec<Bytes>> {
        &self.snapshots
    }

    /// The watermark that a node's tasks start from.
    pub(crate) fn mark(&self, node: &str) -> Watermark {
        self.marks.get(node).copied().unwrap_or(Watermark::MIN)
    }
}
