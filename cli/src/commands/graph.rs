//! `graph`: the compiled DAG as a drawing.

use crate::args::{GraphArgs, GraphFormat};
use crate::manifests::{self, Failure};
use crate::output;

/// Draws every pipeline.
pub(super) async fn run(args: &GraphArgs) -> Result<(), Failure> {
    let loaded = manifests::load(&args.files, &conveyor_connectors::registry(), true).await?;
    let format = match args.format {
        GraphFormat::Dot => conveyor_planner::GraphFormat::Dot,
        GraphFormat::Mermaid => conveyor_planner::GraphFormat::Mermaid,
        GraphFormat::Ascii => conveyor_planner::GraphFormat::Ascii,
    };
    for compiled in &loaded.compiled {
        output::line(conveyor_planner::graph(&compiled.plan, format).trim_end())?;
    }
    Ok(())
}
