//! Made-up events with a fixed seed, and the pipelines that the kill harness runs over them.
//!
//! Duplicates agree in every column that reaches a sink, and all event times lie within the window of the dedupe step, so
//! the right output does not depend on which of two duplicates is read first. Every other kind of row (bad JSON, wrong
//! types, late, broken rules, lookup misses, failing casts) meets its fate before the dedupe step, by itself alone.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Whether the pipeline runs on or ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A folder is watched; sinks are folders.
    Streaming,
    /// Reads what is there and ends; one sink is a single file.
    Job,
}

/// How a pipeline is run, which must not change what comes out.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Subtasks of each node that can have several.
    pub parallelism: u32,
    /// Time between epochs.
    pub interval: &'static str,
}

impl Default for Shape {
    fn default() -> Self {
        Self { parallelism: 2, interval: "50ms" }
    }
}

/// Number of input files.
const FILES: usize = 5;

/// Writes the input files and the lookup table into `folder`.
///
/// # Errors
/// When a file cannot be written.
pub fn write_input(folder: &Path, rows: usize, seed: u64) -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    std::fs::create_dir_all(folder.join("in")).context("cannot create the input folder")?;
    let mut table = String::from("user_id,name,country\n");
    for user in 0..1000 {
        writeln!(table, "{user},user-{user},{}", ["DE", "FR", "PT", "US"][user % 4])?;
    }
    std::fs::write(folder.join("users.csv"), table).context("cannot write the lookup table")?;
    for file in 0..FILES {
        let mut text = String::new();
        for n in 0..rows / FILES {
            let id = file * (rows / FILES) + n;
            push_record(&mut text, id, n, &mut random)?;
        }
        std::fs::write(folder.join("in").join(format!("part-{file}.ndjson")), text)
            .context("cannot write an input file")?;
    }
    Ok(())
}

/// One line, and now and then a second one with the same id.
fn push_record(text: &mut String, id: usize, n: usize, random: &mut ChaCha8Rng) -> Result<()> {
    // Ten milliseconds apart, so that all rows of a run lie within the hour that dedupe remembers.
    let late = if random.random_ratio(1, 200) { 30_000 } else { 0 };
    let at = (60_000 + n as i64 * 10 - late).max(0);
    let ts = format!(
        "2025-05-01T{:02}:{:02}:{:02}.{:03}Z",
        at / 3_600_000,
        at / 60_000 % 60,
        at / 1000 % 60,
        at % 1000
    );
    // A user at or above 1000 is not in the table.
    let user = random.random_range(0..1010);
    let amount = f64::from(random.random_range(-1000..100_000)) / 100.0;
    let code = if random.random_ratio(1, 150) {
        "none".to_string()
    } else {
        random.random_range(0..500).to_string()
    };
    let line = format!(
        r#"{{"id":"e-{id}","ts":"{ts}","user_id":{user},"amount":{amount},"code":"{code}","note":"n {id}"}}"#
    );
    match random.random_range(0..400) {
        0 => writeln!(text, "{}", &line[..line.len() / 2])?,
        1 => writeln!(
            text,
            "{}",
            line.replacen(r#""amount":"#, r#""amount":"much "#, 1).replacen(r#","code""#, r#"","code""#, 1)
        )?,
        2..20 => writeln!(text, "{line}\n{line}")?,
        _ => writeln!(text, "{line}")?,
    }
    Ok(())
}

/// The manifest of a pipeline that reads `input` and writes into `output`, a folder or a URL.
pub fn manifest(mode: Mode, shape: Shape, input: &Path, output: &str) -> String {
    let Shape { parallelism, interval } = shape;
    let input = input.display();
    let (word, big) = match mode {
        Mode::Streaming => ("streaming", format!("{output}/big")),
        Mode::Job => ("job", format!("{output}/big/all.ndjson")),
    };
    format!(
        r"apiVersion: etl.router/v1
kind: Pipeline
metadata: {{name: killed}}
spec:
  mode: {word}
  checkpoint: {{interval: {interval}}}
  parallelism: {parallelism}
  sources:
    - name: events
      file: {{path: '{input}/in/*.ndjson', rangeBytes: 256KiB, pollInterval: 50ms}}
      schema: {{id: string, ts: timestamp, user_id: int64, amount: float64, code: string, note: string}}
      eventTime: {{column: ts, allowedLateness: 10s, idleTimeout: 1s, late: dlq}}
  steps:
    - validate: {{rules: {{not-negative: amount >= 0}}}}
    - lookup: {{table: users, on: [user_id], select: [name, country], onMiss: dlq}}
    - compute: {{code_number: CAST(code AS BIGINT), tax: amount * 0.19}}
    - dedupe: {{key: [id], within: 2h}}
  sinks:
    - name: big
      when: amount >= 500
      file: {{path: '{big}', format: ndjson}}
    - name: small
      when: amount < 500
      file: {{path: '{output}/small', format: parquet}}
  dlq: {{path: '{output}/dlq', maxRatio: 1.0}}
---
apiVersion: etl.router/v1
kind: Lookup
metadata: {{name: users}}
spec: {{file: {{path: '{input}/users.csv'}}}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_writes_the_same_bytes() {
        let read = |seed| {
            let folder = tempfile::tempdir().unwrap();
            write_input(folder.path(), 2000, seed).unwrap();
            std::fs::read_to_string(folder.path().join("in").join("part-3.ndjson")).unwrap()
        };
        assert_eq!(read(5), read(5));
        assert_ne!(read(5), read(6));
        assert!(read(5).contains("\"amount\":\"much "));
    }
}
