//! Hostile bytes in the columnar formats: whatever is written over a file, the reader gives rows or an error, soon, without
//! a panic that is not caught and in bounded memory. A process of its own, so that its peak of memory can be looked at.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow::datatypes::Int64Type;
use arrow_avro::compression::CompressionCodec;
use arrow_avro::writer::format::AvroOcfFormat;
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use conveyor_connectors::registry;
use conveyor_model::plan::Mode;
use conveyor_model::predicate::{Comparison, Condition, Literal, Predicate};
use conveyor_model::source::{DiscoverRequest, Read, SourceContext};
use conveyor_model::{Clock, PipelineId, Positions, Result};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{WriterProperties, WriterVersion};
use proptest::prelude::*;
use serde_json::json;

/// An answer takes longer only if the reader hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most memory of the whole process, in MiB.
const MOST_MIB: u64 = 1024;

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn wall_us(&self) -> i64 {
        0
    }

    fn monotonic_us(&self) -> u64 {
        0
    }
}

fn sample() -> RecordBatch {
    let id: ArrayRef = Arc::new(Int64Array::from_iter((0..200).map(|n| (n % 7 != 0).then_some(n * 1000))));
    let name: ArrayRef =
        Arc::new(StringArray::from_iter_values((0..200).map(|n| format!("name {}", n % 11))));
    let list = (0..200).map(|n| (n % 4 != 0).then(|| (0..n % 3).map(Some).collect::<Vec<_>>()));
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>(list);
    let inner = StructArray::try_from(vec![("x", id.clone()), ("y", name.clone())]).unwrap();
    let columns = [
        ("id", id, true),
        ("name", name, true),
        ("list", Arc::new(list) as ArrayRef, true),
        ("inner", Arc::new(inner) as ArrayRef, true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// Good files of each format and codec, with the extension that tells the format.
fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let batch = sample();
    let mut all = Vec::new();
    for (codec, version) in [
        (Compression::UNCOMPRESSED, WriterVersion::PARQUET_1_0),
        (Compression::SNAPPY, WriterVersion::PARQUET_2_0),
        (Compression::ZSTD(Default::default()), WriterVersion::PARQUET_1_0),
        (Compression::GZIP(Default::default()), WriterVersion::PARQUET_2_0),
        (Compression::LZ4_RAW, WriterVersion::PARQUET_1_0),
    ] {
        let properties = WriterProperties::builder()
            .set_compression(codec)
            .set_writer_version(version)
            .set_max_row_group_row_count(Some(80));
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.build())).unwrap();
        writer.write(&batch).unwrap();
        all.push(("parquet", writer.into_inner().unwrap()));
    }
    for codec in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
        let options = IpcWriteOptions::default().try_with_compression(codec).unwrap();
        let mut writer = FileWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
        writer.write(&batch.slice(0, 90)).unwrap();
        writer.write(&batch.slice(90, 110)).unwrap();
        all.push(("arrow", writer.into_inner().unwrap()));
    }
    let codecs = [
        None,
        Some(CompressionCodec::Deflate),
        Some(CompressionCodec::Snappy),
        Some(CompressionCodec::ZStandard),
    ];
    for codec in codecs {
        let writer =
            arrow_avro::writer::WriterBuilder::new(batch.schema().as_ref().clone()).with_compression(codec);
        let mut writer = writer.build::<_, AvroOcfFormat>(Vec::new()).unwrap();
        writer.write(&batch.slice(0, 90)).unwrap();
        writer.write(&batch.slice(90, 110)).unwrap();
        writer.finish().unwrap();
        all.push(("avro", writer.into_inner()));
    }
    all
}

/// Reads a file, as a whole or only where `a` is above 30.
async fn rows(path: String, filtered: bool) -> Result<usize> {
    let connector = registry().sources["file"].clone();
    let config = json!({"path": path, "rangeBytes": 4096});
    let request =
        DiscoverRequest { name: "s".into(), config: config.clone(), declared: Vec::new(), mode: Mode::Job };
    let schema = connector.discover(&request).await?.schema;
    let mut predicate = Predicate::default();
    if filtered {
        let (column, value) = ("a".to_owned(), Literal::Int(30));
        predicate.all.push(Condition::Compare { column, op: Comparison::Gt, value });
    }
    let context = SourceContext {
        pipeline: PipelineId::new("default", "case"),
        name: "s".into(),
        config,
        projection: schema.fields().iter().map(|f| f.name().clone()).collect(),
        full_schema: schema,
        predicate,
        mode: Mode::Job,
        ordered: false,
        subtask: 0,
        parallelism: 1,
        batch_rows: 64,
        restore: Positions::new(),
        clock: Arc::new(Still),
    };
    let mut source = connector.open(context).await?;
    let mut rows = 0;
    loop {
        match source.read().await? {
            Read::Rows(read) => rows += read.batch.num_rows(),
            Read::Idle => {}
            Read::End => return Ok(rows),
        }
    }
}

/// Reads bytes as a file of this extension, on a thread that may hang.
fn answer(extension: &str, bytes: &[u8], filtered: bool) -> Result<usize> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(format!("a.{extension}"));
    std::fs::write(&path, bytes).unwrap();
    let (send, receive) = channel();
    let path = path.to_str().unwrap().to_owned();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // Nobody listens any more if the test has failed meanwhile.
        drop(send.send(runtime.block_on(rows(path, filtered))));
    });
    receive.recv_timeout(PATIENCE).expect("the reader must not panic or hang")
}

/// Peak memory of this process.
#[cfg(target_os = "linux")]
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[cfg(not(target_os = "linux"))]
fn peak_mib() -> u64 {
    0
}

/// Panics of decoders are caught; what they would print is not looked at.
fn quiet() {
    std::panic::set_hook(Box::new(|panic| {
        if !conveyor_connectors::file::decoder_running() {
            eprintln!("{panic}");
        }
    }));
}

#[test]
fn the_seeds_are_good() {
    for (extension, bytes) in seeds() {
        assert_eq!(answer(extension, &bytes, false).unwrap_or_else(|e| panic!("{extension}: {e}")), 200);
    }
}

/// What fuzzing has found: each file once made a reader panic, hang or lose rows in silence.
#[test]
fn found_inputs_are_refused() {
    quiet();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("found");
    let mut looked_at = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let extension = path.extension().and_then(|e| e.to_str()).unwrap();
        let error = answer(extension, &std::fs::read(&path).unwrap(), true).unwrap_err();
        assert_eq!(error.code(), "file-corrupt", "{}: {error}", path.display());
        assert!(error.to_string().contains(&format!("a.{extension}")), "{error}");
        looked_at += 1;
    }
    assert!(looked_at > 0, "no inputs");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn hostile_bytes_get_an_answer(
        seed in 0..12_usize,
        changes in prop::collection::vec((0.0..1.0_f64, prop_oneof![
            any::<u8>().prop_map(|byte| vec![byte]),
            any::<u64>().prop_map(|number| number.to_le_bytes().to_vec()),
            prop::sample::select(vec![0, 1, 0x7f, 0xffff, 0x7fff_ffff, u64::MAX >> 1, u64::MAX])
                .prop_map(|number: u64| number.to_le_bytes().to_vec()),
        ]), 1..6),
        end in prop_oneof![8 => Just(1.0_f64), 1 => 0.0..1.0_f64],
    ) {
        quiet();
        let all = seeds();
        let (extension, mut bytes) = all[seed].clone();
        for (place, change) in changes {
            let at = (place * bytes.len() as f64) as usize;
            let length = change.len().min(bytes.len() - at);
            bytes[at..at + length].copy_from_slice(&change[..length]);
        }
        bytes.truncate((end * bytes.len() as f64) as usize);
        if let Err(error) = answer(extension, &bytes, false) {
            prop_assert!(error.to_string().contains(&format!("a.{extension}")), "not named: {}", error);
        }
        prop_assert!(peak_mib() < MOST_MIB, "{} MiB", peak_mib());
    }
}
