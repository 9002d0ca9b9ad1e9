//! `plan`: what would run, and what happens to state.

use conveyor_model::Error;
use hyper::Method;
use serde_json::json;

use super::saved::Saved;
use crate::args::{Format, Global, PlanArgs};
use crate::cluster::{Client, context};
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

/// What a cluster would change.
async fn remote(client: &Client, args: &PlanArgs) -> Result<bool, Failure> {
    let (manifest, _) = manifests::checked(&args.files, &conveyor_connectors::registry())?;
    let answer = client.send(Method::POST, "/v1/plan", Some(&json!({"manifest": manifest})), None).await?;
    let planned = answer.body["pipelines"].as_array().cloned().unwrap_or_default();
    if let Some(path) = &args.out {
        Saved::write(path, &manifest, &planned)?;
    }
    let mut changes = false;
    for one in &planned {
        let objects = one["changes"]["objects"].as_array().cloned().unwrap_or_default();
        changes |= !objects.is_empty();
        if args.output == Format::Text {
            output::line(one["explanation"].as_str().unwrap_or_default().trim_end())?;
            output::line("")?;
            for object in &objects {
                output::line(&change(object))?;
            }
            for state in one["changes"]["state"].as_array().into_iter().flatten() {
                let word = |name: &str| state[name].as_str().unwrap_or_default();
                output::line(&format!(
                    "  state: {}: {} ({})",
                    word("what"),
                    word("verdict"),
                    word("reason")
                ))?;
            }
            let count = |name: &str| one["changes"][name].as_u64().unwrap_or_default();
            output::line(&format!(
                "{} to add, {} to change, {} to destroy",
                count("toAdd"),
                count("toChange"),
                count("toDestroy")
            ))?;
        }
    }
    if args.output != Format::Text {
        output::documents(planned, args.output)?;
    }
    Ok(changes)
}

/// One changed object, `~ sink late`.
fn change(object: &serde_json::Value) -> String {
    let word = |name: &str| object[name].as_str().unwrap_or_default();
    let sign = match word("action") {
        "add" => "+",
        "change" => "~",
        "destroy" => "-",
        _ => "-/+",
    };
    let fields: Vec<_> =
        object["fields"].as_array().into_iter().flatten().filter_map(|f| f["path"].as_str()).collect();
    let fields = if fields.is_empty() { String::new() } else { format!(": {}", fields.join(", ")) };
    format!("{sign} {} {}{fields}", word("kind"), word("name"))
}

async fn show(args: &PlanArgs) -> Result<bool, Failure> {
    if let Some(target) = context::target(&args.cluster)? {
        return remote(&Client::new(&target)?, args).await;
    }
    if args.out.is_some() {
        return Err(Error::bad_input("plan-out", "--out needs a cluster that the plan is for")
            .help("give --endpoint or --context")
            .into());
    }
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
