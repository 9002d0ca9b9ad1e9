//! The flights example, run as the README says, and its complete output compared with DuckDB's answer from the same files.

use conveyor_tests::{examples, oracle, workspace};

#[test]
fn the_output_is_what_duckdb_says() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let manifest = examples::moved("flights", out.path()).expect("the manifest is moved");
    let said = examples::run(&manifest).expect("the example runs");
    assert!(said.contains("27004"), "the summary counts the rows read: {said}");
    let data = workspace::root().join("examples").join("flights").join("data");
    oracle::judge("flights.py", &[&data, out.path()]).expect("the same rows");

    // Run again: the job is finished, and nothing is written twice.
    examples::run(&manifest).expect("a finished job ends at once");
    oracle::judge("flights.py", &[&data, out.path()]).expect("still the same rows");
}
