//! What every node gets back from the committed epoch.

use std::collections::BTreeMap;

use bytes::Bytes;
use conveyor_model::manifest::Manifest;
use conveyor_model::plan::{Forget, Node};
use conveyor_model::step::{Op, Step};
use conveyor_model::{Positions, Result, Watermark};

use crate::config::Components;
use crate::member::Part;

/// What nodes and steps get back.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    positions: BTreeMap<String, Positions>,
    snapshots: BTreeMap<String, Vec<Bytes>>,
    marks: BTreeMap<String, Watermark>,
}

/// Steps that some task of this member runs.
pub(crate) fn steps_here(part: &Part) -> impl Iterator<Item = &Step> {
    let here = |node: &&Node| part.tasks.iter().any(|task| task.node == node.id);
    part.plan.nodes.iter().filter(here).flat_map(|n| &n.steps)
}

impl Restored {
    /// Reads the state that a manifest refers to and this member needs, less what its version of the plan leaves behind.
    ///
    /// # Errors
    /// `Corrupt` if a state object is damaged.
    pub(crate) async fn load(
        manifest: Option<&Manifest>,
        part: &Part,
        components: &Components,
    ) -> Result<Self> {
        let plan = part.plan.as_ref();
        let mut all = Self::default();
        let Some(manifest) = manifest else {
            all.seed(part, components).await?;
            return Ok(all);
        };
        let nothing = Forget::default();
        let forget = if manifest.plan_version < part.plan_version { &plan.forget } else { &nothing };
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
                if !steps_here(part).any(|s| s.id == *step) {
                    continue;
                }
                let bytes = components.state.get(reference).await.map_err(|e| e.at(step))?;
                all.snapshots.entry(step.clone()).or_default().push(bytes);
            }
        }
        Ok(all)
    }

    /// Takes the keys that the `dedupe` steps of another pipeline's epoch knew. Nothing else of it: rows that a step holds
    /// back, positions and watermarks are that pipeline's own.
    async fn seed(&mut self, part: &Part, components: &Components) -> Result<()> {
        let Some(seed) = &components.seed else { return Ok(()) };
        let steps = steps_here(part).filter(|s| matches!(s.op, Op::Dedupe(_)));
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
