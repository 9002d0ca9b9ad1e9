//! Bad input of every kind: a clear error or a dead letter, never a panic, a hang or memory without bound.

mod bombs;
mod case;
mod changes;
mod disk;

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::case::{Case, MARGIN_MIB, kept, refused};

/// Bytes of a good file of this format, written by the file sink.
fn good_file(format: &str) -> Vec<u8> {
    let case = Case::new();
    let sink = format!("file: {{path: '{}', format: {format}}}", case.path("out").display());
    let manifest = format!(
        "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: good}}\nspec:\n  mode: job\n  parallelism: 1\n  \
         source: {{name: in, generator: {{rows: 20000, seed: 1}}}}\n  sink: {{name: out, {sink}}}\n"
    );
    let outcome = case.run(&case.write("pipeline.yaml", manifest.as_bytes()));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let mut parts: Vec<_> = std::fs::read_dir(case.path("out"))
        .expect("the output folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .collect();
    parts.sort();
    std::fs::read(parts.first().expect("a part")).expect("the part can be read")
}

#[test]
fn truncated_and_corrupt_columnar_files_stop_with_their_name() {
    for (format, name) in [("parquet", "bad.parquet"), ("ipc", "bad.arrow"), ("avro", "bad.avro")] {
        let good = good_file(format);
        let mut flipped = good.clone();
        flipped[good.len() / 2..good.len() / 2 + 64].iter_mut().for_each(|b| *b ^= 0xff);
        for (what, bytes) in
            [("cut", &good[..good.len() * 2 / 3]), ("flipped", &flipped[..]), ("empty", &[][..])]
        {
            let case = Case::new();
            case.write(name, bytes);
            let outcome = case.read(name, "{}");
            assert_ne!(outcome.code, Some(0), "{format} {what}: {outcome:?}");
            assert!(outcome.code.is_some(), "{format} {what}: {outcome:?}");
            assert!(outcome.stderr.contains(name), "{format} {what} is not named: {}", outcome.stderr);
            assert!(!outcome.stderr.contains("panicked"), "{format} {what}: {}", outcome.stderr);
        }
    }
}

#[test]
fn a_truncated_gzip_stops_with_its_name() {
    let case = Case::new();
    let text: String = (0..50_000).map(|n| format!("{{\"a\":{n}}}\n")).collect();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(text.as_bytes()).expect("memory takes it");
    let bytes = gzip.finish().expect("memory takes it");
    case.write("x.ndjson.gz", &bytes[..bytes.len() / 2]);
    refused(&case.read("x.ndjson.gz", "{a: int64}"), 2, "file-corrupt");
}

#[test]
fn a_decompression_bomb_stops_in_bounded_memory() {
    let case = Case::new();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    let zeros = vec![0; 1 << 20];
    (0..400).for_each(|_| gzip.write_all(&zeros).expect("memory takes it"));
    case.write("bomb.ndjson.gz", &gzip.finish().expect("memory takes it"));
    let source = format!("file: {{path: '{}', maxRatio: 20}}", case.path("bomb.ndjson.gz").display());
    let outcome = case.copy(&source, "{a: int64}", &case.folder_sink());
    refused(&outcome, 2, "decompression-limit");
}

#[test]
fn bad_records_become_dead_letters() {
    let case = Case::new();
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let mut text = Vec::new();
    for n in 0..100 {
        writeln!(text, "{{\"a\":{n},\"b\":\"x\"}}").expect("memory takes it");
    }
    text.extend(b"{\"a\":1,\"b\":\"\xff\xfe\"}\n");
    text.extend(b"{\"a\":1,\n");
    text.extend(b"{\"a\":\"one\",\"b\":\"x\"}\n");
    text.extend(format!("{{\"c\":{deep},\"a\":1,\"b\":\"x\"}}\n").into_bytes());
    case.write("x.ndjson", &text);
    let outcome = case.read("x.ndjson", "{a: int64, b: string}");
    for code in ["invalid-utf8", "json-syntax", "json-type", "json-depth"] {
        kept(&outcome, code, 1);
    }
}

#[test]
fn wrong_column_counts_become_dead_letters() {
    let case = Case::new();
    let mut text = String::from("a,b\n");
    (0..100).for_each(|n| text.push_str(&format!("{n},x\n")));
    text.push_str("1\n1,2,3\nnone,x\n");
    case.write("x.csv", text.as_bytes());
    let outcome = case.read("x.csv", "{a: int64, b: string}");
    kept(&outcome, "csv-columns", 2);
    kept(&outcome, "cast-failed", 1);
}

#[test]
fn a_line_of_100_megabytes_is_kept_in_part_and_in_bounded_memory() {
    let base = Case::new();
    base.write("x.ndjson", b"{\"a\":1}\n{\"a\":2}\n");
    let base = base.read("x.ndjson", "{a: int64}");
    assert_eq!(base.code, Some(0), "{base:?}");
    let case = Case::new();
    let mut text = b"{\"a\":1}\n{\"a\":\"".to_vec();
    text.resize(100_000_000, b'x');
    text.extend(b"\"}\n{\"a\":2}\n");
    case.write("x.ndjson", &text);
    let outcome = case.read("x.ndjson", "{a: int64}");
    kept(&outcome, "record-too-long", 1);
    assert!(
        outcome.peak_mib < base.peak_mib + MARGIN_MIB,
        "{} MiB, a good file {}",
        outcome.peak_mib,
        base.peak_mib
    );
}

#[test]
fn hostile_manifests_are_answered_with_a_place() {
    let bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n";
    let deep = format!("a: {}1{}", "[".repeat(2000), "]".repeat(2000));
    let twice =
        "apiVersion: etl.router/v1\nkind: Pipeline\nkind: Pipeline\nmetadata: {name: x}\nspec: {mode: job}\n";
    let unknown =
        "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {name: x}\nspec: {mode: job, stepz: []}\n";
    let large = "# ".repeat(600_000);
    let cases = [
        (bomb, "alias"),
        (&deep, "deep"),
        (twice, "duplicate-key"),
        (unknown, "`steps`"),
        (&large, "too-large"),
    ];
    for (text, word) in cases {
        let case = Case::new();
        let outcome = case.run(&case.write("m.yaml", text.as_bytes()));
        refused(&outcome, 2, word);
        assert!(outcome.stderr.contains("m.yaml:"), "no place in: {}", outcome.stderr);
    }
}
