//! The smaller examples: each is run as it stands, and its complete output compared with DuckDB's or Python's answer.

use conveyor_tests::{examples, oracle, workspace};

/// Runs `examples/<name>` and lets `tests/oracle/<script>` judge.
fn agrees(name: &str, script: &str) {
    let out = tempfile::tempdir().expect("a temporary folder");
    let manifest = examples::moved(name, out.path()).expect("the manifest is moved");
    examples::run(&manifest).expect("the example runs");
    let data = workspace::root().join("examples").join(name).join("data");
    oracle::judge(script, &[&data, out.path()]).expect("the same rows");
}

#[test]
fn logs_are_parsed_masked_and_freed_of_duplicates() {
    agrees("logs-ndjson", "logs_ndjson.py");
}

#[test]
fn orders_of_two_kinds_become_one_table() {
    agrees("orders", "orders.py");
}

#[test]
fn nexmark_queries_side_by_side() {
    agrees("nexmark", "nexmark.py");
}
