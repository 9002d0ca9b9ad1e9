//! How fast the text formats are, one thread, in memory: `cargo bench -p conveyor-connectors --bench text`.
//!
//! Each figure is the fastest of several rounds over 128 MiB of records with eight fields, half of which the predicate
//! leaves out where there is one.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use conveyor_connectors::format::{CsvOptions, DecodeOptions, TextFormat};
use conveyor_model::predicate::{Comparison, Condition, Literal, Predicate};

const BYTES: usize = 128 << 20;
const CHUNK: usize = 4 << 20;
const ROUNDS: usize = 5;

fn schema() -> SchemaRef {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("ts", utc, true),
        Field::new("user_id", DataType::Int64, true),
        Field::new("event", DataType::Utf8View, true),
        Field::new("amount", DataType::Float64, true),
        Field::new("country", DataType::Utf8View, true),
        Field::new("url", DataType::Utf8View, true),
        Field::new("note", DataType::Utf8View, true),
    ]))
}

/// Records from a fixed seed.
fn records() -> Vec<u8> {
    use std::io::Write;
    let mut out = Vec::with_capacity(BYTES + 512);
    let mut state = 42u64;
    let mut next = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    let events = ["click", "view", "purchase", "signup"];
    let countries = ["DE", "FR", "US", "JP", "BR"];
    let notes = ["", "ok", "a longer note with \\\"quotes\\\"", "plain note", "caf\u{e9}"];
    let mut id = 0;
    while out.len() < BYTES {
        writeln!(
            out,
            "{{\"id\":{id},\"ts\":\"2024-0{}-1{}T1{}:{}:{}Z\",\"user_id\":{},\"event\":\"{}\",\"amount\":{}.{:02},\"country\":\"{}\",\"url\":\"/p/{}/item\",\"note\":\"{}\"}}",
            1 + next(9), next(10), next(10), 10 + next(50), 10 + next(50), next(100_000),
            events[next(4) as usize], next(1000), next(100), countries[next(5) as usize], next(1_000_000),
            notes[next(5) as usize],
        )
        .expect("memory takes it");
        id += 1;
    }
    out
}

/// Decodes `input` in chunks as a source does.
fn decode(
    format: &TextFormat,
    input: &Bytes,
    projection: &[&str],
    predicate: &Predicate,
) -> (Vec<RecordBatch>, usize) {
    let options = DecodeOptions {
        full_schema: schema(),
        projection: projection.iter().map(|p| p.to_string()).collect(),
        predicate: predicate.clone(),
        batch_rows: 8192,
        max_record_bytes: 1 << 20,
    };
    let mut decoder = format.decoder(options).expect("the options are right");
    let (mut at, mut batches, mut rows) = (0, Vec::new(), 0);
    while at < input.len() {
        let end = (at + CHUNK).min(input.len());
        let chunk = input.slice(at..end);
        let mut done = 0;
        loop {
            let piece = chunk.slice(done..);
            let step = decoder
                .decode(&piece, (at + done) as u64, end == input.len())
                .expect("the records are right");
            assert!(step.rejected.is_empty(), "{:?}", step.rejected.first());
            done += step.consumed;
            rows += step.rows.num_rows();
            batches.push(step.rows);
            if step.consumed == 0 || done == chunk.len() {
                break;
            }
        }
        at += done;
    }
    (batches, rows)
}

// The machine's own clock is what a benchmark is about.
#[allow(clippy::disallowed_methods)]
fn measure(what: &str, bytes: usize, mut run: impl FnMut() -> usize) {
    let mut best = f64::INFINITY;
    let mut rows = 0;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        rows = run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!(
        "{what:<44} {:>7.0} MB/s {:>6.1} ns a row of {rows}",
        bytes as f64 / best / 1e6,
        best * 1e9 / rows as f64
    );
}

fn main() {
    let input = Bytes::from(records());
    let all: Vec<&'static str> = vec!["id", "ts", "user_id", "event", "amount", "country", "url", "note"];
    let half =
        Condition::Compare { column: "amount".into(), op: Comparison::GtEq, value: Literal::Float(500.0) };
    let (half, none) = (Predicate { all: vec![half] }, Predicate::default());
    let json = TextFormat::Ndjson;
    measure("ndjson decode, all columns", input.len(), || decode(&json, &input, &all, &none).1);
    measure("ndjson decode, all columns, half the rows", input.len(), || {
        decode(&json, &input, &all, &half).1
    });
    measure("ndjson decode, 2 columns", input.len(), || decode(&json, &input, &["id", "amount"], &none).1);
    let batches = decode(&json, &input, &all, &none).0;
    let mut csv_bytes = Bytes::new();
    for (name, format) in [("ndjson", json), ("csv", TextFormat::Csv(CsvOptions::default()))] {
        let mut out = Vec::with_capacity(2 * CHUNK);
        let mut file = Vec::with_capacity(2 * BYTES);
        measure(&format!("{name} encode, per MB written"), input.len(), || {
            let mut encoder = format.encoder(&schema()).expect("the schema is right");
            file.clear();
            for batch in &batches {
                out.clear();
                encoder.encode(batch, &mut out).expect("the rows are right");
                file.extend_from_slice(&out);
            }
            batches.iter().map(RecordBatch::num_rows).sum()
        });
        csv_bytes = Bytes::from(std::mem::take(&mut file));
    }
    let csv = TextFormat::Csv(CsvOptions::default());
    measure("csv decode, all columns", csv_bytes.len(), || decode(&csv, &csv_bytes, &all, &none).1);
    measure("csv decode, all columns, half the rows", csv_bytes.len(), || {
        decode(&csv, &csv_bytes, &all, &half).1
    });
}
