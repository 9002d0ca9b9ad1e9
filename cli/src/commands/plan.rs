//! `plan`: what would run, and what happens to state.

use conveyor_model::Error;
use serde_json::json;

use crate::args::{Format, Global, PlanArgs};
use crate::manifests::{self, Failure};
use crate::node::Node;
use crate::{exit, output};

/// Shows plans. With `--detailed-exitcode`: 0 nothing to do, 1 error, 2 changes.
pub(super) async fn run(global: &Global, args: &PlanArgs) -> u8 {
    match show(args).await {
        Ok(changes) if args.detailed_exitcode && changes => exit::CHANGES,
        Ok(_) => exit::OK,
        Err(failure) => {
            let code = super::report(global, failure);
            if args.detailed_exitcode { 1 } else { code }
        }
    }
}

async fn show(args: &PlanArgs) -> Result<bool, Failure> {
    let loaded = manifests::load(&args.files, &conveyor_connectors::registry(), true).await?;
    let node = Node::view(&args.data).await?;
    let (mut changes, mut documents) = (false, Vec::new());
    for compiled in &loaded.compiled {
        let plan = &compiled.plan;
        let old = match &node {
            Some(node) => node.current(&plan.pipeline).await?.1,
            None => None,
        };
        let diff = conveyor_planner::diff(old.as_ref(), plan);
        changes |= !diff.is_empty();
        if args.output == Format::Text {
            output::line(conveyor_planner::explain(compiled).trim_end())?;
            output::line("")?;
            output::line(diff.to_string().trim_end())?;
        } else {
            let plan = serde_json::to_value(plan)
                .map_err(|e| Error::runtime("plan-json", "the plan cannot be shown").because(e))?;
            documents.push(json!({"plan": plan, "changes": !diff.is_empty(), "diff": diff.to_string()}));
        }
    }
    if args.output != Format::Text {
        output::documents(documents, args.output)?;
    }
    for warning in &loaded.warnings {
        eprintln!("{warning}\n");
    }
    Ok(changes)
}
