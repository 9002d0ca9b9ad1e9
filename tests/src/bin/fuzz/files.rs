//! File formats, read through the file source as a pipeline would.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use conveyor_connectors::registry;
use conveyor_model::connector::Registry;
use conveyor_model::plan::Mode;
use conveyor_model::predicate::Predicate;
use conveyor_model::source::{DiscoverRequest, Read, SourceContext};
use conveyor_model::{Clock, Positions};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::targets::Target;

/// Reads of one input at most; a file of a few kilobytes has far fewer.
const MOST_READS: usize = 100_000;

/// A clock that stands still: nothing here depends on time.
struct Still;

impl Clock for Still {
    fn wall_us(&self) -> i64 {
        0
    }

    fn monotonic_us(&self) -> u64 {
        0
    }
}

/// One target a format.
///
/// # Errors
/// When a corpus cannot be made.
pub(crate) fn targets() -> Result<Vec<Target>> {
    let ndjson =
        b"{\"a\":1,\"b\":0.5,\"s\":\"x\\u00e9\"}\n{\"a\":null,\"s\":\"\",\"n\":{\"d\":[1,2,{\"e\":true}]}}\n"
            .repeat(5);
    let csv = b"a,b,s\n1,0.5,x\n2,,\"quoted, \"\"text\"\"\"\n,1e9,2025-01-01T00:00:00Z\n".to_vec();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&ndjson)?;
    let zstd = zstd::encode_all(&ndjson[..], 1)?;
    let all = vec![
        ("ndjson", "x.ndjson", ndjson),
        ("csv", "x.csv", csv),
        ("lines", "x.txt", b"one\ntwo\r\n\xff three".to_vec()),
        ("gzip", "x.ndjson.gz", gzip.finish()?),
        ("zstd", "x.ndjson.zst", zstd),
        ("parquet", "x.parquet", parquet()?),
        ("ipc", "x.arrow", ipc()?),
        ("avro", "x.avro", avro()),
    ];
    all.into_iter().map(|(name, file, seed)| target(name, file, seed)).collect()
}

fn target(name: &'static str, file: &'static str, seed: Vec<u8>) -> Result<Target> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    let folder = TempDir::new().context("a temporary folder")?;
    let registry = registry();
    let run = move |input: &[u8]| {
        let path = folder.path().join(file);
        std::fs::write(&path, input).expect("the temporary folder takes a small file");
        // An error is an answer; only panics, hangs and memory count here.
        drop(read_all(&runtime, &registry, &path));
    };
    Ok(Target { name, corpus: vec![seed], run: Box::new(run) })
}

fn read_all(runtime: &Runtime, registry: &Registry, path: &Path) -> conveyor_model::Result<usize> {
    let connector = &registry.sources["file"];
    let config = serde_json::json!({"path": path.display().to_string()});
    let request = DiscoverRequest {
        name: "fuzz".into(),
        config: config.clone(),
        declared: Vec::new(),
        mode: Mode::Job,
    };
    runtime.block_on(async {
        let schema = connector.discover(&request).await?.schema;
        let context = SourceContext {
            name: "fuzz".into(),
            config,
            projection: schema.fields().iter().map(|f| f.name().clone()).collect(),
            full_schema: schema,
            predicate: Predicate::default(),
            mode: Mode::Job,
            ordered: false,
            subtask: 0,
            parallelism: 1,
            batch_rows: 8192,
            restore: Positions::default(),
            clock: Arc::new(Still),
        };
        let mut source = connector.open(context).await?;
        let mut rows = 0;
        for _ in 0..MOST_READS {
            match source.read().await? {
                Read::Rows(read) => rows += read.batch.num_rows(),
                Read::Idle => {}
                Read::End => return Ok(rows),
            }
        }
        panic!("the source did not end after {MOST_READS} reads");
    })
}

fn sample() -> RecordBatch {
    let a: ArrayRef = Arc::new(Int64Array::from_iter((0..100).map(|n| (n % 7 != 0).then_some(n))));
    let b: ArrayRef = Arc::new(Float64Array::from_iter_values((0..100).map(f64::from)));
    let s: ArrayRef = Arc::new(StringArray::from_iter_values((0..100).map(|n| format!("text number {n}"))));
    RecordBatch::try_from_iter([("a", a), ("b", b), ("s", s)]).expect("columns of one length")
}

fn parquet() -> Result<Vec<u8>> {
    let batch = sample();
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None)?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}

fn ipc() -> Result<Vec<u8>> {
    let batch = sample();
    let mut writer = arrow::ipc::writer::FileWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}

/// An object container file by hand: header with schema, one block of two records.
fn avro() -> Vec<u8> {
    let text = |out: &mut Vec<u8>, bytes: &[u8]| {
        long(out, bytes.len() as i64);
        out.extend_from_slice(bytes);
    };
    let mut out = b"Obj\x01".to_vec();
    long(&mut out, 2);
    text(&mut out, b"avro.schema");
    text(&mut out, br#"{"type":"record","name":"r","fields":[{"name":"a","type":"long"},{"name":"s","type":["null","string"]}]}"#);
    text(&mut out, b"avro.codec");
    text(&mut out, b"null");
    long(&mut out, 0);
    let sync = [7u8; 16];
    out.extend_from_slice(&sync);
    let mut block = Vec::new();
    long(&mut block, 42);
    long(&mut block, 1);
    text(&mut block, b"hello");
    long(&mut block, -1);
    long(&mut block, 0);
    long(&mut out, 2);
    text(&mut out, &block);
    out.extend_from_slice(&sync);
    out
}

/// Avro's zig-zag variable-length integer.
fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
