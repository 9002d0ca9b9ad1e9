//! The file sink stopped at each of its crash points: whatever step was the last, every row is there once in the end.
//!
//! `cargo test -p conveyor-connectors --features failpoints,conformance --test failpoints`
#![expect(clippy::unwrap_used, reason = "a test")]

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use conveyor_connectors::conformance::TestClock;
use conveyor_connectors::file::{FAILPOINTS, FileSinkConnector};
use conveyor_model::manifest::StagedRef;
use conveyor_model::origin::RowIds;
use conveyor_model::plan::{Delivery, Mode};
use conveyor_model::sink::{SinkConnector, SinkContext};
use conveyor_model::{Batch, Epoch, Incarnation, Origin, PipelineId};
use futures::FutureExt;
use serde_json::json;

const EPOCHS: u64 = 4;
const ROWS: i64 = 10;

fn rows(epoch: u64) -> Batch {
    let first = (epoch as i64 - 1) * ROWS;
    let ids = Int64Array::from_iter_values(first..first + ROWS);
    let rows = RecordBatch::try_from_iter([("id", Arc::new(ids) as _)]).unwrap();
    let ids = RowIds::Range { start: first as u64, len: ROWS as usize };
    Batch::new(rows, Origin::new("s".into(), "x".into(), ids))
}

fn context(path: &str, incarnation: u64) -> SinkContext {
    SinkContext {
        pipeline: PipelineId::new("default", "p"),
        name: "out".into(),
        config: json!({"path": path, "format": "ndjson"}),
        schema: rows(1).schema(),
        incarnation: Incarnation(incarnation),
        mode: Mode::Job,
        delivery: Delivery::ExactlyOnce,
        subtask: 0,
        parallelism: 1,
        forgotten: None,
        clock: Arc::new(TestClock::default()),
    }
}

/// What survives a crash: what the log knows.
#[derive(Default)]
struct Log {
    /// The newest committed epoch and what it staged.
    committed: Option<(u64, Vec<StagedRef>)>,
}

/// One life of the process. An error or a panic ends it.
async fn live(path: &str, incarnation: u64, log: &mut Log) -> conveyor_model::Result<()> {
    let connector = FileSinkConnector::default();
    let mut committer = connector.committer(context(path, incarnation)).await?;
    let mut next = 1;
    if let Some((epoch, staged)) = &log.committed {
        committer.commit(Epoch(*epoch), staged, *epoch == EPOCHS).await?;
        next = epoch + 1;
    }
    let mut sink = connector.open(context(path, incarnation)).await?;
    for epoch in next..=EPOCHS {
        assert!(sink.write(rows(epoch)).await?.is_empty());
        let staged = sink.prepare(Epoch(epoch)).await?;
        log.committed = Some((epoch, staged.clone()));
        committer.commit(Epoch(epoch), &staged, epoch == EPOCHS).await?;
    }
    Ok(())
}

fn ids(folder: &Path) -> Vec<i64> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            for line in std::fs::read_to_string(path).unwrap().lines() {
                let row: serde_json::Value = serde_json::from_str(line).unwrap();
                ids.push(row["id"].as_i64().unwrap());
            }
        }
    }
    ids.sort_unstable();
    ids
}

#[test]
fn every_crash_point_leaves_every_row_once() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let scenario = fail::FailScenario::setup();
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let expected: Vec<i64> = (0..EPOCHS as i64 * ROWS).collect();
    let mut reached = std::collections::BTreeSet::new();
    for single in [false, true] {
        for point in FAILPOINTS {
            for skip in 0..4 {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join(if single { "x.ndjson" } else { "" });
                let path = path.to_str().unwrap();
                let action = if skip == 0 { "1*panic".to_owned() } else { format!("{skip}*off->1*panic") };
                fail::cfg(point, &action).unwrap();
                let mut log = Log::default();
                let mut lives = 1;
                while !runtime.block_on(async {
                    let life = AssertUnwindSafe(live(path, lives, &mut log)).catch_unwind().await;
                    matches!(life, Ok(Ok(())))
                }) {
                    reached.insert(point);
                    lives += 1;
                    assert!(lives < 10, "{point} after {skip}: the sink does not recover");
                }
                fail::remove(point);
                let seen = ids(dir.path());
                if seen != expected {
                    std::panic::set_hook(quiet);
                    panic!("{point} after {skip}, one file {single}: {seen:?}");
                }
            }
        }
    }
    std::panic::set_hook(quiet);
    scenario.teardown();
    let missed: Vec<_> = FAILPOINTS.iter().filter(|p| !reached.contains(*p)).collect();
    assert!(missed.is_empty(), "points that no run came to: {missed:?}");
}
