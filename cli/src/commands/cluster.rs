//! `cluster status`: routers, sidecars, and who leads.

use serde_json::{Value, json};

use crate::args::{ClusterCommand, Format};
use crate::manifests::Failure;
use crate::output;

/// Shows the cluster.
pub(super) async fn run(command: &ClusterCommand) -> Result<(), Failure> {
    let ClusterCommand::Status { cluster, output: format } = command;
    let client = super::client(cluster)?;
    let routers = client.get("/v1/cluster").await?;
    let sidecars = client.list("/v1/sidecars").await?;
    if *format != Format::Text {
        output::documents(vec![json!({"cluster": routers, "sidecars": sidecars})], *format)?;
        return Ok(());
    }
    let word = |v: &Value| v.as_str().unwrap_or("-").to_owned();
    let leader = routers["leader"].as_u64();
    output::line(&format!(
        "cluster {}, term {}, leader {}",
        word(&routers["cluster"]),
        routers["term"],
        leader.map_or("none".to_owned(), |id| format!("router {id}"))
    ))?;
    let rows = routers["routers"].as_array().cloned().unwrap_or_default().into_iter().map(|router| {
        let mark = if router["id"].as_u64() == leader { "leads" } else { "" };
        [router["id"].to_string(), word(&router["address"]), word(&router["role"]), mark.to_owned()]
    });
    output::table(&["ROUTER", "ADDRESS", "ROLE", ""], rows)?;
    let rows = sidecars.iter().map(|s| {
        let state = match (s["attached"] == true, s["draining"] == true) {
            (_, true) => "draining",
            (true, _) => "attached",
            (false, _) => "silent",
        };
        let mib = s["residentBytes"].as_u64().unwrap_or_default() >> 20;
        [word(&s["id"]), word(&s["endpoint"]), state.to_owned(), s["tasks"].to_string(), format!("{mib} MiB")]
    });
    output::table(&["SIDECAR", "ENDPOINT", "STATE", "TASKS", "MEMORY"], rows)?;
    Ok(())
}
