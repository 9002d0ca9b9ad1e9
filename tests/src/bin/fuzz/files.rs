//! File formats, read through the file source as a pipeline would.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::datatypes::{DataType, Field, Schema};
use conveyor_connectors::registry;
use conveyor_model::connector::Registry;
use conveyor_model::plan::Mode;
use conveyor_model::predicate::{Comparison, Condition, Literal, Predicate};
use conveyor_model::source::{DiscoverRequest, Read, SourceContext};
use conveyor_model::{Clock, PipelineId, Positions};
use serde_json::json;
use tempfile::TempDir;

use crate::seeds;
use crate::targets::{Answer, Depth, Target};

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
    let all = vec![
        ("ndjson", "x.ndjson", seeds::ndjson()),
        ("csv", "x.csv", seeds::csv()),
        ("lines", "x.txt", vec![b"one\ntwo\r\n\xff three".to_vec(), b"\n\n\0\r\r\n".repeat(9)]),
        ("gzip", "x.ndjson.gz", seeds::gzip()?),
        ("zstd", "x.ndjson.zst", seeds::zstd()?),
        ("parquet", "x.parquet", seeds::parquet()?),
        ("ipc", "x.arrow", seeds::ipc()?),
        ("avro", "x.avro", seeds::avro()?),
    ];
    all.into_iter().map(|(name, file, corpus)| target(name, file, corpus)).collect()
}

fn target(name: &'static str, file: &'static str, corpus: Vec<Vec<u8>>) -> Result<Target> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    let folder = TempDir::new().context("a temporary folder")?;
    let registry = registry();
    let run = move |input: &[u8]| {
        let path = folder.path().join(file);
        std::fs::write(&path, input).expect("the temporary folder takes a small file");
        // Some inputs in many pieces and small batches, some through a predicate.
        let (pieces, filtered) = (input.len().is_multiple_of(2), input.len().is_multiple_of(3));
        match runtime.block_on(read_all(&registry, &path, pieces, filtered)) {
            Ok(()) => Answer { depth: Depth::Whole, error: None },
            Err((depth, error)) => Answer { depth, error: Some(error.to_string()) },
        }
    };
    let binary = ["gzip", "zstd", "parquet", "ipc", "avro"].contains(&name);
    Ok(Target { name, corpus, binary, run: Box::new(run) })
}

async fn read_all(
    registry: &Registry,
    path: &Path,
    pieces: bool,
    filtered: bool,
) -> std::result::Result<(), (Depth, conveyor_model::Error)> {
    let connector = &registry.sources["file"];
    let config =
        json!({"path": path.display().to_string(), "rangeBytes": if pieces { 256 } else { 16 << 20 }});
    let request = DiscoverRequest {
        name: "fuzz".into(),
        config: config.clone(),
        declared: Vec::new(),
        mode: Mode::Job,
    };
    let compressed = path.extension().is_some_and(|extension| extension == "gz" || extension == "zst");
    let (schema, mut depth) = match connector.discover(&request).await {
        Ok(found) => (found.schema, Depth::Opened),
        // A plan could know the columns from another file; then a damaged one is read as far as it goes.
        Err(_) if compressed => {
            (Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)])), Depth::Refused)
        }
        Err(e) => return Err((Depth::Refused, e)),
    };
    let mut predicate = Predicate::default();
    if filtered && schema.field_with_name("a").is_ok_and(|f| f.data_type().is_integer()) {
        let (column, value) = ("a".to_owned(), Literal::Int(30));
        predicate.all.push(Condition::Compare { column, op: Comparison::Gt, value });
    }
    let context = SourceContext {
        pipeline: PipelineId::new("default", "case"),
        name: "fuzz".into(),
        config,
        projection: schema.fields().iter().map(|f| f.name().clone()).collect(),
        full_schema: schema,
        predicate,
        mode: Mode::Job,
        ordered: false,
        subtask: 0,
        parallelism: 1,
        batch_rows: if pieces { 7 } else { 8192 },
        restore: Positions::default(),
        clock: Arc::new(Still),
    };
    let mut source = connector.open(context).await.map_err(|e| (depth, e))?;
    for _ in 0..MOST_READS {
        match source.read().await {
            Ok(Read::Rows(read)) if read.batch.num_rows() + read.rejected.len() > 0 => depth = Depth::Rows,
            Ok(Read::Rows(_) | Read::Idle) => {}
            Ok(Read::End) => return Ok(()),
            Err(e) => return Err((depth, e)),
        }
    }
    panic!("the source did not end after {MOST_READS} reads");
}
