//! `graph`: the compiled DAG as a drawing, of manifests or of what a cluster runs.

use conveyor_model::Error;
use conveyor_model::plan::Plan;

use crate::args::{Files, GraphArgs, GraphFormat, NAMESPACE, pipeline_id};
use crate::manifests::{self, Failure};
use crate::output;

/// Draws every pipeline.
pub(super) async fn run(args: &GraphArgs) -> Result<(), Failure> {
    let format = match args.format {
        GraphFormat::Dot => conveyor_planner::GraphFormat::Dot,
        GraphFormat::Mermaid => conveyor_planner::GraphFormat::Mermaid,
        GraphFormat::Ascii => conveyor_planner::GraphFormat::Ascii,
    };
    let plans = match &args.of {
        Some(name) => vec![of_cluster(args, name).await?],
        None => {
            let files = Files { parallelism: args.parallelism, ..args.files.files() };
            let loaded = manifests::load(&files, &conveyor_connectors::registry(), true).await?;
            loaded.compiled.into_iter().map(|compiled| compiled.plan).collect()
        }
    };
    for plan in &plans {
        output::line(conveyor_planner::graph(plan, format).trim_end())?;
    }
    Ok(())
}

/// The plan that a cluster has of a pipeline.
async fn of_cluster(args: &GraphArgs, name: &str) -> Result<Plan, Failure> {
    let path = super::pipeline_path(&pipeline_id(name, NAMESPACE));
    let mut document = super::client(&args.cluster)?.get(&format!("{path}/plan")).await?;
    serde_json::from_value(document["plan"].take()).map_err(|e| {
        let error = Error::runtime("plan-unreadable", "the cluster's plan cannot be understood").because(e);
        error.help("is the cluster newer than this program?").into()
    })
}
