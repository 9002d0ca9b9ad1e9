//! Where an incarnation starts: the committed epoch and its manifest.

use std::collections::BTreeMap;

use conveyor_model::log::{Command, Committed, Log, Outcome, PipelineState};
use conveyor_model::manifest::{self, Manifest};
use conveyor_model::plan::{Forget, Plan};
use conveyor_model::{Epoch, Error, Incarnation, Kind, PipelineId, Positions, Result};

use crate::Components;
use crate::failpoints::{self, pass};

/// What an incarnation starts from.
#[derive(Debug, Clone)]
pub struct Start {
    /// Our fencing token.
    pub incarnation: Incarnation,
    /// The committed epoch, if there is one.
    pub committed: Option<Committed>,
    /// The newest epoch that a target can have applied.
    pub newest_published: Option<Epoch>,
    /// The newest epoch from before a reset.
    pub forgotten: Option<Epoch>,
    /// The committed epoch's manifest.
    pub manifest: Option<Manifest>,
    /// An epoch that another control loop of this incarnation began and did not end.
    pub pending: Option<Epoch>,
}

impl Start {
    /// Fences everybody else and reads the committed epoch. `assignment` says who runs what, opaque here.
    ///
    /// # Errors
    /// `BadInput` if the log does not know the pipeline; `Fenced` if another plan version is current or another start
    /// comes in between; `Corrupt` if the manifest is damaged.
    pub async fn fence(plan: &Plan, version: u64, components: &Components, assignment: &str) -> Result<Self> {
        let state = current(plan, version, components).await?;
        let manifest = load(plan, &state, components).await?;
        let incarnation = new_incarnation(plan, &state, components, assignment).await?;
        Ok(Self::of(incarnation, PipelineState { pending: None, ..state }, manifest))
    }

    /// Takes over the current incarnation, whose tasks run, from a control loop that is gone.
    ///
    /// # Errors
    /// As for [`Start::fence`].
    pub async fn adopt(plan: &Plan, version: u64, components: &Components) -> Result<Self> {
        let state = current(plan, version, components).await?;
        let manifest = load(plan, &state, components).await?;
        Ok(Self::of(state.incarnation, state, manifest))
    }

    fn of(incarnation: Incarnation, state: PipelineState, manifest: Option<Manifest>) -> Self {
        Self {
            incarnation,
            newest_published: state.newest_published(),
            committed: state.committed,
            forgotten: state.forgotten,
            manifest,
            pending: state.pending,
        }
    }

    /// Committed positions by source node, less what `version` of the plan leaves behind.
    pub(crate) fn positions(&self, plan: &Plan, version: u64) -> BTreeMap<String, Positions> {
        let mut all: BTreeMap<String, Positions> =
            plan.nodes.iter().map(|n| (n.name.clone(), Positions::new())).collect();
        let Some(manifest) = &self.manifest else { return all };
        let nothing = Forget::default();
        let forget = if manifest.plan_version < version { &plan.forget } else { &nothing };
        for task in manifest.tasks.iter().filter(|t| !forget.sources.contains(&t.node)) {
            if let Some(positions) = all.get_mut(&task.node) {
                positions.extend(task.ack.positions.iter().map(|(id, state)| (id.clone(), state.clone())));
            }
        }
        all
    }
}

/// The pipeline's state in the log.
///
/// # Errors
/// `BadInput` if the log does not know the pipeline.
pub async fn read(log: &dyn Log, pipeline: &PipelineId) -> Result<PipelineState> {
    log.read(pipeline).await?.ok_or_else(|| {
        Error::bad_input("unknown-pipeline", "the log knows no such pipeline")
            .help("apply its manifest first")
    })
}

async fn current(plan: &Plan, version: u64, components: &Components) -> Result<PipelineState> {
    let state = read(components.log.as_ref(), &plan.pipeline).await?;
    if state.version != version {
        return Err(Error::new(
            Kind::Fenced,
            "stale-plan",
            format!("plan version {version} was to run, but {} is current", state.version),
        )
        .help("apply the manifest again"));
    }
    Ok(state)
}

async fn new_incarnation(
    plan: &Plan,
    state: &PipelineState,
    components: &Components,
    assignment: &str,
) -> Result<Incarnation> {
    let command = Command::NewIncarnation {
        pipeline: plan.pipeline.clone(),
        expect: state.incarnation,
        assignment: assignment.to_owned(),
        at_us: components.clock.wall_us(),
    };
    match components.log.propose(command).await? {
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

async fn load(plan: &Plan, state: &PipelineState, components: &Components) -> Result<Option<Manifest>> {
    let Some(committed) = &state.committed else { return Ok(None) };
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
    Ok(Some(found))
}
