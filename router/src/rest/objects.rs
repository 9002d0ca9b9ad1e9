//! Sources, steps, lookups and sinks, as the plans of all pipelines name them.

use std::collections::BTreeMap;

use axum::Json;
use conveyor_model::plan::{NodeInput, NodeOutput, Plan};
use conveyor_model::{PipelineId, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::page::{Page, PageQuery};
use super::problem::Problem;
use super::views::PlanObject;
use crate::control::Control;

/// Plans that are read from the store at a time.
const AT_ONCE: usize = 16;

/// Kinds of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Source,
    Step,
    Lookup,
    Sink,
}

/// A page of the objects of a kind.
pub(super) async fn objects(
    control: &Control,
    kind: Kind,
    page: &PageQuery,
) -> Result<Json<Page<PlanObject>>, Problem> {
    let all = control.list().await?;
    let plans =
        stream::iter(all).map(|p| async move { current(control, p.namespace, p.name, p.version).await });
    let plans: Vec<Option<Plan>> = plans.buffered(AT_ONCE).try_collect().await?;
    let mut found: BTreeMap<(String, String), PlanObject> = BTreeMap::new();
    for plan in plans.iter().flatten() {
        for (name, type_name) in named(plan, kind) {
            let namespace = plan.pipeline.namespace.clone();
            let object = found.entry((namespace.clone(), name.clone())).or_insert_with(|| PlanObject {
                namespace,
                name,
                type_name,
                used_by: Vec::new(),
            });
            let user = plan.pipeline.to_string();
            if object.used_by.last() != Some(&user) {
                object.used_by.push(user);
            }
        }
    }
    // Names have no NUL, so the two parts sort as a pair does.
    page.of(found.into_values().collect(), |object| format!("{}\0{}", object.namespace, object.name))
}

/// The plan of a pipeline of the list, unless it has been edited or deleted since.
async fn current(control: &Control, namespace: String, name: String, version: u64) -> Result<Option<Plan>> {
    match control.plan_of(&PipelineId::new(namespace, name), Some(version)).await {
        Ok(plan) => Ok(Some(plan)),
        Err(error) if matches!(error.code(), "unknown-pipeline" | "unknown-version") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Names and types of the objects of a kind in a plan.
fn named(plan: &Plan, kind: Kind) -> Vec<(String, String)> {
    let nodes = plan.nodes.iter();
    match kind {
        Kind::Source => nodes
            .filter_map(|node| match &node.input {
                NodeInput::Source(source) => Some((source.name.clone(), source.connector.clone())),
                NodeInput::Edges => None,
            })
            .collect(),
        Kind::Sink => nodes
            .filter_map(|node| match &node.output {
                NodeOutput::Sink(sink) => Some((sink.name.clone(), sink.connector.clone())),
                NodeOutput::Edges => None,
            })
            .collect(),
        Kind::Step => nodes
            .flat_map(|node| &node.steps)
            .map(|step| (step.id.clone(), step.op.kind().to_owned()))
            .collect(),
        Kind::Lookup => {
            plan.lookups.iter().map(|(name, lookup)| (name.clone(), lookup.connector.clone())).collect()
        }
    }
}
