//! Sinks.

use std::io::Write;
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use conveyor_model::plan::Mode;
use conveyor_model::sink::SinkConnector;
use futures::FutureExt;
use serde_json::{Value, json};

use super::{read_path, rows, text};
use crate::blackhole::Blackhole;
use crate::conformance::{SinkCase, check_sink};
use crate::console::Console;
use crate::file::FileSinkConnector;
use crate::plain::Output;
use crate::stdio::Stdout;

fn batches() -> Vec<RecordBatch> {
    (0..6).map(|b| rows(b * 10, 10)).collect()
}

/// Runs the suite on a file sink whose output is read back with `read`.
async fn conforms(config: Value, mode: Mode, read: Value) {
    let back = move || {
        let read = read.clone();
        async move { read_path(&read).await }.boxed()
    };
    let sink = Arc::new(FileSinkConnector::default());
    check_sink(&SinkCase::new(sink, config, mode, batches(), Arc::new(back))).await;
}

#[tokio::test]
async fn folders_of_every_format_conform() {
    for (format, extension) in
        [("ndjson", "ndjson"), ("csv", "csv"), ("parquet", "parquet"), ("ipc", "arrow"), ("avro", "avro")]
    {
        let dir = tempfile::tempdir().unwrap();
        let read = json!({"path": format!("{}/*.{extension}", text(dir.path()))});
        conforms(json!({"path": text(dir.path()), "format": format}), Mode::Streaming, read).await;
    }
}

#[tokio::test]
async fn compressed_folders_conform() {
    for (format, codec, extension) in [
        ("ndjson", "gzip", "ndjson.gz"),
        ("csv", "zstd", "csv.zst"),
        ("parquet", "snappy", "parquet"),
        ("ipc", "lz4", "arrow"),
        ("ipc", "zstd", "arrow"),
        ("avro", "snappy", "avro"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let read = json!({"path": format!("{}/*.{extension}", text(dir.path()))});
        let config = json!({"path": text(dir.path()), "format": format, "compression": codec});
        conforms(config, Mode::Streaming, read).await;
    }
}

#[tokio::test]
async fn one_file_conforms() {
    for name in ["x.ndjson", "x.csv", "x.csv.gz", "x.ndjson.zst", "x.parquet", "x.arrow", "x.avro"] {
        let dir = tempfile::tempdir().unwrap();
        let path = text(&dir.path().join(name));
        conforms(json!({"path": path}), Mode::Job, json!({"path": path})).await;
        // Nothing but the file and the ledger is left.
        let left: Vec<_> = walk(dir.path()).into_iter().filter(|p| !p.contains("/manifests/")).collect();
        assert_eq!(left, [path]);
    }
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(text(&path));
        }
    }
    files
}

#[tokio::test]
async fn partitions_roll_and_are_hive_folders() {
    let dir = tempfile::tempdir().unwrap();
    let sink = FileSinkConnector::default();
    let config =
        json!({"path": text(dir.path()), "partitionBy": ["name"], "rollSize": 1, "format": "ndjson"});
    let batch = rows(0, 14);
    let context = conveyor_model::sink::SinkContext {
        pipeline: conveyor_model::PipelineId::new("default", "p"),
        name: "s".into(),
        config,
        schema: batch.schema(),
        incarnation: conveyor_model::Incarnation(1),
        mode: Mode::Job,
        delivery: conveyor_model::plan::Delivery::AtLeastOnce,
        subtask: 0,
        parallelism: 1,
        forgotten: None,
        clock: Arc::new(crate::conformance::TestClock::default()),
    };
    let mut open = sink.open(context).await.unwrap();
    let ids = conveyor_model::origin::RowIds::Range { start: 0, len: 14 };
    let origin = conveyor_model::Origin::new("s".into(), "x".into(), ids);
    assert!(open.write(conveyor_model::Batch::new(batch, origin)).await.unwrap().is_empty());
    // At least once: there at once, without a committer.
    assert!(open.prepare(conveyor_model::Epoch(1)).await.unwrap().is_empty());
    let files: Vec<_> = walk(dir.path());
    assert_eq!(files.len(), 7, "{files:?}");
    assert!(files.iter().all(|f| f.contains("/name=name ") && f.ends_with(".ndjson")), "{files:?}");
    let read = read_path(&json!({"path": format!("{}/*/*.ndjson", text(dir.path()))})).await;
    assert_eq!(read.len(), 14);
    assert!(read.iter().all(|r| !r.contains("name=")), "partition columns are in the folders' names");
}

#[test]
fn impossible_settings_are_refused_with_a_way_out() {
    let sink = FileSinkConnector::default();
    let schema = rows(0, 1).schema();
    let code = |config: Value, mode| {
        let error = sink.check(&config, &schema, mode).unwrap_err();
        assert!(!error.message().is_empty());
        error.code()
    };
    assert_eq!(code(json!({"path": "out/x.csv"}), Mode::Streaming), "single-file-streaming");
    assert_eq!(code(json!({"path": "out/x.parquet"}), Mode::Streaming), "single-file-streaming");
    assert_eq!(
        code(json!({"path": "out/x.csv", "partitionBy": ["id"]}), Mode::Job),
        "single-file-partitions"
    );
    assert_eq!(code(json!({"path": "out", "partitionBy": ["ids"]}), Mode::Job), "column-unknown");
    assert_eq!(
        code(json!({"path": "out", "partitionBy": ["id", "name", "amount"]}), Mode::Job),
        "no-columns"
    );
    assert_eq!(
        code(json!({"path": "out", "format": "parquet", "compression": "gzip"}), Mode::Job),
        "compression-not-possible"
    );
    assert!(sink.check(&json!({"path": "out", "format": "parquet"}), &schema, Mode::Streaming).is_ok());
}

#[tokio::test]
async fn an_unwritable_target_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "in the way").unwrap();
    let config = json!({"path": text(&path.join("out"))});
    let context = |config| conveyor_model::sink::SinkContext {
        pipeline: conveyor_model::PipelineId::new("default", "p"),
        name: "s".into(),
        config,
        schema: rows(0, 1).schema(),
        incarnation: conveyor_model::Incarnation(1),
        mode: Mode::Job,
        delivery: conveyor_model::plan::Delivery::ExactlyOnce,
        subtask: 0,
        parallelism: 1,
        forgotten: None,
        clock: Arc::new(crate::conformance::TestClock::default()),
    };
    let mut sink = FileSinkConnector::default().open(context(config)).await.unwrap();
    let ids = conveyor_model::origin::RowIds::Range { start: 0, len: 1 };
    let origin = conveyor_model::Origin::new("s".into(), "x".into(), ids);
    let error = sink.write(conveyor_model::Batch::new(rows(0, 1), origin)).await.unwrap_err();
    assert!(error.to_string().contains("/file/out"), "{error}");
    assert_eq!(error.kind(), conveyor_model::Kind::BadInput, "{error:?}");
}

/// A stream that keeps what is written to it.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Kept {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn standard_output_conforms() {
    let kept = Kept::default();
    let sink = Arc::new(Stdout::to(Output::new(kept.clone())));
    let back = kept.clone();
    let back = move || {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.csv");
        std::fs::write(&path, back.text()).unwrap();
        async move {
            let rows = read_path(&json!({"path": text(&path)})).await;
            drop(dir);
            rows
        }
        .boxed()
    };
    let case = SinkCase::new(sink, json!({"format": "csv"}), Mode::Job, batches(), Arc::new(back));
    check_sink(&case).await;
    assert_eq!(kept.text().matches("id,name,amount").count(), 1, "one header");
}

#[tokio::test]
async fn standard_output_conforms_as_json_too() {
    let kept = Kept::default();
    let sink = Arc::new(Stdout::to(Output::new(kept.clone())));
    let back = move || {
        let kept = kept.clone();
        async move {
            let rows = kept.text();
            let rows = rows.lines().map(|line| {
                let row: Value = serde_json::from_str(line).unwrap();
                let amount = row.get("amount").map_or_else(|| "null".to_owned(), ToString::to_string);
                format!("id={}|name={}|amount={amount}", row["id"], row["name"].as_str().unwrap())
            });
            rows.collect()
        }
        .boxed()
    };
    check_sink(&SinkCase::new(sink, json!({}), Mode::Streaming, batches(), Arc::new(back))).await;
}

#[tokio::test]
async fn the_console_shows_the_first_rows_and_counts_all() {
    let kept = Kept::default();
    let sink = Arc::new(Console::to(Output::new(kept.clone())));
    let back = kept.clone();
    let limit = 60;
    let back = move || {
        let text = back.text();
        let rows = text.lines().filter(|l| l.starts_with('|') && !l.contains("| id "));
        let rows: Vec<String> = rows
            .map(|l| {
                let cells: Vec<&str> = l.trim_matches('|').split('|').map(str::trim).collect();
                format!("id={}|name={}|amount={}", cells[0], cells[1], cells[2])
            })
            .collect();
        async move { rows }.boxed()
    };
    let case = SinkCase::new(sink, json!({"limit": limit}), Mode::Job, batches(), Arc::new(back));
    check_sink(&case).await;
    expect_test::expect!["case: 60 rows"].assert_eq(kept.text().lines().last().unwrap());
}

#[tokio::test]
async fn a_black_hole_conforms() {
    let sink: Arc<dyn SinkConnector> = Arc::new(Blackhole);
    for config in [json!({}), json!({"bytesPerSecond": 1 << 30})] {
        check_sink(&SinkCase::blind(sink.clone(), config, Mode::Streaming, batches())).await;
    }
    assert!(sink.check(&json!({"bytesPerSecond": "fast"}), &rows(0, 1).schema(), Mode::Job).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_takes_only_so_much_a_second() {
    let config = json!({"bytesPerSecond": 1000});
    let batch = rows(0, 100);
    let context = conveyor_model::sink::SinkContext {
        pipeline: conveyor_model::PipelineId::new("default", "p"),
        name: "s".into(),
        config,
        schema: batch.schema(),
        incarnation: conveyor_model::Incarnation(1),
        mode: Mode::Job,
        forgotten: None,
        delivery: conveyor_model::plan::Delivery::ExactlyOnce,
        subtask: 0,
        parallelism: 1,
        clock: Arc::new(crate::conformance::TestClock::default()),
    };
    let mut hole = Blackhole.open(context).await.unwrap();
    let began = tokio::time::Instant::now();
    for _ in 0..5 {
        let ids = conveyor_model::origin::RowIds::Range { start: 0, len: 100 };
        let origin = conveyor_model::Origin::new("s".into(), "x".into(), ids);
        assert!(hole.write(conveyor_model::Batch::new(batch.clone(), origin)).await.unwrap().is_empty());
    }
    // The last batch is taken before it is paid for.
    let paid = hole.bytes() * 4 / 5;
    let seconds = began.elapsed().as_secs_f64();
    assert!(paid > 4000 && (seconds - paid as f64 / 1000.0).abs() < 0.1, "{paid} bytes in {seconds} s");
}
