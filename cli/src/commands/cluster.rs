//! `cluster status|add|remove`: routers, sidecars, who leads, and who takes part.

use hyper::Method;
use serde_json::{Value, json};

use crate::args::{ClusterArgs, ClusterCommand, Format, Global, MembershipArgs};
use crate::manifests::Failure;
use crate::output;

/// Shows the cluster, or changes who takes part.
pub(super) async fn run(global: &Global, command: &ClusterCommand) -> Result<(), Failure> {
    match command {
        ClusterCommand::Status { cluster, output } => status(cluster, *output).await,
        ClusterCommand::Add(args) => {
            let body = json!({"id": args.id, "address": args.address});
            change(global, &args.change, Method::POST, String::new(), Some(body)).await
        }
        ClusterCommand::Remove(args) => {
            change(global, &args.change, Method::DELETE, format!("/{}", args.id), None).await
        }
    }
}

/// Changes who takes part, and shows it.
async fn change(
    global: &Global,
    args: &MembershipArgs,
    method: Method,
    which: String,
    body: Option<Value>,
) -> Result<(), Failure> {
    let dry = if args.validate_only { "?validate_only=true" } else { "" };
    let path = format!("/v1/cluster/routers{which}{dry}");
    let done = super::client(&args.cluster)?.send(method, &path, body.as_ref(), None).await?.body;
    if args.output != Format::Text {
        output::documents(vec![done], args.output)?;
    } else if !global.quiet {
        let id = |router: &Value| format!("{} ({})", router["id"], router["role"].as_str().unwrap_or("-"));
        let all: Vec<_> = done["routers"].as_array().into_iter().flatten().map(id).collect();
        eprintln!("routers: {}", all.join(", "));
    }
    Ok(())
}

async fn status(cluster: &ClusterArgs, format: Format) -> Result<(), Failure> {
    let client = super::client(cluster)?;
    let routers = client.get("/v1/cluster").await?;
    let sidecars = client.list("/v1/sidecars").await?;
    if format != Format::Text {
        output::documents(vec![json!({"cluster": routers, "sidecars": sidecars})], format)?;
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
