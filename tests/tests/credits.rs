//! Credits across processes: a slow sink holds back the fastest source, and nobody's memory grows; a diamond does not deadlock.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use conveyor_tests::cluster::{Cluster, Options, Process, now};
use serde_json::Value;
use tempfile::TempDir;

/// Memory that tasks of a sidecar may take together.
const BUDGET_MIB: u64 = 64;
/// What a process may take beside that.
const BESIDE_MIB: u64 = 64;
/// Time between two epochs, and the most that a barrier may take.
const INTERVAL_SECONDS: f64 = 4.0;
const EPOCHS: usize = 4;

fn cluster(sidecars: u32) -> (Cluster, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = vec![("MEMORY_MIB".to_owned(), BUDGET_MIB.to_string())];
    let options = Options { routers: 1, sidecars, settings, ..Options::default() };
    (Cluster::start(&options, folder.path()).expect("a cluster"), folder)
}

fn apply(cluster: &Cluster, folder: &Path, name: &str, spec: &str) {
    let text =
        format!("apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: {name}}}\nspec:\n{spec}");
    let manifest = folder.join(format!("{name}.yaml"));
    fs::write(&manifest, text).expect("the manifest is written");
    cluster.apply(&manifest).expect("the manifest is taken");
}

/// Memory of a process that no file backs, in bytes: what it has made, without its code.
fn memory(process: &Process) -> u64 {
    let id = process.id().expect("it runs");
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
    let line = status.lines().find(|l| l.starts_with("RssAnon:")).expect("the system says how much");
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a number") << 10
}

/// Sidecars that run a task.
fn workers(status: &Value) -> BTreeSet<String> {
    let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
    tasks.iter().filter_map(|t| t["sidecar"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_sink_of_a_megabyte_a_second_holds_back_the_fastest_source_within_everybodys_budget() {
    let (cluster, folder) = cluster(2);
    apply(
        &cluster,
        folder.path(),
        "slow",
        &format!(
            "  mode: streaming\n  checkpoint: {{interval: {INTERVAL_SECONDS}s}}\n  placement: {{spread: true}}\n  \
             source:\n    name: fast\n    generator: {{rows: 1000000000}}\n  steps:\n    - compute: {{twice: amount * 2}}\n  \
             sink:\n    name: slow\n    blackhole: {{bytesPerSecond: 1000000}}\n"
        ),
    );
    let began = now();
    let (mut took, mut most) = (BTreeMap::new(), BTreeMap::new());
    let status = cluster
        .wait("epochs are committed", |c| {
            for sidecar in &c.sidecars {
                let peak = most.entry(sidecar.name().to_owned()).or_insert(0);
                *peak = memory(sidecar).max(*peak);
            }
            let status = c.status("slow").ok()?;
            let epoch = status["epoch"].as_u64()?;
            took.insert(epoch, status["epochs"]["lastDurationSeconds"].as_f64()?);
            (took.len() > EPOCHS).then_some(status)
        })
        .expect("the pipeline goes on");
    eprintln!("after {:?}: epochs took {took:?}, memory {most:?}", began.elapsed());
    assert_eq!(workers(&status).len(), 2, "the source and the sink are two processes: {status:#}");
    let over: Vec<_> = most.iter().filter(|(_, m)| **m > (BUDGET_MIB + BESIDE_MIB) << 20).collect();
    assert!(over.is_empty(), "over their budget: {over:?}");
    // The first epoch also has the start of everything.
    let slow: Vec<_> = took.iter().skip(1).filter(|(_, s)| **s > 2.0 * INTERVAL_SECONDS).collect();
    assert!(slow.is_empty(), "barriers of these epochs were too slow: {slow:?}");
    let edges = status["edges"].as_array().expect("edges");
    let starved = edges.iter().filter_map(|e| e["starvedSeconds"].as_f64()).fold(0.0, f64::max);
    assert!(starved > 1.0, "the source waited for credit: {edges:?}");
}

#[test]
fn a_diamond_over_processes_with_windows_of_two_batches_ends() {
    let (cluster, folder) = cluster(4);
    let out = folder.path().join("out");
    // Rows of a kilobyte make batches of half a window, and a slow sink lets all of them wait.
    apply(
        &cluster,
        folder.path(),
        "diamond",
        &format!(
            "  mode: job\n  checkpoint: {{interval: 300ms}}\n  placement: {{spread: true}}\n  source:\n    name: rows\n    \
             generator: {{rows: 10000}}\n  steps:\n    - {{name: one, from: rows, compute: {{pad: \"repeat('x', 1000)\"}}}}\n    \
             - {{name: other, from: rows, compute: {{pad: \"repeat('y', 1000)\"}}}}\n    \
             - {{name: both, from: [one, other], select: [id, pad]}}\n  sink:\n    name: out\n    \
             file: {{path: '{}', format: ndjson, bytesPerSecond: 6000000}}\n",
            out.display()
        ),
    );
    let mut seen = BTreeSet::new();
    cluster
        .wait("the diamond ends", |c| {
            let status = c.status("diamond").ok()?;
            seen.append(&mut workers(&status));
            (status["phase"] == "finished").then_some(())
        })
        .expect("no deadlock");
    cluster.wait_phase("diamond", "finished").expect("all is published");
    assert!(seen.len() >= 3, "its branches are on several sidecars: {seen:?}");
    let mut lines: Vec<usize> = vec![0, 0];
    for file in fs::read_dir(&out).expect("the output").map(|e| e.expect("an entry").path()) {
        if file.extension().is_some_and(|e| e == "ndjson") {
            let text = fs::read_to_string(&file).expect("a file of the output");
            lines[0] += text.lines().filter(|l| l.contains("xxxx")).count();
            lines[1] += text.lines().filter(|l| l.contains("yyyy")).count();
        }
    }
    assert_eq!(lines, [10_000, 10_000], "each row by both ways");
}
