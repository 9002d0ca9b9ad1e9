//! `top`: what flows, and which edge is slow, by name.

use std::time::Duration;

use serde_json::{Value, json};

use crate::args::{Format, TopArgs};
use crate::cluster::Client;
use crate::manifests::Failure;
use crate::output;

/// Looks twice, `args.every` apart, and shows the difference; again and again on request.
pub(super) async fn run(args: &TopArgs) -> Result<(), Failure> {
    let client = super::client(&args.cluster)?;
    let mut before = look(&client).await?;
    let mut left = args.count;
    while left > 0 {
        left -= 1;
        tokio::time::sleep(args.every).await;
        let now = look(&client).await?;
        let rows: Vec<Row> = rows(&before, &now, args.every);
        if args.output == Format::Text {
            output::table(
                &["PIPELINE", "EDGE", "ROWS/S", "BYTES/S", "CREDIT", "STARVED"],
                rows.iter().map(|r| {
                    [
                        r.pipeline.clone(),
                        r.edge.clone(),
                        format!("{:.0}", r.rows_per_second),
                        format!("{:.0}", r.bytes_per_second),
                        r.credits_available.to_string(),
                        format!("{:.0} %", 100.0 * r.starved_share),
                    ]
                }),
            )?;
            if let Some(slow) = rows.first().filter(|r| r.starved_share > 0.1) {
                output::line(&format!("slow: {} of {}", slow.edge, slow.pipeline))?;
            }
        } else {
            let documents = rows.iter().map(|r| {
                json!({
                    "pipeline": r.pipeline,
                    "edge": r.edge,
                    "rowsPerSecond": r.rows_per_second,
                    "bytesPerSecond": r.bytes_per_second,
                    "creditsAvailable": r.credits_available,
                    "starvedShare": r.starved_share,
                })
            });
            output::documents(documents.collect(), args.output)?;
        }
        before = now;
    }
    Ok(())
}

/// What one edge did between two looks.
struct Row {
    pipeline: String,
    edge: String,
    rows_per_second: f64,
    bytes_per_second: f64,
    credits_available: u64,
    /// Share of the time that senders waited for credit, summed over channels.
    starved_share: f64,
}

/// The status of every pipeline that runs.
async fn look(client: &Client) -> Result<Vec<Value>, Failure> {
    let mut all = Vec::new();
    for pipeline in client.list("/v1/pipelines").await? {
        let (Some(namespace), Some(name)) = (pipeline["namespace"].as_str(), pipeline["name"].as_str())
        else {
            continue;
        };
        if matches!(pipeline["phase"].as_str(), Some("running" | "degraded" | "draining")) {
            all.push(client.get(&format!("/v1/pipelines/{namespace}/{name}/status")).await?);
        }
    }
    Ok(all)
}

fn rows(before: &[Value], now: &[Value], every: Duration) -> Vec<Row> {
    let seconds = every.as_secs_f64().max(0.001);
    let mut rows = Vec::new();
    for status in now {
        let same = |other: &&Value| {
            ["namespace", "name", "incarnation"].iter().all(|key| other[*key] == status[*key])
        };
        let old = before.iter().find(same).map(|s| s["edges"].as_array().cloned().unwrap_or_default());
        for edge in status["edges"].as_array().into_iter().flatten() {
            let was = old.iter().flatten().find(|e| e["name"] == edge["name"]);
            let grown = |name: &str| {
                let was = was.and_then(|e| e[name].as_f64()).unwrap_or_default();
                (edge[name].as_f64().unwrap_or_default() - was).max(0.0) / seconds
            };
            rows.push(Row {
                pipeline: format!(
                    "{}/{}",
                    status["namespace"].as_str().unwrap_or_default(),
                    status["name"].as_str().unwrap_or_default()
                ),
                edge: edge["name"].as_str().unwrap_or_default().to_owned(),
                rows_per_second: grown("rows"),
                bytes_per_second: grown("bytes"),
                credits_available: edge["creditsAvailable"].as_u64().unwrap_or_default(),
                starved_share: grown("starvedSeconds"),
            });
        }
    }
    rows.sort_by(|a, b| b.starved_share.total_cmp(&a.starved_share));
    rows
}

/// A line about an edge: its counters since the start.
pub(super) fn edge(edge: &Value) -> [String; 5] {
    [
        edge["name"].as_str().unwrap_or_default().to_owned(),
        edge["rows"].to_string(),
        edge["bytes"].to_string(),
        edge["creditsAvailable"].to_string(),
        format!("{:.1} s", edge["starvedSeconds"].as_f64().unwrap_or_default()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slow_edge_comes_first_and_a_new_start_counts_from_zero() {
        let status = |incarnation: u64, a: f64, b: f64| {
            json!({"namespace": "d", "name": "p", "incarnation": incarnation, "edges": [
                {"name": "a", "rows": 10, "bytes": 100, "creditsAvailable": 5, "starvedSeconds": a},
                {"name": "b", "rows": 20, "bytes": 200, "creditsAvailable": 0, "starvedSeconds": b},
            ]})
        };
        let seen = rows(&[status(1, 0.0, 1.0)], &[status(1, 0.2, 2.8)], Duration::from_secs(2));
        assert_eq!((seen[0].edge.as_str(), seen[0].rows_per_second), ("b", 0.0));
        assert!((seen[0].starved_share - 0.9).abs() < 1e-9);
        let seen = rows(&[status(1, 0.0, 9.0)], &[status(2, 0.2, 0.1)], Duration::from_secs(1));
        assert_eq!((seen[0].edge.as_str(), seen[0].rows_per_second), ("a", 10.0));
    }
}
