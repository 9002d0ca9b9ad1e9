//! What a run says at its end.

use conveyor_engine::{NodeSummary, Summary};
use conveyor_model::{PipelineId, RowCounters};
use serde_json::json;

/// The closing summary for people, several lines.
pub fn text(pipeline: &PipelineId, summary: &Summary) -> String {
    let how = match (summary.finished, summary.drained) {
        (true, _) => "finished",
        (false, true) => "drained",
        (false, false) => "stopped",
    };
    let sum = |of: fn(&NodeSummary) -> u64| of_kind(summary, "source").map(of).sum::<u64>();
    let read = sum(|n| n.counters.rows_in);
    if summary.finished && read == 0 && sum(|n| n.totals.rows_in) > 0 {
        return finished_before(pipeline, summary);
    }
    let seconds = summary.elapsed.as_secs_f64();
    let mut out =
        format!("pipeline {pipeline} {how} in {seconds:.2} s, {} epochs committed\n", summary.epochs);
    for kind in ["source", "stage", "sink"] {
        for node in of_kind(summary, kind) {
            out.push_str(&node_line(node, &node.counters));
        }
    }
    let dead: u64 = summary.dead_letters_by_code.values().sum();
    out.push_str(&format!("  dead letters {dead}"));
    if dead > 0 {
        let codes: Vec<_> =
            summary.dead_letters_by_code.iter().map(|(code, n)| format!("{code} {n}")).collect();
        out.push_str(&format!(" ({})", codes.join(", ")));
    }
    let rate = if seconds > 0.0 { read as f64 / seconds } else { 0.0 };
    out.push_str(&format!("\n  {} rows/s read", human(rate)));
    out
}

fn finished_before(pipeline: &PipelineId, summary: &Summary) -> String {
    let mut out =
        format!("pipeline {pipeline} had finished before, and its sources hold nothing new. In all:");
    for node in &summary.nodes {
        out.push('\n');
        out.push_str(node_line(node, &node.totals).trim_end());
    }
    out.push_str("\n  --reset runs it anew from the start");
    out
}

fn of_kind<'a>(summary: &'a Summary, kind: &'a str) -> impl Iterator<Item = &'a NodeSummary> {
    summary.nodes.iter().filter(move |n| n.kind == kind)
}

fn node_line(node: &NodeSummary, c: &RowCounters) -> String {
    let mut line =
        format!("  {:<6} {:<24} in {:>10}  out {:>10}", node.kind, node.name, c.rows_in, c.rows_out);
    if c.expanded > 0 {
        line.push_str(&format!("  added {:>10}", c.expanded));
    }
    line.push_str(&format!("  filtered {:>10}  dead {:>8}", c.filtered, c.dead_letters));
    if c.bytes > 0 {
        line.push_str(&format!("  {}B", human(c.bytes as f64)));
    }
    line.push('\n');
    line
}

/// The closing summary as a stable JSON document.
pub fn json(pipeline: &PipelineId, summary: &Summary) -> serde_json::Value {
    let nodes: Vec<_> = summary
        .nodes
        .iter()
        .map(|n| json!({"name": n.name, "kind": n.kind, "thisRun": n.counters, "total": n.totals}))
        .collect();
    json!({
        "pipeline": pipeline.to_string(),
        "finished": summary.finished,
        "drained": summary.drained,
        "epochs": summary.epochs,
        "seconds": summary.elapsed.as_secs_f64(),
        "nodes": nodes,
        "deadLettersByCode": summary.dead_letters_by_code,
    })
}

/// `1.2 M`, `34.5 k`: three digits and a metric prefix.
pub fn human(value: f64) -> String {
    for (unit, word) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value >= unit {
            return format!("{:.2} {word}", value / unit);
        }
    }
    format!("{value:.0} ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(human(12.0), "12 ");
        assert_eq!(human(27_004.0), "27.00 k");
        assert_eq!(human(1.5e9), "1.50 G");
    }

    fn summary(counters: RowCounters, totals: RowCounters) -> Summary {
        let node = |kind, name: &str| NodeSummary { name: name.into(), kind, counters, totals };
        Summary {
            finished: true,
            drained: false,
            epochs: 1,
            nodes: vec![node("source", "in"), node("sink", "out")],
            dead_letters_by_code: BTreeMap::new(),
            elapsed: Duration::from_secs(1),
        }
    }

    #[test]
    fn rows_that_a_step_has_added_are_shown_where_there_are_any() {
        let id = PipelineId::new("default", "p");
        let rows =
            |expanded| RowCounters { rows_in: 8, rows_out: 8 + expanded, expanded, ..RowCounters::default() };
        let text = text_of(&id, rows(7));
        assert!(text.contains("in          8  out         15  added          7  filtered"), "{text}");
        assert!(!text_of(&id, rows(0)).contains("added"));
    }

    fn text_of(id: &PipelineId, rows: RowCounters) -> String {
        text(id, &summary(rows, rows))
    }

    #[test]
    fn a_job_that_finds_nothing_new_shows_what_it_has_done_in_all() {
        let id = PipelineId::new("default", "p");
        let before = RowCounters { rows_in: 8, rows_out: 8, ..RowCounters::default() };
        let text = text(&id, &summary(RowCounters::default(), before));
        assert!(text.contains("had finished before") && text.contains("in          8"), "{text}");
        let first = text_of(&id, RowCounters::default());
        assert!(first.contains("finished in 1.00 s"), "no rows ever: {first}");
    }
}
