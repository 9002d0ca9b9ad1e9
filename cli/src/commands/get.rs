//! `get`: pipelines of a data directory and where they stand.

use conveyor_model::log::PipelineState;
use conveyor_model::{Epoch, PipelineId};
use serde_json::json;

use crate::args::{Format, GetArgs};
use crate::cluster::{Client, context};
use crate::manifests::Failure;
use crate::node::Node;
use crate::output;

/// Characters of a reason that the table shows.
const REASON: usize = 60;

/// Lists pipelines.
pub(super) async fn run(args: &GetArgs) -> Result<(), Failure> {
    if let Some(target) = context::target(&args.cluster)? {
        return remote(&Client::new(&target)?, args).await;
    }
    let mut all = match Node::view(&args.data).await? {
        Some(node) => node.log.list().await?,
        None => Vec::new(),
    };
    // What was deleted keeps its counters in the log, but is no pipeline any more.
    all.retain(|(_, state)| state.plan.is_some());
    if args.output != Format::Text {
        let documents = all.iter().map(|(id, state)| document(id, state)).collect();
        output::documents(documents, args.output)?;
        return Ok(());
    }
    let rows = all.iter().map(|(id, state)| {
        [
            id.to_string(),
            phase(state),
            state.version.to_string(),
            epoch(state).map_or("-".into(), |e| e.to_string()),
            state.watermark.map_or("-".into(), |w| w.to_string()),
            shortened(&state.reason),
        ]
    });
    output::table(&["PIPELINE", "PHASE", "PLAN", "EPOCH", "WATERMARK", "REASON"], rows)?;
    Ok(())
}

/// Lists the pipelines of a cluster.
async fn remote(client: &Client, args: &GetArgs) -> Result<(), Failure> {
    let all = client.list("/v1/pipelines").await?;
    if args.output != Format::Text {
        output::documents(all, args.output)?;
        return Ok(());
    }
    let rows = all.iter().map(|p| {
        let word = |name: &str| p[name].as_str().unwrap_or("-").to_owned();
        let watermark = p["watermarkUs"].as_i64().map(conveyor_model::Watermark);
        [
            format!("{}/{}", word("namespace"), word("name")),
            word("phase"),
            p["version"].to_string(),
            p["epoch"].as_u64().map_or("-".into(), |e| e.to_string()),
            watermark.map_or("-".into(), |w| w.to_string()),
            shortened(p["reason"].as_str().unwrap_or_default()),
        ]
    });
    output::table(&["PIPELINE", "PHASE", "PLAN", "EPOCH", "WATERMARK", "REASON"], rows)?;
    Ok(())
}

/// The beginning of a reason, on one line; `-o json` has all of it.
fn shortened(reason: &str) -> String {
    let line = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(REASON) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_one_short_line() {
        assert_eq!(shortened("drained"), "drained");
        let long = shortened(&"twelve\nrows ".repeat(30));
        assert!(long.chars().count() <= REASON + 1 && long.ends_with('…'), "{long}");
        assert!(long.starts_with("twelve rows twelve"), "{long}");
    }
}
