//! What runs where, for sidecars that are asked for an edge.

use std::collections::BTreeMap;

use conveyor_model::log::Log as _;
use conveyor_model::{PipelineId, Result};
use conveyor_proto::{pipeline_from_wire, v1};

use crate::assignment::Assignment;
use crate::control::ask::{Asker, Question};
use crate::controller::view::PipelineView;

/// Pipelines that have tasks, with their plans and places.
///
/// # Errors
/// If no leader answers, or the request cannot be read.
pub(super) async fn running(asker: &Asker, request: v1::RunningRequest) -> Result<Vec<v1::RunningPipeline>> {
    let wanted = request.pipeline.map(|id| pipeline_from_wire("request", Some(id))).transpose()?;
    let views: Vec<(PipelineId, PipelineView)> = asker.ask(&Question::Pipelines).await?;
    let mut views: BTreeMap<PipelineId, PipelineView> = views.into_iter().collect();
    let mut found = Vec::new();
    for (id, state) in asker.hub().log().list().await? {
        if wanted.as_ref().is_some_and(|wanted| *wanted != id) {
            continue;
        }
        let Some(assignment) = views.remove(&id).and_then(|view| view.assignment) else { continue };
        // An edit may be planned already; what counts is the version that runs.
        let plan = state.plans.iter().find(|v| v.version == assignment.version).map(|v| &v.plan);
        let Some(plan) = plan.or(state.plan.as_ref().filter(|_| state.version == assignment.version)) else {
            continue;
        };
        found.push(v1::RunningPipeline {
            pipeline: Some((&id).into()),
            plan: Some(plan.into()),
            tasks: tasks(&assignment),
        });
    }
    Ok(found)
}

fn tasks(assignment: &Assignment) -> Vec<v1::PlacedTask> {
    let placed = assignment.placed().filter_map(|(task, member)| {
        let crewman = assignment.members.get(member as usize)?;
        let (sidecar, endpoint) = (crewman.sidecar.clone(), crewman.endpoint.clone());
        Some(v1::PlacedTask { task: Some(task.into()), member, sidecar, endpoint })
    });
    placed.collect()
}
