//! `get`: pipelines of a data directory and where they stand.

use conveyor_model::log::PipelineState;
use conveyor_model::{Epoch, PipelineId};
use serde_json::json;

use crate::args::{Format, GetArgs};
use crate::manifests::Failure;
use crate::node::Node;
use crate::output;

/// Lists pipelines.
pub(super) async fn run(args: &GetArgs) -> Result<(), Failure> {
    let mut all = match Node::view(&args.data).await? {
        Some(node) => node.log.list().await?,
        None => Vec::new(),
    };
    // What was deleted keeps its counters in the log, but is no pipeline any more.
    all.retain(|(_, state)| state.plan.is_some());
    if args.output != Format::Text {
        let documents: Vec<_> = all.iter().map(|(id, state)| document(id, state)).collect();
        output::json(&json!(documents))?;
        return Ok(());
    }
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(["PIPELINE", "PHASE", "PLAN", "EPOCH", "WATERMARK", "REASON"]);
    for (id, state) in &all {
        table.add_row([
            id.to_string(),
            phase(state),
            state.version.to_string(),
            epoch(state).map_or("-".into(), |e| e.to_string()),
            state.watermark.map_or("-".into(), |w| w.to_string()),
            state.reason.clone(),
        ]);
    }
    output::line(&table.to_string())?;
    Ok(())
}

fn epoch(state: &PipelineState) -> Option<Epoch> {
    state.committed.as_ref().map(|c| c.epoch)
}

fn phase(state: &PipelineState) -> String {
    format!("{:?}", state.phase).to_lowercase()
}

fn document(id: &PipelineId, state: &PipelineState) -> serde_json::Value {
    json!({
        "namespace": id.namespace,
        "name": id.name,
        "phase": state.phase,
        "reason": state.reason,
        "planVersion": state.version,
        "incarnation": state.incarnation,
        "committedEpoch": epoch(state),
        "watermarkUs": state.watermark,
    })
}
