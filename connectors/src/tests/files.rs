//! What the file sink makes of its settings: files that roll, partitions in every format, a bounded rate; and one columnar file
//! out of many parts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use conveyor_model::manifest::StagedRef;
use conveyor_model::plan::{Delivery, Mode};
use conveyor_model::sink::{Sink, SinkConnector, SinkContext};
use conveyor_model::{Batch, Clock, Epoch, Incarnation, Origin, PipelineId};
use serde_json::{Value, json};

use super::{read_path, rows, text};
use crate::conformance::{TestClock, show};
use crate::file::FileSinkConnector;

const FORMATS: [(&str, &str); 5] =
    [("ndjson", "ndjson"), ("csv", "csv"), ("parquet", "parquet"), ("ipc", "arrow"), ("avro", "avro")];

/// A clock that a test moves.
#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn wall_us(&self) -> i64 {
        0
    }

    fn monotonic_us(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

fn context(config: Value, clock: Arc<dyn Clock>) -> SinkContext {
    SinkContext {
        pipeline: PipelineId::new("default", "p"),
        name: "s".into(),
        config,
        schema: rows(0, 1).schema(),
        incarnation: Incarnation(1),
        mode: Mode::Job,
        delivery: Delivery::ExactlyOnce,
        forgotten: None,
        subtask: 0,
        parallelism: 1,
        clock,
    }
}

async fn open(config: Value, clock: Arc<dyn Clock>) -> Box<dyn Sink> {
    FileSinkConnector::default().open(context(config, clock)).await.unwrap()
}

async fn write(sink: &mut dyn Sink, from: i64, len: i64) {
    let ids = conveyor_model::origin::RowIds::Range { start: from as u64, len: len as usize };
    let batch = Batch::new(rows(from, len), Origin::new("s".into(), "x".into(), ids));
    assert!(sink.write(batch).await.unwrap().is_empty());
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort_unstable();
    rows
}

/// Rows in each staged object.
fn sizes(staged: &[StagedRef]) -> Vec<u64> {
    staged.iter().map(|s| s.rows).collect()
}

#[tokio::test]
async fn files_roll_by_time() {
    for (format, _) in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(Hand::default());
        let config = json!({"path": text(dir.path()), "format": format, "rollTime": 1000});
        let mut sink = open(config, clock.clone()).await;
        write(&mut *sink, 0, 10).await;
        clock.0.store(999_999, Ordering::SeqCst);
        write(&mut *sink, 10, 10).await;
        clock.0.store(1_000_000, Ordering::SeqCst);
        // This write finds the file a second old, and is its last.
        write(&mut *sink, 20, 10).await;
        write(&mut *sink, 30, 10).await;
        assert_eq!(sizes(&sink.prepare(Epoch(1)).await.unwrap()), [30, 10], "{format}");
    }
}

#[tokio::test]
async fn files_roll_by_size() {
    for (format, _) in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        let config =
            json!({"path": text(dir.path()), "format": format, "rollSize": 20_000, "compression": "none"});
        let mut sink = open(config, Arc::new(TestClock::default())).await;
        for from in (0..10_000).step_by(500) {
            write(&mut *sink, from, 500).await;
        }
        let staged = sink.prepare(Epoch(1)).await.unwrap();
        assert_eq!(staged.iter().map(|s| s.rows).sum::<u64>(), 10_000, "{format}");
        // About 20 bytes a row: several files, and each the better part of the size or more, but the last.
        assert!((3..=20).contains(&staged.len()), "{format}: {staged:?}");
        assert!(staged.iter().all(|s| s.bytes < 60_000), "{format}: {staged:?}");
    }
}

#[tokio::test]
async fn partitions_are_folders_in_every_format() {
    for (format, extension) in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"path": text(dir.path()), "format": format, "partitionBy": ["name"]});
        let clock = Arc::new(TestClock::default());
        let mut sink = open(config.clone(), clock.clone()).await;
        write(&mut *sink, 0, 70).await;
        let staged = sink.prepare(Epoch(1)).await.unwrap();
        assert_eq!(sizes(&staged), [10; 7], "{format}");
        let mut committer = FileSinkConnector::default().committer(context(config, clock)).await.unwrap();
        committer.commit(Epoch(1), &staged, true).await.unwrap();
        for name in 0..7 {
            let path = format!("{}/name=name {name}/*.{extension}", text(dir.path()));
            let seen = sorted(read_path(&json!({"path": path})).await);
            let all =
                show(&rows(0, 70)).into_iter().filter(|row| row.contains(&format!("name=name {name}|")));
            let all = all.map(|row| row.replace(&format!("|name=name {name}|"), "|"));
            assert_eq!(seen, sorted(all.collect()), "{format}: the column stands in the folder's name");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"path": text(dir.path()), "format": "ndjson", "bytesPerSecond": 1000});
    let mut sink = open(config, Arc::new(TestClock::default())).await;
    let began = tokio::time::Instant::now();
    for epoch in 1..=5 {
        write(&mut *sink, 0, 100).await;
        sink.prepare(Epoch(epoch)).await.unwrap();
    }
    // The last bytes are taken before they are paid for.
    let paid = (sink.bytes() * 4 / 5) as f64 / 1000.0;
    let took = began.elapsed().as_secs_f64();
    assert!(paid > 10.0 && (took - paid).abs() < 0.5, "{took} s for what should take {paid} s");
}

#[tokio::test]
async fn parts_of_several_epochs_become_one_columnar_file() {
    for (format, extension) in &FORMATS[2..] {
        let dir = tempfile::tempdir().unwrap();
        let path = text(&dir.path().join(format!("all.{extension}")));
        let config = json!({"path": path, "rollSize": 1000});
        let clock = Arc::new(TestClock::default());
        let mut committer =
            FileSinkConnector::default().committer(context(config.clone(), clock.clone())).await.unwrap();
        let mut sink = open(config, clock).await;
        for epoch in 1..=4 {
            let from = (epoch as i64 - 1) * 1000;
            for batch in 0..10 {
                write(&mut *sink, from + batch * 100, 100).await;
            }
            let staged = sink.prepare(Epoch(epoch)).await.unwrap();
            assert!(!std::fs::exists(&path).unwrap(), "{format}: seen before the end");
            committer.commit(Epoch(epoch), &staged, epoch == 4).await.unwrap();
        }
        let seen = read_path(&json!({"path": path})).await;
        assert_eq!(seen, show(&rows(0, 4000)), "{format}: all rows, in their order");
    }
}

#[tokio::test]
async fn one_columnar_file_of_no_rows_is_a_good_file() {
    for (format, extension) in &FORMATS[2..] {
        let dir = tempfile::tempdir().unwrap();
        let path = text(&dir.path().join(format!("none.{extension}")));
        let clock = Arc::new(TestClock::default());
        let sink = FileSinkConnector::default();
        let mut committer = sink.committer(context(json!({"path": path}), clock)).await.unwrap();
        committer.commit(Epoch(1), &[], true).await.unwrap();
        assert_eq!(read_path(&json!({"path": path})).await, Vec::<String>::new(), "{format}");
        assert!(std::fs::metadata(&path).unwrap().len() > 0, "{format}: it has a schema");
    }
}
