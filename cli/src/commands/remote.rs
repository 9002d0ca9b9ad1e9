//! Verbs on one pipeline of a cluster: delete, pause, resume, drain, rollback, describe, history.

use hyper::Method;
use serde_json::{Value, json};

use crate::args::{ActArgs, Format, Global, OnePipelineArgs, RollbackArgs};
use crate::manifests::Failure;
use crate::output;

/// `pause`, `resume` or `drain`.
pub(super) async fn act(global: &Global, args: &ActArgs, verb: &str) -> Result<(), Failure> {
    let client = super::client(&args.cluster)?;
    let path = format!("{}/{verb}{}", super::pipeline_path(&args.pipeline.id()), dry(args.validate_only));
    let done = client.send(Method::POST, &path, None, args.if_version).await?.body;
    said(global, args, &done)
}

/// `delete`.
pub(super) async fn delete(global: &Global, args: &ActArgs) -> Result<(), Failure> {
    let client = super::client(&args.cluster)?;
    let path = format!("{}{}", super::pipeline_path(&args.pipeline.id()), dry(args.validate_only));
    client.send(Method::DELETE, &path, None, args.if_version).await?;
    if !global.quiet {
        let what =
            if args.validate_only { "would be deleted" } else { "deleted; what it has published stays" };
        eprintln!("{}: {what}", args.pipeline.id());
    }
    Ok(())
}

/// `rollback`.
pub(super) async fn rollback(global: &Global, args: &RollbackArgs) -> Result<(), Failure> {
    let client = super::client(&args.act.cluster)?;
    let path =
        format!("{}/rollback{}", super::pipeline_path(&args.act.pipeline.id()), dry(args.act.validate_only));
    let body = json!({"version": args.to, "acceptStateLoss": args.accept_state_loss});
    let done = client.send(Method::POST, &path, Some(&body), args.act.if_version).await?.body;
    said(global, &args.act, &done)
}

fn dry(validate_only: bool) -> &'static str {
    if validate_only { "?validate_only=true" } else { "" }
}

fn said(global: &Global, args: &ActArgs, done: &Value) -> Result<(), Failure> {
    if args.output != Format::Text {
        output::documents(vec![done.clone()], args.output)?;
    } else if !global.quiet {
        let word = |name: &str| done[name].as_str().unwrap_or("-").to_owned();
        eprintln!("{}: {} (version {})", args.pipeline.id(), word("phase"), done["version"]);
    }
    Ok(())
}

/// `describe`: all that is known of a pipeline.
pub(super) async fn describe(args: &OnePipelineArgs) -> Result<(), Failure> {
    let client = super::client(&args.cluster)?;
    let id = args.pipeline.id();
    let status = client.get(&format!("{}/status", super::pipeline_path(&id))).await?;
    if args.output != Format::Text {
        output::documents(vec![status], args.output)?;
        return Ok(());
    }
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    output::line(&id.to_string())?;
    for (name, label) in [
        ("phase", "phase"),
        ("reason", "reason"),
        ("version", "plan version"),
        ("incarnation", "incarnation"),
        ("epoch", "committed epoch"),
        ("pendingEpoch", "pending epoch"),
        ("failures", "failures"),
        ("lastFailure", "last failure"),
    ] {
        if !status[name].is_null() {
            output::line(&format!("  {label:<16} {}", text(&status[name])))?;
        }
    }
    let items = |name: &str| status[name].as_array().cloned().unwrap_or_default();
    let rows =
        items("tasks").into_iter().map(|t| [format!("n{}.{}", t["node"], t["subtask"]), text(&t["sidecar"])]);
    output::table(&["TASK", "SIDECAR"], rows)?;
    let rows = items("nodes").into_iter().map(|n| {
        let count = |name: &str| n["counters"][name].to_string();
        [text(&n["name"]), count("rowsIn"), count("rowsOut"), count("filtered"), count("deadLetters")]
    });
    output::table(&["NODE", "ROWS IN", "ROWS OUT", "FILTERED", "DEAD"], rows)?;
    output::table(
        &["EDGE", "ROWS", "BYTES", "CREDIT", "STARVED"],
        items("edges").iter().map(super::top::edge),
    )?;
    Ok(())
}

/// `history`: versions and changes of a pipeline.
pub(super) async fn history(args: &OnePipelineArgs) -> Result<(), Failure> {
    let client = super::client(&args.cluster)?;
    let history = client.get(&format!("{}/history", super::pipeline_path(&args.pipeline.id()))).await?;
    if args.output != Format::Text {
        output::documents(vec![history], args.output)?;
        return Ok(());
    }
    let rows = history["changes"].as_array().cloned().unwrap_or_default().into_iter().map(|change| {
        let word = |name: &str| change[name].as_str().unwrap_or("-").to_owned();
        let at = conveyor_model::Watermark(change["atUs"].as_i64().unwrap_or_default());
        [
            at.to_string(),
            word("what"),
            change["version"].to_string(),
            change["incarnation"].to_string(),
            word("phase"),
            word("reason"),
        ]
    });
    output::table(&["TIME", "WHAT", "VERSION", "INCARNATION", "PHASE", "REASON"], rows)?;
    Ok(())
}
